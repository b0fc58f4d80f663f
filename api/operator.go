package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"

	"github.com/go-chi/chi/v5"

	"github.com/quorate/quorate/api/client"
)

// OperatorHandler is the operator's API. It has no authorisation of its own,
// so it belongs on a unix socket whose file only the operator can open.
func (s *Server) OperatorHandler() http.Handler {
	router := chi.NewRouter()
	router.Use(s.recoverPanic)
	router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound("no such operation"))
	})
	router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "", "another method is wanted"))
	})
	if operations := s.config.Operations; operations != nil {
		router.Post("/v1/operator/snapshot", s.operation(func(ctx context.Context, _ *http.Request) (any, error) {
			return client.Done{Done: true}, operations.Snapshot(ctx)
		}))
		router.Post("/v1/operator/transfer", s.operation(func(ctx context.Context, r *http.Request) (any, error) {
			var request client.TransferRequest
			if err := json.NewDecoder(io.LimitReader(r.Body, maxOperatorBytes)).Decode(&request); err != nil {
				return nil, newProblem(http.StatusBadRequest, codeBadRequest, "", `the body is not {"to": "replica"}`)
			}
			return client.Done{Done: true}, operations.TransferLeadership(ctx, request.To)
		}))
		router.Get("/v1/operator/peers", s.operation(func(context.Context, *http.Request) (any, error) {
			return client.Peers{Peers: orEmpty(operations.Peers())}, nil
		}))
		router.Get("/v1/operator/forks", s.operation(func(context.Context, *http.Request) (any, error) {
			files, err := operations.ForkProofs()
			return client.ForkProofs{Files: orEmpty(files)}, err
		}))
		router.Post("/v1/operator/log-key", s.operation(func(context.Context, *http.Request) (any, error) {
			keys, err := operations.NewLogKey()
			return client.LogKeys{Ed25519: keys.Ed25519, MLDSA44: keys.MLDSA44}, err
		}))
	}
	// What profilers read; FORMAT is pprof's own.
	router.Get("/debug/pprof/profile", pprof.Profile)
	router.Get("/debug/pprof/{name}", func(w http.ResponseWriter, r *http.Request) {
		pprof.Handler(chi.URLParam(r, "name")).ServeHTTP(w, r)
	})
	if s.config.DebugBundle != nil {
		router.Get("/v1/operator/debug-bundle", func(w http.ResponseWriter, r *http.Request) {
			out := &slowWriter{w: w, control: http.NewResponseController(w), timeout: s.limits.WriteTimeout}
			if err := s.config.DebugBundle(r.Context(), out); err != nil {
				p := s.fail(r.URL.Path, err)
				if out.begun {
					panic(http.ErrAbortHandler)
				}
				writeProblem(w, p)
			}
		})
	}
	return router
}

func (s *Server) operation(do func(ctx context.Context, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := do(r.Context(), r)
		if err != nil {
			p := s.fail(r.URL.Path, err)
			if p.Code == codeInternal {
				p.Detail = err.Error() // on the operator's own socket there is nothing to hide
			}
			writeProblem(w, p)
			return
		}
		body, err := encodeJSON(answer)
		if err != nil {
			writeProblem(w, s.fail(r.URL.Path, err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}
