package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
)

// A node that reaches no replica goes on from its disk, learns certified
// decisions from its peers, and is heard through them.
func TestCutOffFromEveryReplica(t *testing.T) {
	f := newFleet(t, 3, 4, nil, nil)
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 3)
	alone, others := f.agents[3], f.agents[:3]
	alone.stop()
	alone.config.API.Servers = []string{"http://" + freeport.Address(t)}
	f.start(alone)
	if alone.View().State == nil {
		t.Fatalf("it did not begin from its disk: %+v", alone.Status())
	}
	f.connected([]*member{alone}, 3)

	began := time.Now()
	f.decide("node.quarantine", map[string]any{"name": "n2", "reason": "drill"})
	f.await("the quarantine is known", f.agents, func(m *member) bool { return m.View().Standing("n2") == fsm.NodeQuarantined })
	t.Logf("a decision reached the node cut off after %s", time.Since(began))
	if alone.Status().Replicas {
		t.Error("it says that it reaches a replica")
	}

	tick := uint64(time.Now().UnixMilli()) / f.cluster.Genesis.Policy.TickMillis
	alone.out.observe(ledger.Observe{Kind: ledger.LinkUp, Subject: "n1", From: tick, To: tick})
	f.await("its word is on the ledger", []*member{others[0], others[2], alone}, func(m *member) bool {
		return len(m.View().State.Links("", 10)) == 1
	})
	f.await("its outbox is empty", []*member{alone}, func(m *member) bool { return m.Status().Waiting == 0 })

	// What it saved is what it goes on from, and damage is seen.
	alone.stop()
	path := filepath.Join(alone.config.Dir, "state")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	alone.config.API.Servers = others[0].config.API.Servers
	f.start(alone)
	if alone.View().State != nil || alone.Status().Trouble[troubleState] == "" {
		t.Errorf("a damaged state was taken: %+v", alone.Status())
	}
	f.await("it fetched the state anew", []*member{alone}, func(m *member) bool {
		return m.View().Standing("n2") == fsm.NodeQuarantined && m.View().Size >= others[0].View().Size
	})
}
