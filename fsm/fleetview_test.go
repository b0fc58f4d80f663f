package fsm

import (
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// seqsOfEffect lists where the effects of a type stand.
func (f *fleet) seqsOfEffect(typ string) []uint64 {
	f.t.Helper()
	var found []uint64
	for _, b := range f.entries {
		e, err := ledger.ParseEntry(b)
		if err != nil {
			f.t.Fatal(err)
		}
		if e.Kind != ledger.KindEffect {
			continue
		}
		effect, err := e.Effect()
		if err != nil {
			f.t.Fatal(err)
		}
		if effect.Type == typ {
			found = append(found, e.Seq)
		}
	}
	return found
}

// A node's record says where the newest effect about it stands.
func TestReputationNamesItsLastEffect(t *testing.T) {
	f := newFleet(t, 10, 1)
	f.epochs(1)
	if r, ok := f.state.Reputation("n-00-0"); !ok || r.Last != 0 {
		t.Fatalf("before: %+v %v", r, ok)
	}
	for _, m := range f.monitors("n-00-0") {
		f.observes(m.Node, ledger.NodeBad, "n-00-0")
	}
	r, _ := f.state.Reputation("n-00-0")
	if offences := f.seqsOfEffect(EffectOffence); len(offences) == 0 || r.Last != offences[len(offences)-1] {
		t.Errorf("last is %d, the offences are at %v", r.Last, offences)
	}
	for r.Reputation >= f.policy.QuarantineBelow {
		f.epochs(1)
		for _, m := range f.monitors("n-00-0") {
			f.observes(m.Node, ledger.NodeBad, "n-00-0")
		}
		next, _ := f.state.Reputation("n-00-0")
		if next.Reputation == r.Reputation {
			t.Fatalf("it stays at %d", r.Reputation)
		}
		r = next
	}
	quarantined := f.seqsOfEffect(EffectQuarantined)
	n, _ := f.state.Node("n-00-0")
	if len(quarantined) != 1 || r.Last != quarantined[0] || n.Since != quarantined[0] {
		t.Errorf("last is %d and since %d, the quarantine is at %v", r.Last, n.Since, quarantined)
	}
	f.whole(t)
}

func TestProbation(t *testing.T) {
	f := newFleet(t, 3, 1)
	f.epochs(1)
	founder, _ := f.state.Node("n-00-0")
	if p := f.state.Probation(&founder); p != nil {
		t.Errorf("a founder is on probation: %+v", p)
	}
	join := f.sign(saying{author: "late", typ: ledger.TypeJoin, body: ledger.Join{Name: "late", Operator: operatorName(0), Peer: filler("peer late", 32), Public: publicOf("late")}})
	f.submit(join)
	p := f.propose("alice", "node.admit", admitArgs{Joins: []ledger.Hash{idOf(join)}})
	f.submit(p, f.ballot("bob", ledger.TypeApprove, p))
	late, ok := f.state.Node("late")
	if !ok {
		t.Fatal("it was not admitted")
	}
	got := f.state.Probation(&late)
	if got == nil || !got.Young || !got.Disreputable || got.Until != late.Admitted+f.policy.AgeEpochs {
		t.Errorf("who came late: %+v", got)
	}
	if seqs := f.state.KeysOf("late"); len(seqs) != 1 || seqs[0] != late.Since {
		t.Errorf("its keys are of %v, it is there since %d", seqs, late.Since)
	}
	late.Standing = NodeQuarantined
	if p := f.state.Probation(&late); p != nil {
		t.Errorf("who is quarantined is on probation: %+v", p)
	}
}

func TestLinksInPages(t *testing.T) {
	f := newFleet(t, 4, 1)
	f.epochs(1)
	for _, far := range []string{"n-01-0", "n-02-0", "n-03-0"} {
		if v := f.observes("n-00-0", ledger.LinkDown, far); v.Code != OK {
			t.Fatalf("%s: %s", v.Code, v.Detail)
		}
	}
	f.observes("n-01-0", ledger.LinkDown, "n-00-0")
	var got []string
	for after := ""; ; {
		page := f.state.Links(after, 2)
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			after = l.Ends[0] + "/" + l.Ends[1]
			got = append(got, after)
			if l.Down != (l.Ends[1] == "n-01-0") {
				t.Errorf("%s down is %v", after, l.Down)
			}
		}
	}
	if want := []string{"n-00-0/n-01-0", "n-00-0/n-02-0", "n-00-0/n-03-0"}; !slices.Equal(got, want) {
		t.Errorf("links %v, want %v", got, want)
	}
}
