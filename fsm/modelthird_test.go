package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// A third of the operators does whatever may hurt: in each epoch its monitors
// accuse honest nodes, newcomers among them, of everything, lie about links,
// complain in their attestations, call each other clean, and switch some of
// their own nodes off; meanwhile honest nodes restart, and some are down
// indeed. No honest node is quarantined, loses a point or is found bad.
func TestModelCoalitionOfAThird(t *testing.T) {
	for _, c := range []struct{ operators, nodes, bad, epochs int }{{25, 4, 8, 40}, {4, 5, 1, 60}, {100, 1, 33, 20}, {7, 3, 2, 60}} {
		t.Run(fmt.Sprintf("%d of %d by %d", c.bad, c.operators, c.nodes), func(t *testing.T) {
			const seed = 1
			m := newModel(t, c.operators, c.nodes)
			bad := coalition(c.operators, c.bad)
			random := rand.New(rand.NewPCG(seed, uint64(c.operators)))
			m.epoch()
			m.admit(seat{"n-00-90", operatorName(0)}, seat{"n-01-90", operatorName(1)})
			var honest []string
			for i := range c.operators - c.bad {
				for j := range c.nodes {
					honest = append(honest, nodeName(i, j))
				}
			}
			honest = append(honest, "n-00-90", "n-01-90")
			for _, n := range honest[:min(8, len(honest))] {
				m.watched[n] = true
			}
			m.watched["n-00-90"] = true
			m.word = func(w ledger.Monitor, subject string, _ uint64, clean bool) attestation {
				if bad(w.Node) {
					return attestsCause
				}
				return attestsClean
			}
			for range c.epochs {
				m.epoch()
				for range 6 {
					m.third(bad, honest[random.IntN(len(honest))], random)
				}
				m.third(bad, "n-00-90", random)
				m.restart(bad, honest[random.IntN(len(honest))], random)
			}
			if n := m.honestHurt(not(bad)); n != 0 {
				t.Errorf("seed %d: %d quarantines and exclusions of honest nodes", seed, n)
			}
			if n := m.count(EffectOffence, not(bad)); n != 0 {
				t.Errorf("seed %d: %d offences of honest nodes", seed, n)
			}
			for _, e := range m.happened {
				if e.typ == EffectVerdict && e.kind == ledger.NodeBad {
					t.Errorf("seed %d: %s was found bad", seed, e.name)
				}
			}
			if m.refused[OK] < 100 {
				t.Errorf("only %d accusations were taken", m.refused[OK])
			}
		})
	}
}

// third has the coalition say the worst about an honest node, in a random
// order of kinds; the others contradict what is false.
func (m *model) third(bad func(string) bool, victim string, random *rand.Rand) {
	kinds := []string{ledger.NodeBad, ledger.NodeDown, ledger.LinkDown}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, kind := range kinds {
		m.slander(bad, kind, victim)
	}
}

// restart has a node down for a while: some of the honest say so, the coalition
// says at once that it is up, so as to make liars of them; then all say up.
func (m *model) restart(bad func(string) bool, subject string, random *rand.Rand) {
	monitors := m.monitors(subject)
	m.now += 4 * m.policy.TickMillis // past what was said before
	for _, w := range monitors {
		if !bad(w.Node) && random.IntN(2) == 0 {
			m.observe(w.Node, ledger.NodeDown, subject, 1)
		}
	}
	for _, w := range monitors {
		if bad(w.Node) {
			m.observe(w.Node, ledger.NodeUp, subject, 1)
		}
	}
	m.now += 3 * m.policy.TickMillis
	for _, w := range monitors {
		m.observe(w.Node, ledger.NodeUp, subject, 1)
	}
}
