package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// Two statements under one seq, shown to two honest agents: every honest agent
// drops the offender at once, and the ledger excludes it.
func TestEquivocationIsDroppedEverywhere(t *testing.T) {
	f := newFleet(t, 3, 5, nil, nil)
	evidence := &pleas{ids: map[ledger.Hash]bool{}}
	f.observe = evidence.look
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 4)
	liar, honest := f.agents[4], f.agents[:4]
	before := honest[0].View()
	seq, epoch := uint64(7), uint64(0)
	said := func(text string) []byte {
		b, err := ledger.Sign(liar.key, ledger.Payload{
			Author: liar.name, Epoch: &epoch, Seq: &seq, Ledger: f.cluster.Hash, Type: ledger.TypeObserve,
		}, ledger.Observe{Counter: 1, Kind: ledger.NodeUp, Subject: text})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dropped := func() bool {
		return !slices.ContainsFunc(honest, func(m *member) bool { return m.View().Standing(liar.name) != fsm.NodeExcluded })
	}
	// What is published before the others' subscriptions have come is lost.
	var began time.Time
	for deadline := time.Now().Add(patience); !dropped() && time.Now().Before(deadline); seq++ {
		began = time.Now()
		for _, text := range []string{"n1", "n2"} {
			if err := liar.mesh.Publish(t.Context(), mesh.Statements, said(text)); err != nil {
				t.Fatal(err)
			}
		}
		for !dropped() && time.Since(began) < 3*time.Second {
			time.Sleep(time.Millisecond)
		}
	}
	if !dropped() {
		t.Fatal("the liar is not dropped")
	}
	t.Logf("dropped by all after %s", time.Since(began))
	f.await("the ledger excludes it", honest, func(m *member) bool {
		n, ok := m.View().State.Node(liar.name)
		return ok && n.Standing == fsm.NodeExcluded && len(m.View().Banned) == 0
	})
	t.Logf("certified everywhere after %s", time.Since(began))
	f.await("its connections are closed", honest, func(m *member) bool { return len(m.Mesh().Peers()) == 3 })

	// A frame that was screened before the ledger's decision is ruled on after it,
	// when the agent's own ban has given way to that.
	judge := honest[0].judge
	f.await("the ban has given way", honest[:1], func(*member) bool {
		judge.mu.Lock()
		defer judge.mu.Unlock()
		return !judge.rules.Banned(ledger.Hash(liar.key.Public().ID()))
	})
	seq++
	c, reason := gossip.Screen(before.certified, gossip.Statements, said("n3"))
	if reason == gossip.Good {
		reason = c.Verify(honest[0].verify)
	}
	if reason != gossip.Good {
		t.Fatalf("before the decision the frame is refused: %s", reason)
	}
	if r := judge.admit(before.certified, gossip.Statements, c); r.Reason != gossip.AuthorBanned {
		t.Errorf("a frame of the excluded node that was screened before: %s", r.Reason)
	}

	t.Logf("evidence: %d statements, submitted %d times", evidence.count(), submitted(honest))
	if evidence.count() == 0 {
		t.Error("nobody brought evidence")
	}
	checkTurns(t, honest, liar.name)
	f.checkEarly(honest)
}

// A node that passes on what nobody honest does is complained of by those who
// watch it, and their quorum costs it reputation; nobody else loses any.
func TestInvalidFramesAreComplainedOf(t *testing.T) {
	f := newFleet(t, 3, 5, nil, nil)
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 4)
	liar, honest := f.agents[4], f.agents[:4]
	f.await("its monitors have their duties", honest[1:], func(m *member) bool {
		m.watch.mu.Lock()
		defer m.watch.mu.Unlock()
		return len(m.watch.duties.Subjects) > 0
	})
	epoch := uint64(0)
	reputation := func(m *member, name string) uint64 {
		r, _ := m.View().State.Reputation(name)
		return r.Reputation
	}
	start := reputation(honest[0], "n1")
	for i := uint64(0); i < 40 && reputation(honest[0], liar.name) == start; i++ {
		b, err := ledger.Sign(liar.key, ledger.Payload{Author: liar.name, Epoch: &epoch, Seq: &i, Ledger: f.cluster.Hash, Type: ledger.TypeObserve},
			ledger.Observe{Counter: i + 1, Kind: ledger.NodeUp, Subject: "n2"})
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1 // the signature
		if err := liar.mesh.Publish(t.Context(), mesh.Statements, b); err != nil {
			t.Logf("publish: %v", err)
		}
		time.Sleep(100 * time.Millisecond) // what comes before the others' subscriptions is lost
	}
	f.await("the liar lost reputation", honest, func(m *member) bool { return reputation(m, liar.name) < start })
	for _, m := range honest {
		if got := reputation(honest[0], m.name); got != start {
			t.Errorf("%s has %d of %d", m.name, got, start)
		}
	}
}
