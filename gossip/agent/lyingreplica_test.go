package agent

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// A replica that is honest but for one forged entry at the beginning of each watch keeps
// no agent that knows another from following the ledger.
func TestAReplicaThatForgesOneEntry(t *testing.T) {
	var forged atomic.Uint64
	f := newFleet(t, 3, 1, nil, func(_ int, c *Config) {
		liar := lyingReplica(t, c, &forged)
		c.API.Servers = []string{liar, c.API.Servers[1]}
	})
	m := f.agents[0]
	f.start(m)
	f.await("it was lied to", f.agents, func(*member) bool { return forged.Load() > 0 })
	for i, name := range []string{"node.quarantine", "node.release"} {
		f.decide(name, map[string]any{"name": "n1", "reason": "drill"})
		want := []string{fsm.NodeQuarantined, fsm.NodeActive}[i]
		f.await("the decision is known", f.agents, func(m *member) bool { return m.View().Standing("n1") == want })
	}
	t.Logf("%d forged entries", forged.Load())
}

// lyingReplica passes on what a replica says, except that a watch is one entry of its own.
func lyingReplica(t *testing.T, c *Config, forged *atomic.Uint64) string {
	t.Helper()
	genesis, err := ledger.ParseHash(c.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := client.New(client.Options{Servers: c.API.Servers[:1], Genesis: genesis})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(truth.Close)
	upstream, err := url.Parse(c.API.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/watch" {
			proxy.ServeHTTP(w, r)
			return
		}
		from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
		if err != nil || from == 0 {
			return
		}
		list, err := truth.Entries(r.Context(), from-1, 1)
		if err != nil || len(list) == 0 {
			return
		}
		e, err := ledger.ParseEntry(list[0].Entry)
		if err != nil {
			return
		}
		e.Seq, e.Prev = from, ledger.LeafHash(list[0].Entry)
		raw, err := e.Encode()
		if err != nil {
			return
		}
		forged.Add(1)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %d\nevent: entry\ndata: {\"entry\":%q}\n\n", from+1, base64.RawURLEncoding.EncodeToString(raw))
	}))
	t.Cleanup(server.Close)
	return server.URL
}
