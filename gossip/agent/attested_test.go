package agent

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// Monitors attest, in one statement a window, whom they watched and heard from;
// that reaches the ledger, and those gain reputation. Who answers nobody gains
// none.
func TestAttestedNodesGainReputation(t *testing.T) {
	f := newFleet(t, 3, 4, func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		p.AttestEpochs, p.ProbeTicks = 2, 1
		p.AgeEpochs, p.StartReputation = 0, p.VoteReputation // epochs are short: nobody is a founder
		g.Policy.EpochMillis, g.Policy.TickMillis, g.Policy.Protection = 1_500, 500, &p
	}, nil)
	words := attestations{of: map[string]map[ledger.Hash]bool{}}
	f.observe = words.look
	present, absent := f.agents[:3], f.agents[3]
	for _, m := range present {
		f.start(m)
	}
	f.connected(present, 2)
	reputation := func(m *member, name string) uint64 {
		r, _ := m.View().State.Reputation(name)
		return r.Reputation
	}
	start := f.cluster.Genesis.Policy.Protection.StartReputation
	began := time.Now()
	f.await("all who answer gained reputation", present, func(m *member) bool {
		for _, other := range present {
			if reputation(m, other.name) <= start {
				return false
			}
		}
		return true
	})
	t.Logf("credited after %s", time.Since(began))
	if got := reputation(present[0], absent.name); got > start {
		t.Errorf("who answers nobody has %d, began with %d", got, start)
	}

	// Each window costs a node one statement, of both its epochs.
	f.await("a statement of two epochs is on the ledger", present[:1], func(m *member) bool { return attestedAtOnce(t, m) == 2 })
	words.mu.Lock()
	defer words.mu.Unlock()
	if len(words.of) < 3 {
		t.Errorf("%d attestations were said", len(words.of))
	}
	for window, ids := range words.of {
		if len(ids) != 1 {
			t.Errorf("%s was attested in %d statements", window, len(ids))
		}
	}
}

// attestations are those that agents said, by author and window.
type attestations struct {
	mu sync.Mutex
	of map[string]map[ledger.Hash]bool
}

func (a *attestations) look(f mesh.Frame) {
	st, err := ledger.ParseStatement(f.Data)
	if f.Channel != string(mesh.Statements) || err != nil || st.Payload.Type != ledger.TypeAttest {
		return
	}
	body, err := ledger.DecodeBody[ledger.Attest](st)
	if err != nil || len(body.Epochs) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name := fmt.Sprintf("the window of epoch %d by %s", body.Epochs[0].Epoch/2*2, st.Payload.Author)
	if a.of[name] == nil {
		a.of[name] = map[ledger.Hash]bool{}
	}
	a.of[name][st.ID] = true
}

// attestedAtOnce is how many epochs an attestation on the ledger is of, at most.
func attestedAtOnce(t *testing.T, m *member) (most int) {
	t.Helper()
	m.mu.Lock()
	entries := m.chronicle.stored.from(m.chronicle.stored.first, keptEntryBytes)
	m.mu.Unlock()
	for _, raw := range entries {
		e, err := ledger.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != ledger.KindStatement {
			continue
		}
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			t.Fatal(err)
		}
		if st.Payload.Type != ledger.TypeAttest {
			continue
		}
		body, err := ledger.DecodeBody[ledger.Attest](st)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(body.Epochs))
	}
	return most
}
