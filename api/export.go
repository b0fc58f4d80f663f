package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// genesisRoute gives what a newcomer compares with the hash that it was told
// by another way.
func (s *Server) genesisRoute(h huma.API) {
	type output struct {
		CacheControl string `header:"Cache-Control"`
		Body         client.Genesis
	}
	huma.Register(h, huma.Operation{
		OperationID: "get-genesis", Method: http.MethodGet, Path: "/v1/genesis", Tags: []string{"read"},
		Summary: "Entry 0 and its hash, which names the ledger", Errors: []int{429, 503},
	}, func(context.Context, *struct{}) (*output, error) {
		raw, err := s.backend.Archive().Entry(0)
		if err != nil {
			return nil, s.fail("/v1/genesis", err)
		}
		e, err := ledger.ParseEntry(raw)
		if err != nil {
			return nil, s.fail("/v1/genesis", err)
		}
		hash := ledger.LeafHash(raw)
		return &output{CacheControl: cacheForEver, Body: client.Genesis{
			Ledger: hash.String(), Words: words(hash), Entry: raw, View: json.RawMessage(e.Content),
		}}, nil
	})
}

func (s *Server) exportRoute(h huma.API, router chi.Router) {
	router.Get("/v1/export", s.export)
	describe(h, &huma.Operation{
		OperationID: "export", Method: http.MethodGet, Path: "/v1/export", Tags: []string{"read"},
		Summary: "The whole certified ledger as a .tar.zst, which quorate verify checks offline (FORMAT.md section 12)",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			"application/zstd": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
	})
}

// export streams. Once the first byte is out, an error can only cut the
// stream, which leaves an archive that does not unpack.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	if s.config.Export == nil {
		writeProblem(w, notFound("this server makes no exports; quorate export fetches one file by file"))
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/zstd")
		return
	}
	out := &slowWriter{w: w, control: http.NewResponseController(w), timeout: s.limits.WriteTimeout}
	if err := s.config.Export(r.Context(), out); err != nil {
		p := s.fail(r.URL.Path, err)
		if !out.begun {
			writeProblem(w, p)
			return
		}
		panic(http.ErrAbortHandler)
	}
}

// slowWriter gives each piece of a long answer a time of its own, and the whole
// as much as its bytes deserve: who reads a byte a second would hold a place for
// ever.
type slowWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	begun   bool
	end     time.Time // moves on with what was written
}

var _ io.Writer = (*slowWriter)(nil)

// grace begins the time that the whole has.
func (s *slowWriter) grace() { s.end = time.Now().Add(exportGrace) }

func (s *slowWriter) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.grace()
		header := s.w.Header()
		header.Set("Content-Type", "application/zstd")
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Disposition", `attachment; filename="ledger.tar.zst"`)
	}
	// Not every writer has deadlines; the tests' recorder has none.
	deadline := time.Now().Add(s.timeout)
	if deadline.After(s.end) {
		deadline = s.end
	}
	_ = s.control.SetWriteDeadline(deadline)
	n, err := s.w.Write(b)
	s.end = s.end.Add(time.Duration(n) * (time.Second / exportPerSecond))
	return n, err
}
