package fsm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// What a word costs does not grow with the fleet, because a panel is not listed:
// whoever is on it by ledger.Draw is on it here, and nobody else, as electors
// come and go, epochs begin and words are older than both.
func TestPanelsAreTheDraws(t *testing.T) {
	m := newModel(t, 9, 3, func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		p.Monitors = 5 // of eight: some are not drawn
		p.AgeEpochs, p.StartReputation = 1, p.VoteReputation
		g.Policy.Protection = &p
	})
	r := rand.New(rand.NewPCG(7, 7))
	any := func(from ...string) string { return from[r.IntN(len(from))] }
	c := &panelCheck{t: t, m: m}
	for i := range 120 {
		switch r.IntN(4) {
		case 0:
			m.epoch()
		case 1:
			m.try(m.envelope("r1", ledger.TypeEvidence, m.equivocation(nodeName(r.IntN(9), r.IntN(2))), nil))
		case 2: // at the end of an epoch, so that the words outlive it
			m.now = max(m.now, m.state.Meta().EpochStart+m.policy.EpochMillis-30_000)
			name := nodeName(r.IntN(9), r.IntN(3))
			for _, w := range m.monitors(name) {
				m.observe(w.Node, any(ledger.NodeDown, ledger.NodeUp), name, 1)
			}
		case 3: // who comes may rank lower in the next epoch
			m.admit(seat{nodeName(i, 10), operatorName(r.IntN(9))}, seat{nodeName(i, 11), operatorName(r.IntN(9))}, seat{nodeName(i, 12), operatorName(r.IntN(9))})
		}
		for j := range 9 {
			c.check(m.node(nodeName(j, r.IntN(3))))
		}
	}
	if c.checked == 0 || c.settled == 0 || c.older == 0 || c.replaced == 0 {
		t.Errorf("%d checked; of words %d by a look, %d of an epoch before, %d of them replaced", c.checked, c.settled, c.older, c.replaced)
	}
}

// panelCheck compares panels with what package ledger draws.
type panelCheck struct {
	t                                 *testing.T
	m                                 *model
	checked, settled, older, replaced int
}

func (c *panelCheck) check(subject *NodeRecord) {
	s := c.m.state
	electorate := s.Electorate()
	for epoch := s.Epoch() - min(s.Epoch(), 1); epoch <= s.Epoch(); epoch++ {
		drawn := s.Monitors(subject, epoch, electorate)
		p := s.panel(subject, epoch, s.electorOperators())
		if len(p.operators) != len(drawn) {
			c.t.Fatalf("%d operators are drawn, the panel has %d", len(drawn), len(p.operators))
		}
		for _, n := range s.Nodes("", 200) {
			want := slices.Contains(drawn, ledger.Monitor{Operator: n.Operator, Node: n.Name})
			if got := s.watches(&p, n.Operator, n.Name); got != want {
				c.t.Fatalf("%s watches %s in epoch %d: %v, drawn: %v", n.Name, subject.Name, epoch, got, want)
			}
			c.checked++
		}
		tally, ok := lookup[TallyRecord](&s.view, tallyOf(epoch, "node", subject.Name))
		if !ok {
			continue
		}
		for _, w := range tally.Words {
			want := slices.Contains(drawn, ledger.Monitor{Operator: w.Operator, Node: w.Author})
			if got := s.watchesStill(&p, &w); got != want {
				c.t.Fatalf("%s watches %s still in epoch %d of %d: %v, drawn: %v", w.Author, subject.Name, epoch, s.Epoch(), got, want)
			}
			switch {
			case p.settled:
				c.settled++
			default:
				c.older++
				if n, _ := s.Node(w.Author); n.Elector && p.drew(w.Operator) && !want {
					c.replaced++
				}
			}
		}
	}
}
