package agent

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A replica falls behind, a node rotates its key, and the other replicas are lost: what is
// left goes on from before the rotation. The node's agent, which saw all of that, takes its
// former key into use again and rotates it anew.
func TestAgentsFollowARecovery(t *testing.T) {
	var server atomic.Pointer[http.Handler] // of the replica that is left, later
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := server.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(front.Close)
	short := shortKeys(t)
	f := newFleet(t, 3, 1, func(g *ledger.Genesis) { // due at once, and with minutes left
		short(g)
		g.Policy.EpochMillis, g.Policy.TickMillis = 1_000, 250
		g.Policy.KeyEpochs, g.Policy.Keys.RotateEpochs, g.Policy.Keys.LateEpochs = 400, 399, 398
	}, func(_ int, c *Config) { c.API.Servers = []string{front.URL} })
	serve := func(n *replicatest.Node) {
		t.Helper()
		s, err := api.New(api.FromReplica(n.Replica), api.Config{})
		if err != nil {
			t.Fatal(err)
		}
		h := s.Handler()
		server.Store(&h)
	}
	left := f.cluster.Follower()
	left.Await("it knows that the node is admitted", func(s replica.Status) bool { return s.Certified >= f.cluster.Leader().Replica.Status().Certified })
	if err := left.Kill(); err != nil {
		t.Fatal(err)
	}
	serve(f.cluster.Leader())
	m := f.agents[0]
	f.start(m)
	f.await("it follows", f.agents, func(m *member) bool { return m.View().Standing(m.name) != "" })
	one := ledger.Hash(m.key.ID())
	var two ledger.Hash
	f.await("it speaks with another key", f.agents, func(m *member) bool {
		me, ok := m.View().State.Node(m.name)
		two = me.Key
		return ok && me.Key != one && m.identity.Load().active == me.Key
	})

	m.stop()
	for _, n := range f.cluster.Nodes {
		if n != left {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	plan := left.Survey()
	if _, err := left.Recover(f.cluster.Recovery(plan, []string{left.Record.Name}, nil, nil), nil); err != nil {
		t.Fatal(err)
	}
	f.cluster.Generation = 1
	left.Start()
	left.Await("the new generation is certified", func(s replica.Status) bool { return s.Generation == 1 && s.Certified > plan.Head.Size })
	serve(left)
	f.start(m) // and the key that it had last is all that it opens
	f.await("it follows the new generation", f.agents, func(m *member) bool { return m.View().State != nil && m.View().State.Meta().Generation == 1 })
	f.await("its former key, in use again, has another follow", f.agents, func(m *member) bool {
		me, _ := m.View().State.Node(m.name)
		return me.Key != one && m.identity.Load().active == me.Key && m.Status().Trouble[troubleKey] == ""
	})
	state := m.View().State
	if key, _ := state.Key(one); key.Ended != fsm.KeyRotated {
		t.Errorf("the former key: %+v", key)
	}
	if key, known := state.Key(two); known {
		t.Errorf("the key that was left: %+v", key)
	}
	m.stop()
	look, err := LookAtRing(m.config)
	if err != nil || look.Key(two) == nil || !look.Key(two).Ended || look.Key(look.Active).Ended {
		t.Errorf("the ring: %+v, %v", look, err)
	}
}
