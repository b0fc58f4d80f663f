package fsm

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// BenchmarkFleet is what an observation, an attestation of 256 nodes and an
// epoch's beginning cost in Apply, without signatures.
func BenchmarkFleet(b *testing.B) {
	for _, nodes := range []int{100, 1000} {
		m := newModel(b, 50, nodes)
		length := m.protect.AttestEpochs
		for range length {
			m.now += m.policy.EpochMillis
			m.apply(ledger.CommandTick)
			m.apply(ledger.CommandSeal)
		}
		start := m.state
		apply := func(b *testing.B, name string, kind ledger.CommandKind, stamp uint64, statements ...[]byte) {
			b.Run(fmt.Sprintf("%s/%d", name, 50*nodes), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, r := Apply(start, &ledger.Command{Kind: kind, Stamp: stamp, Statements: statements}, trusting{}); len(r.Entries) == 0 {
						b.Fatalf("refused: %v", r.Verdicts)
					}
				}
			})
		}
		subject := m.node("n-00-0")
		watcher := start.Monitors(subject, start.Epoch(), start.Electorate())[0].Node
		tick := m.now / m.policy.TickMillis
		apply(b, "observe", ledger.CommandStatements, m.now, m.envelope(watcher, ledger.TypeObserve,
			ledger.Observe{Counter: 1, From: tick, Kind: ledger.NodeDown, Subject: "n-00-0", To: tick}, nil))
		for _, n := range start.Nodes("", 1000) {
			if first, drawn := start.AttestWindow(&n); drawn {
				ordinals := make([]uint32, 256)
				for i := range ordinals {
					ordinals[i] = uint32(i + 1)
				}
				apply(b, "attest", ledger.CommandStatements, m.now, m.envelope(n.Name, ledger.TypeAttest,
					ledger.Attest{Epochs: []ledger.AttestedEpoch{{Clean: ledger.EncodeOrdinals(ordinals), Epoch: first}}}, nil))
				break
			}
		}
		apply(b, "epoch", ledger.CommandTick, m.now+m.policy.EpochMillis)
	}
}
