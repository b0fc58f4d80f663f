package fsm

import (
	"fmt"
	"sync"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// A state may be read by any number of readers while Apply makes the next ones
// of it. The race detector is what looks at this test.
func TestReadersWhileApplying(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	w.verify = trusting{}
	states := make(chan *State, 64)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for s := range states {
				digest := s.Digest()
				p, err := s.Prove("council/alice")
				if err != nil || p.Verify(digest) != nil {
					t.Error("a proof does not hold")
				}
				s.Walk("", func(string, []byte) bool { return true })
				s.Due(s.Stamp() + 1_000_000)
				Simulate(s, "operator.remove", canon.Raw(`{"name":"alpha"}`), "alice", s.Stamp())
				if len(s.Proposals("", ledger.Hash{}, 100)) > 0 {
					s.Rule(s.Proposals("", ledger.Hash{}, 1)[0])
				}
			}
		})
	}
	for i := range 30 {
		p := w.propose("alice", "operator.add", operatorArgs{Name: fmt.Sprintf("op-%d", i)})
		w.submit(p)
		for range 2 {
			states <- w.state
		}
		w.submit(w.ballot("bob", ledger.TypeApprove, p))
		w.apply(ledger.CommandSeal)
		states <- w.state
	}
	close(states)
	readers.Wait()
}
