package fsm

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// hypergeometric is the chance that at least k of a draw of n out of total
// operators are among bad.
func hypergeometric(total, bad, n, k int64) float64 {
	sum := new(big.Int)
	for i := k; i <= min(bad, n); i++ {
		sum.Add(sum, new(big.Int).Mul(new(big.Int).Binomial(bad, i), new(big.Int).Binomial(total-bad, n-i)))
	}
	p, _ := new(big.Rat).SetFrac(sum, new(big.Int).Binomial(total, n)).Float64()
	return p
}

// The chance that a draw falls to a third of the operators, so that they find an honest
// node bad, and that they block a draw, so that a bad one is not found.
func TestModelCapturedDraws(t *testing.T) {
	const perDay = 5_000 * 144 // draws of 5,000 nodes
	for _, c := range []struct {
		operators, bad, monitors int64
		captured                 float64 // a day, at most
	}{
		{100, 33, 32, 1},
		{100, 33, 49, 1e-7},
		{200, 66, 49, 0.02},
		{1_024, 341, 49, 1},
		{1_024, 341, 97, 1e-5},
	} {
		quorum := 2*c.monitors/3 + 1
		captured := hypergeometric(c.operators-1, c.bad, c.monitors, quorum)
		blocked := hypergeometric(c.operators-1, c.bad, c.monitors, c.monitors-quorum+1)
		t.Logf("%d of %d operators, %d drawn: captured with %.1e, %.1e draws a day at 5,000 nodes; blocked with %.2f",
			c.bad, c.operators, c.monitors, captured, perDay*captured, blocked)
		if perDay*captured > c.captured {
			t.Errorf("%d of %d drawn: captured %g a day", c.monitors, c.operators, perDay*captured)
		}
	}
}

// As many are drawn by default as keep a draw from falling to a third of the
// operators, however many there are, and a step fewer would not do.
func TestModelDefaultDraws(t *testing.T) {
	const want = 1e-12
	p := ledger.DefaultProtection()
	captured := func(operators int, drawn int64) float64 {
		return hypergeometric(int64(operators-1), int64(operators/3), drawn, 2*drawn/3+1)
	}
	last := int64(0)
	for operators := 51; operators <= maxOperators; operators++ {
		drawn := int64(p.DrawnOf(operators))
		if operators%5 == 0 || drawn != last || drawn != int64(p.DrawnOf(operators+1)) {
			if got := captured(operators, drawn); got > want || drawn%3 != 1 {
				t.Errorf("%d of %d operators drawn: captured with %.1e", drawn, operators, got)
			}
		}
		if drawn != last && last != 0 && captured(operators, last) <= want {
			t.Errorf("%d of %d operators drawn, where %d do", drawn, operators, last)
		}
		last = drawn
	}
	if p.DrawnOf(1) != 49 || (&ledger.Protection{Monitors: 7}).DrawnOf(1_000) != 7 {
		t.Error("what a policy names does not hold")
	}
}

// What a leader that grinds seeds pays for one draw of one node that falls to a
// third of the operators.
func TestModelGroundSeeds(t *testing.T) {
	p := ledger.DefaultProtection()
	for _, operators := range []int64{50, 100, 200, 431, 1_024} {
		drawn := min(int64(p.DrawnOf(int(operators))), operators-1)
		captured := hypergeometric(operators-1, operators/3, drawn, 2*drawn/3+1)
		hashes := float64(operators) // of one try, for one victim
		t.Logf("%d operators, %d drawn: captured with %.1e; tries %.1e, hashes %.1e", operators, drawn, captured, 1/captured, hashes/captured)
		if operators <= 50 && captured != 0 || captured > 1e-12 {
			t.Errorf("%d operators: %.1e", operators, captured)
		}
	}
}

// The draws of package ledger are as fair as those of the table.
func TestModelDrawsAreFair(t *testing.T) {
	const operators, bad, draws = 100, 33, 4_000
	var stables []ledger.Stable
	for i := range operators {
		stables = append(stables, ledger.Stable{Operator: operatorName(i), Nodes: []string{nodeName(i, 0)}})
	}
	protection := ledger.DefaultProtection()
	monitors := protection.DrawnOf(operators)
	blocked, most := 0, 0
	for i := range draws {
		n := 0
		for _, w := range ledger.Draw(ledger.LeafHash(fmt.Append(nil, i)), "subject", operatorName(0), stables, monitors) {
			if operatorOf(w.Node) >= operators-bad {
				n++
			}
		}
		most = max(most, n)
		if n > monitors-2*monitors/3-1 {
			blocked++
		}
	}
	p := hypergeometric(operators-1, bad, int64(monitors), int64(monitors-2*monitors/3))
	within(t, "blocked draws", float64(blocked)/draws, p, 4*math.Sqrt(p*(1-p)/draws))
	t.Logf("at most %d of %d drawn are bad", most, monitors)
	if most > 2*monitors/3 {
		t.Error("a draw was captured")
	}
}

// A third of a hundred operators say nothing of a friend whom everybody else
// finds bad in every epoch: how long until a draw gives the verdict.
func TestModelBlockedVerdicts(t *testing.T) {
	m := newModel(t, 100, 1)
	bad := coalition(100, 33)
	const epochs = 60
	verdicts, first := 0, uint64(0)
	for i := range epochs {
		m.epoch()
		before := m.state // no verdict is kept, since it would cost the coalition a vote
		subject := nodeName(67+i%33, 0)
		found := m.count(EffectVerdict, nil)
		for _, w := range m.monitors(subject) {
			if !bad(w.Node) {
				m.observe(w.Node, ledger.NodeBad, subject, 0)
			}
		}
		if m.count(EffectVerdict, nil) > found {
			verdicts++
			if first == 0 {
				first = m.state.Epoch()
			}
		}
		m.state = before
		// Other entries, so that the next epoch has another seed.
		m.must(m.envelope("r1", ledger.TypeRecord, ledger.Record{Text: fmt.Sprint(i)}, nil))
	}
	within(t, "share of epochs with a verdict", float64(verdicts)/epochs, 0.53, 0.2)
	t.Logf("the first verdict is in epoch %d", first)
}
