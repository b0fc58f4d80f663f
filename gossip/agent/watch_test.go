package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// What is due in one tick is asked by one statement, signed once.
func TestOneChallengeATick(t *testing.T) {
	f := newFleet(t, 3, 1, nil, nil)
	m := f.agents[0]
	f.start(m)
	f.await("it has a view", f.agents, func(m *member) bool { return m.View().State != nil })
	probes := []gossip.Probe{{Subject: "n7", Tick: 5}, {Subject: "n3", Tick: 5}, {Subject: "n5", Tick: 5}}
	several := m.watch.challenge(probes)
	st, err := several()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := several(); err != nil || again != st {
		t.Errorf("it was signed again: %v", err)
	}
	body, err := ledger.DecodeBody[ledger.Probe](st)
	if err != nil || body.Check(m.name) != nil || !slices.Equal(body.Subjects, []string{"n3", "n5", "n7"}) || body.Tick != 5 {
		t.Errorf("%+v, %v", body, err)
	}
	alone, err := m.watch.challenge(probes[:1])()
	if err != nil {
		t.Fatal(err)
	}
	if body, err := ledger.DecodeBody[ledger.Probe](alone); err != nil || body.Check(m.name) != nil || body.Subject != "n7" || body.Subjects != nil || alone.ID == st.ID {
		t.Errorf("%+v, %v", body, err)
	}
}

// A node whose agent stops is down by its monitors' verdict, everywhere, and
// costs it nothing; when it comes back on its disk it is up again, and has
// convicted nobody, itself included.
func TestDownAndUpAgain(t *testing.T) {
	f := newFleet(t, 3, 5, func(g *ledger.Genesis) { g.Policy.TickMillis = 500 }, nil)
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 4)
	gone, others := f.agents[4], f.agents[:4]
	down := func(m *member) bool {
		r, ok := m.View().State.Reputation(gone.name)
		return ok && r.Down
	}
	gone.stop()
	began := time.Now()
	f.await("it is down", others, down)
	t.Logf("down by verdict after %s", time.Since(began))
	f.start(gone)
	began = time.Now()
	f.await("it is up", others, func(m *member) bool { return !down(m) })
	t.Logf("up by verdict after %s", time.Since(began))
	for _, m := range f.agents {
		if n := len(quarantineOf(others[0].View())); n != 0 {
			t.Errorf("%s sees %d in quarantine", m.name, n)
		}
		r, ok := others[0].View().State.Reputation(m.name)
		if !ok || r.Reputation < ledger.DefaultProtection().VoteReputation || r.Strikes != 0 {
			t.Errorf("%s lost reputation: %+v", m.name, r)
		}
	}
}
