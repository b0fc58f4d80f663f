package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
)

// writeProblem answers a request outside huma.
func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	h := w.Header()
	h.Del("ETag")
	h.Set("Content-Type", p.ContentType(""))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	// An error here is the client's connection; nobody is left to tell.
	_ = json.NewEncoder(w).Encode(p)
}

// fail is problemOf, and logs what is our own error.
func (s *Server) fail(r *http.Request, err error) *Problem {
	p := problemOf(err, s.limits.RetryAfter)
	if p.Status == http.StatusInternalServerError {
		s.log.Error("answer failed", slog.String("path", r.URL.Path), slog.String("code", p.Code), slog.Any("error", err))
	}
	return p
}
