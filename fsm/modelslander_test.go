package fsm

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// coalition is the operators from a number on.
func coalition(operators, size int) func(name string) bool {
	return func(name string) bool { return operatorOf(name) >= operators-size }
}

func not(which func(string) bool) func(string) bool {
	return func(name string) bool { return !which(name) }
}

// slander has the coalition's monitors accuse a node, and, if it is of being
// down, the others say that it is up.
func (m *model) slander(bad func(string) bool, kind, victim string) {
	for _, w := range m.monitors(victim) {
		if bad(w.Node) {
			m.observe(w.Node, kind, victim, 2)
		}
	}
	if kind != ledger.NodeDown {
		return
	}
	for _, w := range m.monitors(victim) {
		if !bad(w.Node) {
			m.observe(w.Node, ledger.NodeUp, victim, 3)
		}
	}
}

// Accusing one honest node in every epoch, by so many of the operators: what
// becomes of the victim, and of the slanderers' votes.
func TestModelSlander(t *testing.T) {
	for _, c := range []struct {
		operators, nodes, bad int
		kind                  string
		verdicts              bool   // the victim is found down or bad
		muted                 uint64 // epoch by which no slanderer has a vote; 0: some have one at the end
	}{
		{25, 4, 1, ledger.NodeDown, false, 60},
		{25, 4, 5, ledger.NodeDown, false, 60},
		{25, 4, 8, ledger.NodeDown, false, 0},
		{25, 4, 16, ledger.NodeDown, false, 0},
		{25, 4, 17, ledger.NodeDown, true, 0},
		{25, 4, 1, ledger.NodeBad, false, 0},
		{25, 4, 5, ledger.NodeBad, false, 0},
		{25, 4, 8, ledger.NodeBad, false, 0},
		{25, 4, 16, ledger.NodeBad, false, 0},
		{25, 4, 17, ledger.NodeBad, true, 0},
		{4, 5, 1, ledger.NodeBad, false, 0},
		{4, 5, 2, ledger.NodeBad, false, 0},
		{4, 5, 3, ledger.NodeBad, true, 0},
		{100, 1, 33, ledger.NodeBad, false, 0},
		{100, 1, 33, ledger.NodeDown, false, 60},
	} {
		t.Run(fmt.Sprintf("%d of %d by %d: %s", c.bad, c.operators, c.nodes, c.kind), func(t *testing.T) {
			m := newModel(t, c.operators, c.nodes)
			bad := coalition(c.operators, c.bad)
			const victim = "n-00-0"
			start := m.reputation(victim).Reputation
			voteless, quarantined := uint64(0), uint64(0)
			for range 60 {
				m.epoch()
				m.slander(bad, c.kind, victim)
				if voteless == 0 && m.voters(bad) == 0 {
					voteless = m.state.Epoch()
				}
				if quarantined == 0 && m.node(victim).Standing != NodeActive {
					quarantined = m.state.Epoch()
				}
			}
			t.Logf("no slanderer votes from epoch %d; quarantined at epoch %d; the victim lost %d", voteless, quarantined, start-m.reputation(victim).Reputation)
			if got := m.count(EffectVerdict, nil) > 0; got != c.verdicts {
				t.Errorf("verdicts: %v", got)
			}
			if !c.verdicts && (m.reputation(victim).Reputation != start || m.honestHurt(not(bad)) != 0 || m.count(EffectOffence, not(bad)) != 0) {
				t.Error("the honest are hurt")
			}
			if c.verdicts && c.kind == ledger.NodeBad && quarantined == 0 {
				t.Error("the stated limit is no limit")
			}
			if (voteless != 0) != (c.muted != 0) || voteless > c.muted {
				t.Errorf("the slanderers' votes end at epoch %d, want %d", voteless, c.muted)
			}
		})
	}
}

// voters counts the nodes whose word counts.
func (m *model) voters(which func(string) bool) int {
	n := 0
	for _, s := range m.state.Electorate().Stables {
		for _, name := range s.Nodes {
			if which(name) {
				n++
			}
		}
	}
	return n
}

// A thousand more nodes of one operator add nothing to its word.
func TestModelSybils(t *testing.T) {
	m := newModel(t, 25, 4)
	var sybils []seat
	for i := range 1_000 {
		sybils = append(sybils, seat{fmt.Sprintf("n-24-%d", 100+i), operatorName(24)})
	}
	m.admit(sybils...) // before the first epoch, so that they vote at once
	const victim = "n-00-0"
	for range 3 {
		m.epoch()
		if n := m.voters(coalition(25, 1)); n != 1_004 {
			t.Fatalf("%d sybils vote", n)
		}
		before := m.refused[OK]
		for _, s := range sybils {
			m.observe(s.name, ledger.NodeBad, victim, 0)
		}
		if n := m.refused[OK] - before; n > 1 {
			t.Errorf("the word of %d sybils was taken", n)
		}
	}
	if m.count(EffectVerdict, nil) != 0 || m.reputation(victim).Reputation != m.protect.VoteReputation {
		t.Error("the victim is touched")
	}
}

// 28 of 100 nodes are down or bad indeed, and the others say so. Who is down is
// not punished; of those found bad the breaker lets a fifth be quarantined.
func TestModelManyAtFault(t *testing.T) {
	for _, kind := range []string{ledger.NodeDown, ledger.NodeBad} {
		t.Run(kind, func(t *testing.T) {
			m := newModel(t, 25, 4)
			fault := coalition(25, 7)
			for range 10 {
				m.epoch()
				for i := 18; i < 25; i++ {
					for j := range 4 {
						subject := nodeName(i, j)
						for _, w := range m.monitors(subject) {
							if !fault(w.Node) {
								m.observe(w.Node, kind, subject, 2)
							}
						}
					}
				}
			}
			held := map[string]bool{} // as long as they are not released, also those that are excluded by now
			for _, e := range m.happened {
				if e.typ == EffectQuarantined {
					held[e.name] = true
				}
			}
			quarantined, partitions, breakers := len(held), m.count(EffectPartition, nil), m.count(EffectBreaker, nil)
			t.Logf("quarantined %d, partitions %d, breakers %d, verdicts %d", quarantined, partitions, breakers, m.count(EffectVerdict, nil))
			if m.honestHurt(not(fault)) != 0 {
				t.Error("the honest are hurt")
			}
			switch kind {
			case ledger.NodeDown:
				if quarantined != 0 || partitions != 1 {
					t.Error("want a partition and nobody quarantined")
				}
			case ledger.NodeBad:
				if quarantined != 20 || breakers != 1 {
					t.Error("want the breaker at 20 of 100")
				}
			}
		})
	}
}

// One honest node says what it alone saw of a coalition's node, and the
// coalition accuses it in return, for 40 epochs: nobody loses anything.
func TestModelWhistleBlower(t *testing.T) {
	m := newModel(t, 25, 4)
	bad := coalition(25, 8)
	for range 40 {
		m.epoch()
		for _, w := range m.monitors("n-24-0") {
			if operatorOf(w.Node) == 0 {
				m.observe(w.Node, ledger.NodeBad, "n-24-0", 0)
				m.slander(bad, ledger.NodeBad, w.Node)
				m.slander(bad, ledger.NodeDown, w.Node)
			}
		}
	}
	if n := m.count(EffectOffence, nil) + m.count(EffectVerdict, nil); n != 0 {
		t.Errorf("%d offences and verdicts", n)
	}
}
