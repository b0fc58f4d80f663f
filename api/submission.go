package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quorate/quorate/api/client"
)

const routeStatements = "/v1/statements"

// submissions serves the plain submissions itself, and leaves all else to next:
// under load nearly every request is one, and routing, binding and negotiating
// took a tenth of a leader's time. It does what next would do, in the same
// order: each check, each bound, the same bytes. What is in any way unusual is
// none of its business, so that there is one place that says what is allowed.
func (s *Server) submissions(next http.Handler) http.Handler {
	plain := s.metrics.measureAs(routeStatements, s.recoverPanic(secureHeaders(s.admit(http.HandlerFunc(s.servePlain)))))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.isPlain(r) {
			plain.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isPlain says whether a request is a POST of statements with nothing to
// negotiate, whose length is said and small: its room is made before it arrives.
func (s *Server) isPlain(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.Path != routeStatements || r.URL.RawPath != "" || r.URL.RawQuery != "" ||
		r.ContentLength <= 0 || r.ContentLength > min(plainBytes, s.limits.BodyBytes) {
		return false
	}
	media := r.Header["Content-Type"]
	accept := r.Header["Accept"]
	return len(media) == 1 && media[0] == mediaCOSE &&
		(len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "application/json"))
}

func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.ReadTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		writeProblem(w, s.fail(routeStatements, fmt.Errorf("set deadline of %s: %w", routeStatements, err)))
		return
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		writeProblem(w, bodyProblem(err))
		return
	}
	answer, _, err := s.submitBody(r.Context(), body, client.WaitCommitted, nil)
	if err != nil {
		writeProblem(w, s.fail(routeStatements, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	// An error here is the client's connection; nobody is left to tell.
	_ = encoder.Encode(answer)
}

// bodyProblem is huma's answer to a body that could not be read.
func bodyProblem(err error) *Problem {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return newProblem(http.StatusRequestTimeout, codeTimeout, "", "request body read timeout")
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "", "an internal error; the replica's log has it")
}
