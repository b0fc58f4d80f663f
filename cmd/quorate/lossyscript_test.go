package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// lossy NAME URL HOW: a server between the program and URL, whose own URL is put into a
// variable. It passes everything on but submissions. Those it
//   - unsent: drops, and closes the connection;
//   - lost: passes on, and closes the connection instead of answering;
//   - refused: drops, and says that a rule refused them;
//   - recorded: passes on, and says so too;
//   - lie: drops, and says that they are entry 5.
func lossy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: lossy NAME URL unsent|lost|refused|recorded|lie")
	}
	to, err := url.Parse(args[1])
	ts.Check(err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	how := args[2]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			proxy.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if how == "lost" || how == "recorded" {
			r.Body = io.NopCloser(bytes.NewReader(body))
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		switch how {
		case "refused", "recorded":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":"nothing_changes","detail":"so says a server","status":409,"title":"Conflict"}`)
		case "lie":
			var list []map[string]any
			envelopes, _ := keys.SplitSequence(body, ledger.MaxBundle)
			for _, e := range envelopes {
				if s, err := ledger.ParseStatement(e); err == nil {
					list = append(list, map[string]any{"id": s.ID.String(), "seq": 5, "verdict": "ok"})
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"level": "committed", "first": 5, "last": 5, "stamp": 1, "statements": list})
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}
