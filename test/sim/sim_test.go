package sim

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

var (
	flagSeed   = flag.Uint64("sim.seed", 1, "seed of the simulation")
	flagHours  = flag.Float64("sim.hours", 20, "virtual hours in all")
	flagRecord = flag.String("sim.record", "", "folder for the record of each run; default ../../bin/sim, and of failures only")
	flagReplay = flag.String("sim.replay", "", "record of a run to carry out again: the same faults on the same replicas at the same times")
)

// failuresDir is where the records of failures go, seen from this folder.
const failuresDir = "../../bin/sim"

func TestSim(t *testing.T) {
	if *flagReplay != "" {
		replay(t, *flagReplay)
		return
	}
	length := time.Duration(*flagHours * float64(time.Hour))
	for i, n := range []int{3, 4, 5} {
		p := draw(*flagSeed+uint64(i), n, length/3)
		t.Run(fmt.Sprintf("%d replicas, seed %d", n, p.Seed), func(t *testing.T) {
			t.Parallel()
			r := newRecorder(p, nil)
			res := run(t, p, r, nil)
			t.Log(res)
			keep(t, r, res)
			if res.violation != nil {
				t.Errorf("%v; make sim SEED=%d HOURS=%g draws the same faults", res.violation, *flagSeed, *flagHours)
			}
			if res.acks < 20*p.Rounds || res.decisions < 2*p.Rounds {
				t.Errorf("%d acknowledgements and %d decisions in %d rounds: hardly anything was tried", res.acks, res.decisions, p.Rounds)
			}
			if p.Rounds >= 6 && res.rotations == 0 { // of half an hour each
				t.Errorf("no replica rotated its key in %d rounds", p.Rounds)
			}
		})
	}
}

// keep writes the record of a failure, or of every run when asked to.
func keep(t *testing.T, r *recorder, res result) {
	t.Helper()
	folder := *flagRecord
	if folder == "" {
		folder = failuresDir
		if res.violation == nil {
			return
		}
	}
	path := filepath.Join(folder, fmt.Sprintf("seed-%d.json", r.record.Plan.Seed))
	if err := r.save(path, res.violation); err != nil {
		t.Error(err)
		return
	}
	if full, err := filepath.Abs(path); err == nil {
		t.Logf("recorded; make sim REPLAY=%s repeats it", full)
	}
}

// replay carries out a recorded run again, and says how far its deliveries were
// the same.
func replay(t *testing.T, path string) {
	recorded, err := loadRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(recorded.Plan.Liars) > 0 {
		t.Fatal("the record is of a run with liars, which are code: run that test by its seed")
	}
	r := newRecorder(&recorded.Plan, recorded)
	res := run(t, &recorded.Plan, r, nil)
	t.Log(res)
	if res.parted > 0 {
		t.Logf("the same faults; the deliveries were those of the record for %s of %d minutes", res.parted, len(recorded.Minutes))
	} else {
		t.Log("the same faults and the same deliveries")
	}
	switch {
	case res.violation != nil:
		t.Errorf("seed %d: %v", recorded.Plan.Seed, res.violation)
	case recorded.Violated != "":
		t.Logf("the recorded run had found: %s; this one found nothing", recorded.Violated)
	}
}
