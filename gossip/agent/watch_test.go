package agent

import (
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
)

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
