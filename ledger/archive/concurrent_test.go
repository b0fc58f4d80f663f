package archive

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestReadersBesideWriter lets readers check all they see while one goroutine appends, one syncs, one
// fills the gap and one verifies. Its worth is under the race detector.
func TestReadersBesideWriter(t *testing.T) {
	const (
		whole, island, end = 700, 1500, 4000
	)
	w := tinyTwin(end)
	a, err := Open(t.TempDir(), Options{CacheTiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, a, w, whole)
	if err := a.StartIsland(w.frontier(island)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	errs := make(chan error, 16)
	run := func(group *sync.WaitGroup, step func(rng *rand.Rand) (more bool, err error)) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(1, 2))
			for {
				more, err := step(rng)
				if err != nil {
					errs <- err
				}
				if err != nil || !more {
					return
				}
			}
		})
	}
	stopped := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	run(&writers, func(*rand.Rand) (bool, error) {
		seq := a.Size()
		if seq == end {
			return false, nil
		}
		return true, a.Append(seq, w.entries[seq])
	})
	run(&writers, func(*rand.Rand) (bool, error) {
		size, err := a.Sync()
		return size < end, err
	})
	run(&writers, func(*rand.Rand) (bool, error) {
		from, to, gap := a.Gap()
		if !gap {
			return false, nil
		}
		return true, a.Backfill(from, w.entries[from:min(from+90, to)])
	})
	for range 2 {
		run(&readers, func(rng *rand.Rand) (bool, error) { return !stopped(), readAtRandom(a, w, rng) })
	}
	run(&readers, func(*rand.Rand) (bool, error) { return !stopped(), a.Verify(nil) })
	writers.Wait()
	close(done)
	readers.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	checkTree(t, a, w, end, []uint64{0, whole, island, end - 1}, []uint64{whole, island, end})
	checkTiles(t, a, w, end)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAtRandom reads one of each; what is in the gap may be refused.
func readAtRandom(a *Archive, w *twin, rng *rand.Rand) error {
	size := a.Size()
	seq := rng.Uint64N(size)
	if entry, err := a.Entry(seq); err == nil {
		if !bytes.Equal(entry, w.entries[seq]) {
			return fmt.Errorf("entry %d differs", seq)
		}
	} else if !errors.Is(err, ErrGap) {
		return err
	}
	root, err := a.TreeHash(size)
	if err != nil || root != w.root(size) {
		return fmt.Errorf("root of %d: %w", size, err)
	}
	proof, err := a.ProveInclusion(seq, size)
	if err == nil {
		err = tlog.CheckRecord(proof, int64(size), root, int64(seq), tlog.RecordHash(w.entries[seq]))
	}
	if err != nil && !errors.Is(err, ErrGap) {
		return err
	}
	n := seq / 256
	if tile, err := a.Tile(0, n, 256); err == nil {
		if !bytes.Equal(tile, w.tile(0, n, 256)) {
			return fmt.Errorf("tile %d differs", n)
		}
	} else if !errors.Is(err, ErrGap) && !errors.Is(err, ErrNotFound) {
		return err
	}
	if _, err := a.Bundle(n, 256); err != nil && !errors.Is(err, ErrGap) && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// slowDisk is one whose fsyncs say that they began and wait until they are let go.
type slowDisk struct {
	*faultFS
	began, letGo chan struct{}
}

type slowFile struct {
	File
	disk slowDisk
}

func (d slowDisk) Create(name string) (File, error) {
	f, err := d.faultFS.Create(name)
	return slowFile{f, d}, err
}

func (f slowFile) Sync() error {
	f.disk.began <- struct{}{}
	<-f.disk.letGo
	return f.File.Sync()
}

// TestAppendDoesNotWaitForDisk: while an fsync hangs, entries are taken and read, up to the limit on what
// may be pending. The one above the limit waits until all of them are durable.
func TestAppendDoesNotWaitForDisk(t *testing.T) {
	disk := slowDisk{newFaultFS(), make(chan struct{}), make(chan struct{})}
	go func() { <-disk.began; disk.letGo <- struct{}{} }() // the fsync of Open
	a := open(t, disk)
	entry := bytes.Repeat([]byte{1}, MaxEntryBytes)
	add := func(seq uint64) {
		if err := a.Append(seq, entry); err != nil {
			t.Error(err)
		}
	}
	add(0)
	var done sync.WaitGroup
	done.Go(func() {
		if _, err := a.Sync(); err != nil {
			t.Error(err)
		}
	})
	<-disk.began
	const most = maxPendingBytes / MaxEntryBytes
	for seq := uint64(1); seq < most; seq++ {
		add(seq)
	}
	if got, err := a.Entry(most - 1); err != nil || len(got) != MaxEntryBytes || a.Size() != most || a.Durable() != 0 {
		t.Fatalf("%d entries, %d durable, %v", a.Size(), a.Durable(), err)
	}
	above := make(chan struct{})
	done.Go(func() { add(most); close(above) })
	for a.Size() == most {
		runtime.Gosched()
	}
	disk.letGo <- struct{}{}
	for waiting := true; waiting; {
		select {
		case <-disk.began:
			disk.letGo <- struct{}{}
		case <-above:
			waiting = false
		}
	}
	done.Wait()
	if a.Durable() != most+1 {
		t.Fatalf("%d durable", a.Durable())
	}
}
