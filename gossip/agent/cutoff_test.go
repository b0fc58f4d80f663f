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

	// While it is away, there is a decision, and its peers start anew: they keep no
	// entries of before, so it takes a whole state from one of them, page by page.
	alone.stop()
	f.decide("node.quarantine", map[string]any{"name": "n3", "reason": "drill"})
	f.await("n3's quarantine is known", others, func(m *member) bool { return m.View().Standing("n3") == fsm.NodeQuarantined })
	for _, m := range others {
		m.stop()
		f.start(m)
		m.pins.pageBytes = 4 << 10
	}
	f.start(alone)
	behind := alone.View().Size
	if alone.View().Standing("n3") != fsm.NodeActive {
		t.Fatal("it knows already what it is to learn")
	}
	f.await("it learns of n3's quarantine", []*member{alone}, func(m *member) bool { return m.View().Standing("n3") == fsm.NodeQuarantined })
	pages := 0
	for _, m := range others {
		m.pins.mu.Lock()
		for _, pin := range m.pins.list {
			for more, after := true, ""; more; pages++ {
				page := pageOf(pin.state, after, m.pins.pageBytes)
				more, after = page.More, page.Records[len(page.Records)-1].Key
			}
		}
		m.pins.mu.Unlock()
	}
	if pages < 3 {
		t.Errorf("%d pages of a state were given", pages)
	}
	t.Logf("from size %d to %d by a state of %d pages", behind, alone.View().Size, pages)

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
	alone.saveNow()
	if s := alone.Status(); s.Trouble[troubleState] != "" {
		t.Errorf("a whole state is on disk again: %+v", s)
	}
}
