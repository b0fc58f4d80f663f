package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// healthRoutes serve who supervises the process. They pass every bound.
func (s *Server) healthRoutes(h huma.API, router chi.Router) {
	text := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(body))
	}
	router.Get("/livez", func(w http.ResponseWriter, r *http.Request) { text(w, "ok\n") })
	router.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		status := s.backend.Status()
		if !status.Ready {
			writeProblem(w, newProblem(http.StatusServiceUnavailable, codeNotReady, "", "this replica is not ready: its role is "+status.Role+"; /v1/status says more").after(s.limits.RetryAfter))
			return
		}
		text(w, "ok\n")
	})
	if s.config.Gatherer != nil {
		router.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(s.config.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	}
	for _, probe := range []struct{ path, id, summary string }{
		{"/livez", "get-livez", "The process runs"},
		{"/readyz", "get-readyz", "The replica answers reads and writes"},
		{"/metrics", "get-metrics", "Metrics for Prometheus"},
	} {
		describe(h, &huma.Operation{
			OperationID: probe.id, Method: http.MethodGet, Path: probe.path, Summary: probe.summary, Tags: []string{"health"},
			Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
				"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}},
			}}},
		})
	}
}
