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
	flagHours  = flag.Float64("sim.hours", 3, "virtual hours in all")
	flagRecord = flag.String("sim.record", "", "folder for the record of each run; default a temporary one")
)

func TestSim(t *testing.T) {
	length := time.Duration(*flagHours * float64(time.Hour))
	for i, n := range []int{3, 4, 5} {
		p := draw(*flagSeed+uint64(i), n, length/3)
		t.Run(fmt.Sprintf("%d replicas, seed %d", n, p.Seed), func(t *testing.T) {
			r := newRecorder(p, nil)
			res := run(t, p, r, nil)
			t.Log(res)
			if res.violation != nil {
				folder := *flagRecord
				if folder == "" {
					folder = t.TempDir()
				}
				path := filepath.Join(folder, fmt.Sprintf("seed-%d.json", p.Seed))
				if err := r.save(path, res.violation); err != nil {
					t.Error(err)
				}
				t.Errorf("seed %d: %v; its record is %s", p.Seed, res.violation, path)
			}
		})
	}
}
