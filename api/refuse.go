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

// fail is problemOf, and logs what is our own trouble and not the asker's.
func (s *Server) fail(route string, err error) *Problem {
	p := problemOf(err, s.limits.RetryAfter)
	switch p.Status {
	case http.StatusInternalServerError, http.StatusInsufficientStorage:
		s.log.Error("answer failed", slog.String("route", route), slog.String("code", p.Code), slog.Any("error", err))
	}
	return p
}
