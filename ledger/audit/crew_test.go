package audit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whoever has left takes parts of what another shares, and goes only when nobody
// shares anything any more.
func TestCrewHelps(t *testing.T) {
	const parts = 3
	c := newCrew(parts)
	var gone sync.WaitGroup
	for range parts - 1 {
		gone.Go(c.leave)
	}
	for range 4 {
		// No part ends before all have begun, which takes a worker each.
		var begun sync.WaitGroup
		begun.Add(parts)
		all := make(chan struct{})
		go func() { begun.Wait(); close(all) }()
		var done atomic.Int64
		c.share(parts, func(int) {
			begun.Done()
			select {
			case <-all:
				done.Add(1)
			case <-time.After(time.Minute):
				t.Error("nobody helps")
			}
		})
		if done.Load() != parts {
			t.Fatalf("%d of %d parts are done", done.Load(), parts)
		}
	}
	c.leave()
	gone.Wait()
}

// Every part is done once, whoever shares and whoever leaves meanwhile.
func TestCrewDoesEachPartOnce(t *testing.T) {
	const workers, rounds, parts = 4, 60, 7
	c := newCrew(workers)
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for round := range rounds * (worker + 1) / workers {
				var did [parts]atomic.Int64
				c.share(round%(parts+1), func(part int) { did[part].Add(1) })
				for part := range did {
					if want := int64(1); did[part].Load() != want && part < round%(parts+1) || part >= round%(parts+1) && did[part].Load() != 0 {
						t.Errorf("part %d was done %d times", part, did[part].Load())
					}
				}
			}
			c.leave()
		})
	}
	all.Wait()
	if len(c.open) != 0 || c.working != 0 {
		t.Errorf("%d open, %d working", len(c.open), c.working)
	}
}
