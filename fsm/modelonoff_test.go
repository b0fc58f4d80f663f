package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// longKeys lets keys outlast the longest simulation.
func longKeys(g *ledger.Genesis) { g.Policy.KeyEpochs = 1 << 16 }

func withProtection(change func(*ledger.Protection)) func(*ledger.Genesis) {
	return func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		change(&p)
		g.Policy.Protection = &p
	}
}

// Who offends whenever it can afford it, and never falls below the threshold:
// the share of epochs in which it offends and stays active.
func TestModelOnOffAboveTheThreshold(t *testing.T) {
	for _, c := range []struct {
		name         string
		heat         uint64
		want, margin float64 // percent
	}{
		{"heat", 100, 1.1, 0.15},
		{"no heat", 0, 9.15, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t, 25, 4, longKeys, withProtection(func(p *ledger.Protection) { p.HeatPoints = c.heat }))
			const attacker = "n-00-0"
			m.watched[attacker] = true
			const epochs = 2_000
			offences := 0
			for range epochs {
				m.epoch()
				r := *m.reputation(attacker)
				r.offend(&m.protect, m.protect.MinorPoints, m.state.Epoch())
				if r.Reputation >= m.protect.QuarantineBelow {
					m.flood(attacker)
					offences++
				}
			}
			if n := m.count(EffectQuarantined, nil); n != 0 {
				t.Fatalf("quarantined %d times", n)
			}
			within(t, "percent of epochs with an offence", 100*float64(offences)/epochs, c.want, c.margin)
		})
	}
}

// Who offends in every epoch in which it is active.
func TestModelOnOffWheneverActive(t *testing.T) {
	m := newModel(t, 25, 4, longKeys)
	const attacker = "n-00-0"
	m.watched[attacker] = true
	offences := 0
	for m.node(attacker).Standing != NodeExcluded && m.state.Epoch() < 20_000 {
		m.epoch()
		if m.node(attacker).Standing == NodeActive {
			m.flood(attacker)
			offences++
		}
	}
	if m.node(attacker).Standing != NodeExcluded {
		t.Error("it is not excluded")
	}
	within(t, "offences", float64(offences), 12, 3)
	within(t, "excluded at epoch", float64(m.state.Epoch()), 9_300, 1_500)
}

// How many clean epochs lead out of quarantine again, by earlier strikes. Its
// offences are minor and far apart, so that none makes the next one dearer.
func TestModelRecovery(t *testing.T) {
	m := newModel(t, 25, 4, longKeys)
	const node = "n-00-0"
	m.admit(seat{"late", operatorName(1)}) // the attestors always have somebody to speak of
	m.watched["late"] = true
	m.epoch()
	for strikes, want := range []float64{160, 290, 540, 1_600, 4_000} {
		delete(m.watched, node)
		for m.node(node).Standing == NodeActive {
			for range m.protect.HeatPoints {
				m.epoch()
			}
			m.flood(node)
		}
		m.watched[node] = true
		from := m.state.Epoch()
		for m.node(node).Standing == NodeQuarantined && m.state.Epoch() < from+10_000 {
			m.epoch()
		}
		within(t, fmt.Sprintf("clean epochs after %d strikes", strikes), float64(m.state.Epoch()-from), want, want/4)
	}
}

// An honest node with minor faults at random: in how many of 30 runs it is
// quarantined within 2,000 epochs.
func TestModelRandomFaults(t *testing.T) {
	for _, c := range []struct {
		every        int
		want, margin float64
	}{{300, 0, 1}, {200, 0, 3}, {150, 5, 4}} {
		t.Run(fmt.Sprintf("1 in %d", c.every), func(t *testing.T) {
			wholeModel(t)
			m := newModel(t, 25, 4, longKeys)
			random := rand.New(rand.NewPCG(1, uint64(c.every)))
			var nodes []string
			for i := range 15 {
				nodes = append(nodes, nodeName(i, 0), nodeName(i, 1))
			}
			for _, n := range nodes {
				m.watched[n] = true
			}
			quarantined := map[string]bool{}
			for range 2_000 {
				m.epoch()
				for _, n := range nodes {
					if m.node(n).Standing != NodeActive {
						quarantined[n] = true
						delete(m.watched, n)
					} else if random.IntN(c.every) == 0 {
						m.flood(n)
					}
				}
			}
			within(t, "quarantined of 30", float64(len(quarantined)), c.want, c.margin)
		})
	}
}

// A node that was excluded is removed and its operator's next one admitted,
// under another name and key: epochs until that one has a vote, beside one of
// an operator without such a past.
func TestModelWhitewashing(t *testing.T) {
	for _, c := range []struct {
		name         string
		offends      bool
		want, margin float64
	}{{"a newcomer", false, 64, 16}, {"in the place of an excluded node", true, 2_048, 16}} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t, 25, 4, longKeys)
			const old, fresh = "n-00-0", "fresh"
			m.epoch()
			if c.offends {
				m.must(m.envelope("r1", ledger.TypeEvidence, m.equivocation(old), nil))
				if m.node(old).Standing != NodeExcluded {
					t.Fatal("it is not excluded")
				}
			}
			m.decide("node.remove", nodeArgs{Name: old})
			m.admit(seat{fresh, operatorName(0)})
			m.watched[fresh] = true
			from := m.state.Epoch()
			for !m.votes(fresh) && m.state.Epoch() < from+5_000 {
				m.epoch()
			}
			within(t, "epochs until it has a vote", float64(m.state.Epoch()-from), c.want, c.margin)
		})
	}
}
