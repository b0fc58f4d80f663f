package fsm

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// BenchmarkFleet is what observations, an attestation of 256 nodes and an epoch's
// beginning cost in Apply, without signatures: the first word about a node; the
// thirtieth;
// an attestation that is true, whose author ranks lowest each time.
func BenchmarkFleet(b *testing.B) {
	for _, size := range []struct{ operators, nodes int }{{50, 100}, {50, 1000}, {500, 98}} {
		if size.operators*size.nodes > 5_000 && os.Getenv("QUORATE_MODEL") == "" {
			continue
		}
		m := newModel(b, size.operators, size.nodes)
		for range m.protect.AttestEpochs {
			m.now += m.policy.EpochMillis
			m.apply(ledger.CommandTick)
			m.apply(ledger.CommandSeal)
		}
		start := m.state
		apply := func(name string, s *State, kind ledger.CommandKind, stamp uint64, statements ...[]byte) {
			b.Run(fmt.Sprintf("%s/%dx%d", name, size.operators, size.nodes), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, r := Apply(s, &ledger.Command{Kind: kind, Stamp: stamp, Statements: statements}, trusting{}); len(r.Entries) == 0 {
						b.Fatalf("refused: %v", r.Verdicts)
					}
				}
			})
		}
		monitors := m.monitors("n-00-0")
		word := func(i int) []byte {
			return m.envelope(monitors[i].Node, ledger.TypeObserve, ledger.Observe{Counter: uint64(i + 1), From: m.tick(), Kind: ledger.NodeDown, Subject: "n-00-0", To: m.tick()}, nil)
		}
		apply("first", start, ledger.CommandStatements, m.now, word(0))
		for i := range 29 {
			m.must(word(i))
		}
		thirtieth := word(29)
		apply("thirtieth", m.state, ledger.CommandStatements, m.now, thirtieth)
		attestor, ordinals := trueAttestation(m, 256)
		apply("attest", start, ledger.CommandStatements, m.now, m.envelope(attestor, ledger.TypeAttest,
			ledger.Attest{Epochs: []ledger.AttestedEpoch{{Clean: ledger.EncodeOrdinals(ordinals), Epoch: 0}}}, nil))
		apply("epoch", start, ledger.CommandTick, m.now+m.policy.EpochMillis)
	}
}

// trueAttestation gives one that is drawn to attest, and nodes of which it ranks
// lowest of its operator, n of them or as many as there are.
func trueAttestation(m *model, n int) (name string, ordinals []uint32) {
	first := uint64(0)
	for _, r := range m.state.Nodes("", 1_000) {
		from, drawn := m.state.AttestWindow(&r)
		if !drawn {
			continue
		}
		seed, _ := m.state.Seed(from)
		nodes := m.state.electorsOf(r.Operator)
		name, first = r.Name, from
		for _, other := range m.state.Nodes("", 1<<20) {
			if other.Operator != r.Operator && ledger.DrawNode(seed, other.Name, nodes) == name {
				ordinals = append(ordinals, uint32(other.Ordinal))
			}
			if len(ordinals) == n {
				break
			}
		}
		break
	}
	slices.Sort(ordinals)
	if len(ordinals) == 0 || first != 0 {
		m.t.Fatal("nobody attests")
	}
	return name, ordinals
}
