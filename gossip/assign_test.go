package gossip

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// Who is assigned a subject is who was drawn for it, whoever asks.
func TestAssignmentsAreTheDraw(t *testing.T) {
	w := newWorld(9, 3)
	w.rules.Protection.Monitors = 5
	seed, _ := w.Seed(100)
	for _, name := range w.names {
		var want []string
		for _, m := range ledger.Draw(seed, name, w.nodes[name].Operator, w.stables, 5) {
			want = append(want, m.Node)
		}
		var got []string
		for _, me := range w.names {
			a := Assign(w, me, 100, nil)
			if slices.ContainsFunc(a.Subjects, func(d Duty) bool { return d.Name == name }) {
				got = append(got, me)
			}
			if me == name {
				slices.Sort(want)
				if !slices.Equal(a.Askers, want) {
					t.Fatalf("%s expects %v, drawn are %v", me, a.Askers, want)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%s is watched by %v, drawn are %v", name, got, want)
		}
	}
}

// What a node probes does not grow with the fleet, and no tick is crowded.
func TestProbesPerNodeAreConstant(t *testing.T) {
	for _, fleet := range []struct{ operators, nodes int }{{4, 5}, {25, 4}, {100, 5}, {100, 50}} {
		w := newWorld(fleet.operators, fleet.nodes)
		p := w.rules.Protection
		most, total, asked, busiest := 0, 0, 0, 0
		n := len(w.names)
		sample := w.names
		if n > 100 {
			sample = nil
			for i := range 40 {
				sample = append(sample, w.names[i*n/40])
			}
		}
		for _, me := range sample {
			a := Assign(w, me, 100, nil)
			total, most, asked = total+len(a.Subjects), max(most, len(a.Subjects)), asked+a.Left
			for tick := range p.ProbeTicks {
				due := 0
				for i := range a.Subjects {
					if a.Subjects[i].Due(tick) {
						due++
					}
				}
				busiest = max(busiest, due)
			}
		}
		mean := total / len(sample)
		t.Logf("%4d nodes: %d subjects a node (most %d, left %d), %d probes an epoch, at most %d in a tick",
			n, mean, most, asked, uint64(mean)*w.rules.EpochTicks()/p.ProbeTicks, busiest)
		want := min(p.DrawnOf(fleet.operators), fleet.operators-1)
		if mean < want*3/4 || mean > want*5/4+1 || most > MaxSubjects {
			t.Errorf("%d nodes: %d subjects a node, want about %d", n, mean, want)
		}
		if busiest > most*3/4 && most > 12 {
			t.Errorf("%d nodes: %d of %d probes in one tick", n, busiest, most)
		}
	}
}

// A small operator among large ones is drawn for more than it can watch: it
// watches what it has seqs for, and says how many it leaves.
func TestASmallOperatorLeavesSubjects(t *testing.T) {
	w := newWorld(20, 30)
	w.add(ledger.Stable{Operator: "small", Nodes: []string{"lonely"}})
	a := Assign(w, "lonely", 100, []string{"n-000-000", "n-000-000", "lonely", "nobody"})
	rules := w.Rules()
	if len(a.Subjects) > subjectLimit(&rules, 1) || len(a.Subjects) == 0 || a.Left != 600-len(a.Subjects) || len(a.Links) != 1 {
		t.Errorf("%d subjects, %d left, %d links", len(a.Subjects), a.Left, len(a.Links))
	}
	if probes := uint64(len(a.Subjects)) * (rules.EpochTicks() / rules.Protection.ProbeTicks); probes > rules.Protection.ProbeQuota*probesShare/8 {
		t.Errorf("%d probes an epoch", probes)
	}
	for i := range a.Subjects[1:] {
		if a.Subjects[i].Name >= a.Subjects[i+1].Name {
			t.Fatal("the subjects are not by name")
		}
	}
}

// With as many links as a node may declare, the quota still pays for all that it
// watches in a fleet of equal operators.
func TestLinksLeaveRoomForSubjects(t *testing.T) {
	w := newWorld(50, 3)
	rules := w.Rules()
	if room, need := subjectLimit(&rules, MaxLinks), ledger.MonitorsFor(1_024); room < need {
		t.Errorf("beside %d links a node watches %d, and may be drawn for %d on average", MaxLinks, room, need)
	}
	a := Assign(w, "n-000-000", 100, w.names[3:3+MaxLinks])
	if len(a.Links) != MaxLinks || a.Left != 0 || len(a.Subjects) < 30 {
		t.Errorf("%d links, %d subjects, %d left", len(a.Links), len(a.Subjects), a.Left)
	}
}

func TestAttestation(t *testing.T) {
	w := newWorld(4, 2)
	w.rules.Protection.AttestEpochs = 8
	me := w.names[0]
	watched := func(epoch uint64) (clean, cause []string) {
		return []string{w.names[int(epoch)%4+2], w.names[1], "gone"}, []string{w.names[7]}
	}
	if _, ok := Attestation(w, me, watched); ok {
		t.Error("who is not drawn attests")
	}
	w.attests = map[string]uint64{me: 92}
	a, ok := Attestation(w, me, watched)
	if !ok || len(a.Epochs) != 8 || a.Check() != nil {
		t.Fatalf("%+v, %v", a, ok)
	}
	for i, e := range a.Epochs {
		clean, _ := e.Ordinals()
		cause, _ := e.Complaints()
		if e.Epoch != uint64(92+i) || fmt.Sprint(clean, cause) != fmt.Sprintf("[%d] [8]", (92+i)%4+3) {
			t.Errorf("epoch %d: clean %v, cause %v", e.Epoch, clean, cause)
		}
	}
	if _, ok := Attestation(w, me, func(uint64) (a, b []string) { return nil, nil }); ok {
		t.Error("nothing is attested")
	}
	many := func(uint64) (clean, cause []string) {
		for i := range 200 {
			name := fmt.Sprintf("x-%03d", i)
			w.nodes[name] = Node{Name: name, Operator: "x", Standing: Active, Ordinal: uint64(1_000 + i)}
			clean = append(clean, name)
		}
		return clean, nil
	}
	if a, ok = Attestation(w, me, many); !ok || a.Check() != nil {
		t.Errorf("more than fits: %v, %v", ok, a.Check())
	}
}
