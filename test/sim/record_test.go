package sim

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A record read back carries out the same faults on the same replicas at the
// same times, whoever leads meanwhile.
func TestReplayRepeatsTheFaults(t *testing.T) {
	p := script(3, 6*time.Minute,
		fault{At: time.Minute, For: 20 * time.Second, Kind: faultPartition, Target: roleLeader, Others: []string{"r2"}},
		fault{At: 2 * time.Minute, For: 30 * time.Second, Kind: faultCrash, Target: roleLeader},
		fault{At: 3 * time.Minute, For: time.Minute, Kind: faultClock, Target: roleLeader, Amount: -20_000})
	first := newRecorder(p, nil)
	if res := run(t, p, first, nil); res.violation != nil {
		t.Fatal(res.violation)
	}
	path := filepath.Join(t.TempDir(), "record.json")
	if err := first.save(path, nil); err != nil {
		t.Fatal(err)
	}
	recorded, err := loadRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range recorded.Plan.Faults {
		if f.Target == roleLeader {
			t.Fatalf("the record does not say whom %v hit", f)
		}
	}
	second := newRecorder(&recorded.Plan, recorded)
	if res := run(t, &recorded.Plan, second, nil); res.violation != nil {
		t.Fatal(res.violation)
	}
	if a, b := faultLines(first), faultLines(second); len(a) != 3 || !reflect.DeepEqual(a, b) {
		t.Fatalf("the faults were\n%s\nin the replay\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if len(second.record.Minutes) == 0 || len(recorded.Minutes) == 0 {
		t.Fatal("no minute of deliveries was recorded")
	}
}

// faultLines are the notes of the faults that a run carried out.
func faultLines(r *recorder) []string {
	return slices.DeleteFunc(slices.Clone(r.carried), func(line string) bool { return strings.Contains(line, faultLook) })
}

// The plan follows from the seed, and another seed gives another.
func TestPlanFollowsFromTheSeed(t *testing.T) {
	a, b, c := draw(5, 5, 10*time.Hour), draw(5, 5, 10*time.Hour), draw(6, 5, 10*time.Hour)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a.Faults, c.Faults) {
		t.Fatal("the plan is not a function of the seed")
	}
	kinds := map[string]bool{}
	for _, f := range a.Faults {
		kinds[f.Kind] = true
		if f.At+f.For > a.Round {
			t.Errorf("%v outlives its round", f)
		}
	}
	for _, one := range faultWeights {
		if !kinds[one.kind] {
			t.Errorf("ten hours have no %s", one.kind)
		}
	}
	for _, kind := range []string{faultAdd, faultRemove, faultRekey, faultLose} {
		if !kinds[kind] {
			t.Errorf("ten hours have no %s", kind)
		}
	}
}
