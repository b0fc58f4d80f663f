// Package api serves a replica over HTTP: statements in, certified state and
// the C2SP log out. Writes carry their own authority; there are no passwords
// and no tokens. DESIGN.md has the routes and the reasons.
package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says how to serve. The zero value serves over TLS with the default
// limits, once TLS holds a certificate.
type Config struct {
	TLS              *tls.Config // certificates; versions and key exchange are ours
	InsecureLoopback bool        // plain HTTP, refused on any address but loopback
	Limits           Limits      // zero fields: the defaults of limits.go
	Version          string      // of the program, for status

	Logger     *slog.Logger          // nil: discarded
	Registerer prometheus.Registerer // nil: no metrics of the API
	Gatherer   prometheus.Gatherer   // what /metrics serves; nil: nothing

	// Export writes the ledger as a .tar.zst archive, up to the certified size.
	Export func(ctx context.Context, w io.Writer) error
	// DebugBundle writes an archive for a bug report; only on the local socket.
	DebugBundle func(ctx context.Context, w io.Writer) error
	// Operations are served by OperatorHandler; nil: it has none.
	Operations Operations
}

// Server serves one replica.
type Server struct {
	backend Backend
	config  Config
	limits  Limits
	log     *slog.Logger
	metrics *metrics
	rates   *rates
	gates   gates
	frames  frames
	public  http.Handler
	router  chi.Routes // behind public
	openapi []byte
}

// New makes a server. It starts nothing.
func New(b Backend, config Config) (*Server, error) {
	s := &Server{
		backend: b, config: config, limits: config.Limits.withDefaults(), log: config.Logger,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.metrics, err = newMetrics(config.Registerer, s.backend); err != nil {
		return nil, fmt.Errorf("register metrics of the API: %w", err)
	}
	s.rates, s.gates = newRates(s.limits), newGates(s.limits)
	if err := s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler is the public API.
func (s *Server) Handler() http.Handler { return s.public }

func (s *Server) routes() error {
	router := chi.NewRouter()
	router.Use(s.metrics.measure, s.recoverPanic, secureHeaders, s.admit, middleware.GetHead)
	router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound("no such route; /openapi.json lists them"))
	})
	router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "", "this route does not take "+knownMethod(r.Method)+"; /openapi.json lists what it takes"))
	})
	config := huma.DefaultConfig("quorate", "1")
	config.Info.Description = "The shared ledger of what the operators of a fleet decided. Writes are signed statements and need no other authorisation; reads are of certified state."
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.CreateHooks = nil // no $schema in answers
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	h := humachi.New(router, config)
	s.councilRoutes(h)
	s.keyRoutes(h)
	s.nodeRoutes(h)
	s.fleetRoutes(h)
	s.proposalRoutes(h)
	s.clusterRoutes(h)
	s.entryRoutes(h)
	s.proofRoutes(h)
	s.stateRoute(h, router)
	s.statementRoutes(h)
	s.watchRoutes(h, router)
	s.logRoutes(h, router)
	s.healthRoutes(h, router)
	document, err := openAPI(h)
	if err != nil {
		return err
	}
	s.openapi = document
	router.Get("/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Header().Set("Cache-Control", "public, max-age=60")
		_, _ = w.Write(s.openapi)
	})
	s.public, s.router = s.submissions(router), router
	return nil
}

// recoverPanic answers 500 where a handler panics: a bug of ours must not take
// the replica with it.
func (s *Server) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("handler panicked", slog.String("path", r.URL.Path), slog.Any("panic", p))
			writeProblem(w, newProblem(http.StatusInternalServerError, codeInternal, "", "an internal error; the replica's log has it"))
		}()
		next.ServeHTTP(w, r)
	})
}

func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
