package agent

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// A replica that answers key_taken to each announcement, which it keeps for itself at
// first and then passes on, costs the node no key: the one that was announced is the one
// that the ledger puts in force, and it is at hand.
func TestARefusalCostsNoRotatedKey(t *testing.T) {
	var refusals atomic.Uint64
	short := shortKeys(t)
	roomy := func(g *ledger.Genesis) { // due at once, and with minutes left
		short(g)
		g.Policy.KeyEpochs, g.Policy.Keys.RotateEpochs, g.Policy.Keys.LateEpochs = 60, 59, 58
	}
	f := newFleet(t, 3, 1, roomy, func(_ int, c *Config) {
		c.API.Servers = []string{refusingReplica(t, c.API.Servers[0], &refusals)}
	})
	m := f.agents[0]
	f.start(m)
	f.await("it follows", f.agents, func(m *member) bool { return m.View().Standing(m.name) != "" })
	first := ledger.Hash(m.key.ID())
	f.await("it speaks with the key that it announced", f.agents, func(m *member) bool {
		me, ok := m.View().State.Node(m.name)
		identity := m.identity.Load()
		return ok && me.Key != first && identity.active == me.Key && identity.key(me.Key) != nil
	})
	if got := refusals.Load(); got < 2 {
		t.Errorf("it was refused %d times, want one that nobody passed on and one that was", got)
	}
	m.stop()
	look, err := LookAtRing(m.config)
	if err != nil || len(look.Keys) != 2 || look.Keys[0].ID != first || look.Keys[1].Ended || look.Keys[1].Gone {
		t.Errorf("the ring: %+v, %v", look, err)
	}
}

// refusingReplica passes on what a replica says, except that it calls every key that is
// to follow another taken; the first announcement goes no further.
func refusingReplica(t *testing.T, honest string, refusals *atomic.Uint64) string {
	t.Helper()
	upstream, err := url.Parse(honest)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/statements" || r.Method != http.MethodPost {
			proxy.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if st, err := ledger.ParseStatement(body); err != nil || st.Payload.Type != ledger.TypeRotate {
			proxy.ServeHTTP(w, r)
			return
		}
		if refusals.Add(1) > 1 {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"title":"Conflict","status":409,"code":"key_taken","detail":"the key has or had a role"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
