package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// fleet is a world of format 2 with nodes, all admitted before the first epoch.
type fleet struct {
	*world
	policy ledger.Protection
}

func operatorName(i int) string { return fmt.Sprintf("op-%02d", i) }

func nodeName(operator, i int) string { return fmt.Sprintf("n-%02d-%d", operator, i) }

// newFleet founds a ledger with that many operators, which alpha sponsors, and
// nodes of each.
func newFleet(t failer, operators, nodes int, change ...func(*ledger.Genesis)) *fleet {
	t.Helper()
	g := defaultGenesis()
	g.Format = 2
	for i := range operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: operatorName(i), Sponsor: "alpha"})
	}
	g.Operators = sortedOperators(g.Operators)
	for _, c := range change {
		c(g)
	}
	return foundFleet(t, g, operators, nodes)
}

func sortedOperators(operators []ledger.Operator) []ledger.Operator {
	return slices.SortedFunc(slices.Values(operators), func(a, b ledger.Operator) int { return strings.Compare(a.Name, b.Name) })
}

func foundFleet(t failer, g *ledger.Genesis, operators, nodes int) *fleet {
	t.Helper()
	f := &fleet{world: newWorld(t, g), policy: g.Policy.Protects()}
	var joins [][]byte
	admit := admitArgs{}
	flush := func() {
		if len(joins) == 0 {
			return
		}
		f.submit(joins...)
		p := f.propose("alice", "node.admit", admit)
		f.submit(p, f.ballot("bob", ledger.TypeApprove, p))
		joins, admit = nil, admitArgs{}
	}
	for i := range operators {
		for j := range nodes {
			name := nodeName(i, j)
			join := f.sign(saying{author: name, typ: ledger.TypeJoin, body: ledger.Join{Name: name, Operator: operatorName(i), Peer: filler("peer "+name, 32), Public: publicOf(name)}})
			joins, admit.Joins = append(joins, join), append(admit.Joins, idOf(join))
			if len(joins) == ledger.MaxJoins {
				flush()
			}
		}
	}
	flush()
	f.apply(ledger.CommandSeal)
	return f
}

// epochs lets whole epochs pass, with a seal at the end of each.
func (f *fleet) epochs(n int) {
	for range n {
		f.now += f.genesis.Policy.EpochMillis
		f.apply(ledger.CommandTick)
		f.apply(ledger.CommandSeal)
	}
}

func (f *fleet) tick() uint64 { return f.now / f.genesis.Policy.TickMillis }

// observes submits what a node says of another now.
func (f *fleet) observes(author, kind, subject string) Verdict {
	f.t.Helper()
	f.nonces++
	body := ledger.Observe{Kind: kind, Subject: subject, Counter: f.nonces, From: f.tick(), To: f.tick()}
	if kind == ledger.NodeBad {
		body.Cause = ledger.CauseInvalid
	}
	return f.apply(ledger.CommandStatements, f.sign(saying{author: author, typ: ledger.TypeObserve, body: body})).Verdicts[0]
}

func (f *fleet) monitors(subject string) []ledger.Monitor {
	f.t.Helper()
	n, ok := f.state.Node(subject)
	if !ok {
		f.t.Fatalf("no node %s", subject)
	}
	return f.state.Monitors(&n, f.state.Epoch(), f.state.Electorate())
}

func (f *fleet) standing(name string) string {
	n, _ := f.state.Node(name)
	return n.Standing
}

// whole checks the state, that its records make it again, and that its entries
// derive it again.
func (f *fleet) whole(t *testing.T) {
	t.Helper()
	checkState(t, f.state)
	r, err := NewReplayer(f.entry0, f.verify)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.entries {
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if r.State().Digest() != f.state.Digest() {
		t.Error("the entries derive another state")
	}
}

// effects lists the effects of a type that the ledger has, as JSON.
func (f *fleet) effects(typ string) []string {
	var found []string
	for _, b := range f.entries {
		e, err := ledger.ParseEntry(b)
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		if e.Kind != ledger.KindEffect {
			continue
		}
		effect, err := e.Effect()
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		if effect.Type == typ {
			found = append(found, string(effect.Body))
		}
	}
	return found
}

// A verdict needs more than two thirds of those who were drawn, and nobody
// else's word is taken.
func TestVerdictNeedsItsQuorum(t *testing.T) {
	for _, kind := range []string{ledger.NodeDown, ledger.NodeBad} {
		t.Run(kind, func(t *testing.T) {
			f := newFleet(t, 10, 2)
			f.epochs(1)
			monitors := f.monitors("n-00-0")
			if len(monitors) != 9 {
				t.Fatalf("%d monitors", len(monitors))
			}
			stranger := "n-00-1" // of the same operator
			if v := f.observes(stranger, kind, "n-00-0"); v.Code != NotMonitor {
				t.Errorf("a stranger: %s", v.Code)
			}
			for i, m := range monitors[:7] {
				if n := len(f.effects(EffectVerdict)); n != 0 {
					t.Fatalf("a verdict by %d of 9", i)
				}
				if v := f.observes(m.Node, kind, "n-00-0"); v.Code != OK {
					t.Fatalf("monitor %d: %s %s", i, v.Code, v.Detail)
				}
				if v := f.observes(m.Node, kind, "n-00-0"); i < 6 && v.Code != OK {
					t.Fatalf("said twice: %s", v.Code)
				}
			}
			if n := len(f.effects(EffectVerdict)); n != 1 {
				t.Fatalf("%d verdicts by 7 of 9", n)
			}
			if down := f.state.reputation("n-00-0").Down; down != (kind == ledger.NodeDown) {
				t.Errorf("down is %v", down)
			}
			f.whole(t)
		})
	}
}

// What an epoch's monitors said is not added to what another's say, nor what is
// older than the window.
func TestWordsGrowOld(t *testing.T) {
	f := newFleet(t, 10, 1)
	f.epochs(1)
	for _, m := range f.monitors("n-00-0")[:6] {
		f.observes(m.Node, ledger.NodeDown, "n-00-0")
	}
	f.now += (f.policy.WindowTicks + 2) * f.genesis.Policy.TickMillis
	f.observes(f.monitors("n-00-0")[6].Node, ledger.NodeDown, "n-00-0")
	if n := len(f.effects(EffectVerdict)); n != 0 {
		t.Error("a verdict of words that were not said together")
	}
	f.whole(t)
}

func TestEquivocationExcludes(t *testing.T) {
	f := newFleet(t, 4, 1)
	f.epochs(1)
	seq := uint64(77)
	say := func(text string) []byte {
		return f.sign(saying{author: "n-01-0", typ: ledger.TypeRecord, body: ledger.Record{Text: text}, change: func(p *ledger.Payload) { p.Seq = &seq }})
	}
	evidence := ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{say("to some"), say("to others")}}
	f.submit(f.sign(saying{author: "n-02-0", typ: ledger.TypeEvidence, body: evidence}))
	if got := f.standing("n-01-0"); got != NodeExcluded {
		t.Errorf("the equivocator is %s", got)
	}
	r := f.apply(ledger.CommandStatements, f.sign(saying{author: "r1", typ: ledger.TypeEvidence, body: evidence}))
	if r.Verdicts[0].Code != OffenceKnown {
		t.Errorf("again: %s", r.Verdicts[0].Code)
	}
	r = f.apply(ledger.CommandStatements, f.sign(saying{author: "n-01-0", typ: ledger.TypeRecord, body: ledger.Record{Text: "let me"}}))
	if r.Verdicts[0].Code != NodeIsExcluded {
		t.Errorf("who is excluded says: %s", r.Verdicts[0].Code)
	}
	f.whole(t)
}

// attestAll has every node that is drawn for the window before attest all that
// it watched in it, but for some.
func (f *fleet) attestAll(except ...string) int {
	f.t.Helper()
	return f.attestAllBut(except, nil)
}

// attestAllBut leaves some out, and complains of others.
func (f *fleet) attestAllBut(except, against []string) int {
	f.t.Helper()
	complaints := map[string]map[uint64][]uint32{}
	window := f.state.Epoch()/f.policy.AttestEpochs - 1
	first := window * f.policy.AttestEpochs
	electorate := f.state.Electorate()
	watched := map[string]map[uint64][]uint32{}
	for _, n := range f.state.Nodes("", 1<<20) {
		for epoch := first; epoch < first+f.policy.AttestEpochs; epoch++ {
			for _, m := range f.state.Monitors(&n, epoch, electorate) {
				if watched[m.Node] == nil {
					watched[m.Node] = map[uint64][]uint32{}
				}
				if slices.Contains(against, n.Name) {
					if complaints[m.Node] == nil {
						complaints[m.Node] = map[uint64][]uint32{}
					}
					complaints[m.Node][epoch] = append(complaints[m.Node][epoch], uint32(n.Ordinal))
				} else if !slices.Contains(except, n.Name) {
					watched[m.Node][epoch] = append(watched[m.Node][epoch], uint32(n.Ordinal))
				}
			}
		}
	}
	count := 0
	for _, name := range sortedKeys(watched) {
		n, _ := f.state.Node(name)
		if _, drawn := f.state.AttestWindow(&n); !drawn {
			continue
		}
		body := ledger.Attest{}
		for epoch := first; epoch < first+f.policy.AttestEpochs; epoch++ {
			clean, cause := watched[name][epoch], complaints[name][epoch]
			slices.Sort(clean)
			slices.Sort(cause)
			body.Epochs = append(body.Epochs, ledger.AttestedEpoch{Cause: omitEmpty(ledger.EncodeOrdinals(cause)), Clean: ledger.EncodeOrdinals(clean), Epoch: epoch})
		}
		f.submit(f.sign(saying{author: name, typ: ledger.TypeAttest, body: body}))
		count++
	}
	return count
}

func omitEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// Clean attested epochs restore what an offence took, and only they.
func TestGoodBehaviourRestores(t *testing.T) {
	f := newFleet(t, 5, 2, func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		p.AttestEpochs, p.Attestors = 4, 5 // all attest
		g.Policy.Protection = &p
	})
	f.epochs(8)
	before := f.state.reputation("n-00-0").Reputation
	if n := f.attestAll("n-01-0"); n == 0 {
		t.Fatal("nobody attests")
	}
	f.epochs(4)
	if got := f.state.reputation("n-00-0").Reputation; got != before+4*f.policy.CleanPoints {
		t.Errorf("after 4 clean epochs %d, before %d", got, before)
	}
	if got := f.state.reputation("n-01-0").Reputation; got != before {
		t.Errorf("who was not attested has %d, had %d", got, before)
	}
	f.whole(t)
}
