package agent

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// Two statements under one seq, shown to two honest agents: every honest agent
// drops the offender at once, and the ledger excludes it.
func TestEquivocationIsDroppedEverywhere(t *testing.T) {
	f := newFleet(t, 3, 5, nil, nil)
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 4)
	liar, honest := f.agents[4], f.agents[:4]
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
	began := time.Now()
	for _, text := range []string{"n1", "n2"} {
		if err := liar.mesh.Publish(t.Context(), mesh.Statements, said(text)); err != nil {
			t.Fatal(err)
		}
	}
	f.await("the liar is dropped", honest, func(m *member) bool { return m.View().Standing(liar.name) == fsm.NodeExcluded })
	t.Logf("dropped by all after %s", time.Since(began))
	f.await("the ledger excludes it", honest, func(m *member) bool {
		n, ok := m.View().State.Node(liar.name)
		return ok && n.Standing == fsm.NodeExcluded && len(m.View().Banned) == 0
	})
	t.Logf("certified everywhere after %s", time.Since(began))
	f.await("its connections are closed", honest, func(m *member) bool { return len(m.Mesh().Peers()) == 3 })
}
