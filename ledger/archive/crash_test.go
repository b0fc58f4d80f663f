package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// story is what the crash matrix runs: a history, a snapshot that leaves a gap, a peer that backfills
// lies, one that backfills the truth, and on. The numbers cross bundle boundaries, or stop in the middle
// of a bundle.
type story struct {
	whole  uint64 // where the history breaks off
	island uint64 // where the island begins
	join   uint64 // where the island has got to when the gap is filled
	again  uint64 // where a second island begins, after the gap has been filled; 0 for none
	end    uint64
	// rough leaves out the cases that the other story covers.
	rough bool
}

var stories = map[string]story{
	// 777 = 512 + 256 + 8 + 1; the island's head is cut off at 1024.
	"one-gap": {whole: 310, island: 777, join: 1040, end: 1300},
	// No bundle is cut by the first island, so that only staged files are moved.
	"two-gaps": {whole: 290, island: 768, join: 800, again: 1026, end: 1300, rough: true},
}

// promise is what the archive has acknowledged so far.
type promise struct {
	whole  uint64 // entries [0, whole) are durable
	island uint64 // and, when it is not 0, so are [island, end)
	end    uint64
}

// telling is one run of a story.
type telling struct {
	story
	w       *twin
	disk    FS
	a       *Archive
	p       promise
	offered uint64 // the size up to which entries were ever appended
	full    bool   // there was no space once, and the step was tried again
}

func (s *telling) open() (err error) {
	s.a, err = Open("log", Options{FS: s.disk})
	return err
}

func (s *telling) reopen() error {
	if err := s.a.Close(); err != nil {
		return err
	}
	return s.open()
}

func (s *telling) appendTo(to uint64) error {
	for seq := s.a.Size(); seq < to; seq++ {
		if err := s.a.Append(seq, s.w.entries[seq]); err != nil {
			return err
		}
		s.offered = max(s.offered, seq+1)
	}
	return nil
}

func (s *telling) syncAt(to uint64) error {
	if err := s.appendTo(to); err != nil {
		return err
	}
	size, err := s.a.Sync()
	if err != nil {
		return err
	}
	if size != to || s.a.Durable() != to {
		return fmt.Errorf("synced %d of %d", size, to)
	}
	if s.p.island == 0 {
		s.p.whole = size
	} else {
		s.p.end = size
	}
	return nil
}

func (s *telling) startIsland(at uint64) error {
	s.offered = at
	if err := s.a.StartIsland(s.w.frontier(at)); err != nil {
		return err
	}
	s.p.island, s.p.end = at, at
	return nil
}

func (s *telling) backfill(to uint64) error {
	from := s.a.Whole()
	err := s.a.Backfill(from, s.w.entries[from:to])
	if _, _, gap := s.a.Gap(); err == nil && !gap {
		s.p = promise{whole: s.a.Durable()}
	}
	return err
}

// lie backfills what is found out where the subtree that ends at 768 does, when a bundle is staged.
func (s *telling) lie() error {
	lies := slices.Clone(s.w.entries[:768])
	lies[690] = []byte("a lie")
	if from := s.a.Whole(); from < 520 {
		if err := s.a.Backfill(from, lies[from:520]); err != nil {
			return err
		}
	}
	if err := s.a.Backfill(520, lies[520:]); !errors.Is(err, ErrConflict) {
		return fmt.Errorf("the lie: %w", err)
	}
	if s.a.Whole() != s.whole {
		return fmt.Errorf("whole up to %d after the lie", s.a.Whole())
	}
	return s.a.Failed()
}

func (s *telling) steps() []func() error {
	steps := []func() error{
		s.open,
		func() error { return s.syncAt(3) },
		func() error { return s.syncAt(200) },
		func() error { return s.syncAt(256) },
		func() error { return s.syncAt(270) },
		func() error { return s.appendTo(275) },
		s.reopen,
		func() error { return s.syncAt(s.whole) },
		func() error { return s.startIsland(s.island) },
		func() error { return s.syncAt(s.island + 5) },
		s.lie,
		func() error { return s.backfill(400) },
		func() error { return s.syncAt(s.join - 10) },
		func() error { return s.backfill(600) },
		s.reopen,
		func() error { return s.backfill(s.island - 7) },
		func() error { return s.syncAt(s.join - 1) },
		func() error { return s.appendTo(s.join) },
		func() error { return s.backfill(s.island) },
	}
	if s.again != 0 {
		steps = append(steps,
			func() error { return s.startIsland(s.again) },
			func() error { return s.backfill(s.join + 20) },
			func() error { return s.backfill(s.again) },
			func() error { return s.syncAt(s.again + 5) },
		)
	}
	return append(steps,
		func() error { return s.syncAt(1100) },
		func() error { return s.syncAt(s.end) },
		func() error { return s.a.Close() },
	)
}

// tellStory runs the story on a file system, until it ends or something fails. What it promises is what
// must hold after a crash at that moment.
func tellStory(st story, disk FS, w *twin) (s *telling, err error) {
	s = &telling{story: st, w: w, disk: disk}
	for _, step := range s.steps() {
		err = step()
		if errors.Is(err, ErrFull) {
			if f, ok := disk.(*faultFS); ok && strings.HasPrefix(f.trace[f.fault.at-1], "fsync") {
				return s, fmt.Errorf("an fsync that failed was tried again: %w", err)
			}
			if s.full = true; s.a.Failed() != nil && !errors.Is(s.a.Failed(), ErrClosed) {
				return s, fmt.Errorf("not final, and yet: %w", s.a.Failed())
			}
			err = step() // there is space again
		}
		if err != nil {
			break
		}
	}
	if err == nil || errors.Is(err, errDead) || s.a == nil {
		return s, err
	}
	if readErr := readsGoOn(s.a, w); readErr != nil {
		return s, fmt.Errorf("after %v: reading: %w", err, readErr)
	}
	if s.a.Append(s.a.Size(), []byte("more")) == nil {
		return s, fmt.Errorf("after %v: it took an entry", err)
	}
	if size, again := s.a.Sync(); again == nil {
		return s, fmt.Errorf("after %v: it said that %d entries are durable", err, size)
	}
	return s, err
}

// readsGoOn reads all that a failed archive says it has.
func readsGoOn(a *Archive, w *twin) error {
	v, err := a.view()
	if err != nil {
		return nil // Open or Close was what failed
	}
	check := func(seq uint64, entry []byte) error {
		if string(entry) != string(w.entries[seq]) {
			return fmt.Errorf("entry %d differs", seq)
		}
		return nil
	}
	if err := a.Entries(0, v.hist.size, check); err != nil {
		return err
	}
	if v.island != nil {
		return a.Entries(v.island.first, v.island.size, check)
	}
	return nil
}

// TestCrashMatrix lets the process die and each operation fail, at every operation of the story, with
// every aftermath, and opens the archive again. With -short it takes every fifth operation.
func TestCrashMatrix(t *testing.T) {
	w := testTwin(1300)
	stride := 1
	if testing.Short() {
		stride = 5
	}
	for name, st := range stories {
		disk := newFaultFS()
		if s, err := tellStory(st, disk, w); err != nil || s.p.whole != st.end {
			t.Fatalf("%s without a fault: %+v", name, err)
		}
		operations, trace := disk.count, disk.trace
		if operations < 150 {
			t.Fatalf("%s has only %d operations", name, operations)
		}
		for _, want := range []string{
			"rename log/tail", "rename log/island", "rename log/backfill/tail", "remove log/island",
			"rename log/tile/0/003", "fsync log/tmp/tail", "rename log/tile/entries/003",
		} {
			if !slices.Contains(trace, want) {
				t.Fatalf("%s never does %q", name, want)
			}
		}
		// To die before an operation is to die after the one before it.
		kinds, after := []faultKind{dieAfter, failUndone, failDone}, aftermaths
		if st.rough {
			kinds, after = []faultKind{dieAfter, failDone}, []aftermath{nonePersisted, anythingHolds}
		}
		t.Logf("%s: %d operations, %d cases", name, operations, operations*len(kinds)*len(after))
		for _, after := range after {
			t.Run(name+"/"+strings.ReplaceAll(after.String(), " ", "-"), func(t *testing.T) {
				t.Parallel()
				for _, kind := range kinds {
					for at := 1; at <= operations; at += stride {
						crashOnce(t, st, w, fault{at, kind}, after, trace[at-1])
					}
				}
			})
		}
	}
}

// crashOnce runs the story with one fault, and what comes after it.
func crashOnce(t *testing.T, st story, w *twin, f fault, after aftermath, where string) {
	disk := newFaultFS()
	disk.fault = f
	s, err := tellStory(st, disk, w)
	p := s.p
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("operation %d (%s) %s, %s, promise %+v: %s", f.at, where, f.kind, after, p, fmt.Sprintf(format, args...))
	}
	switch {
	case f.kind <= dieAfter && !errors.Is(err, errDead) && !disk.dead:
		fail("the story went on: %v", err)
	case s.full && err != nil:
		fail("with space again: %v", err)
	case f.kind > dieAfter && !errors.Is(err, errFault) && !s.full:
		fail("the fault was swallowed: %v", err)
	}
	rng := rand.New(rand.NewPCG(uint64(f.at), uint64(after)*10+uint64(f.kind)))
	disk = disk.reboot(after, rng)
	disk.fault = fault{1 + rng.IntN(16), faultKinds[rng.IntN(len(faultKinds))]}
	_, _ = Open("log", Options{FS: disk}) // is hit while it recovers, or right after
	disk = disk.reboot(after, rng)
	a, err := Open("log", Options{FS: disk})
	if err != nil {
		fail("open: %v", err)
	}
	from, to, gap := a.Gap()
	end := a.Size()
	if end > s.offered {
		fail("%d entries, of %d that were ever appended", end, s.offered)
	}
	whole := end
	if gap {
		v, _ := a.view()
		whole = v.hist.size
		if (to != st.island && to != st.again) || from < whole || from >= to {
			fail("a gap from %d (%d) to %d", from, whole, to)
		}
		if p.island == 0 && p.whole > to {
			fail("a gap that had been filled")
		}
		checkEntries(t, a, w, to, end)
		checkTree(t, a, w, end, []uint64{to, (to + end) / 2, end - 1}[:min(3, end-to)], []uint64{to, (to + end) / 2, end})
	}
	if whole < p.whole || end < p.end || (p.island != 0 && gap && to != p.island) {
		fail("whole up to %d, gap up to %d, ends at %d", whole, to, end)
	}
	checkEntries(t, a, w, 0, whole)
	checkTree(t, a, w, whole, []uint64{0, whole / 2, whole - min(1, whole)}, []uint64{0, whole / 2, whole})
	if err := a.Verify(nil); err != nil {
		fail("verify: %v", err)
	}
	if err := carryOn(a, w, st.end); err != nil {
		fail("carry on: %v", err)
	}
	checkTree(t, a, w, st.end, []uint64{0, 300, 500, 777, 1023, 1024, 1299}, []uint64{1, 256, 777, 1024, 1299})
	checkTiles(t, a, w, st.end)
	if err := a.Close(); err != nil {
		fail("close: %v", err)
	}
	checkFiles(t, disk, w, st.end)
}

// carryOn brings the archive to its end, offering again what it has.
func carryOn(a *Archive, w *twin, end uint64) error {
	if from, to, gap := a.Gap(); gap {
		if err := a.Backfill(from, w.entries[from:to]); err != nil {
			return err
		}
		if _, _, gap := a.Gap(); gap {
			return errors.New("the gap is still there")
		}
	}
	for seq := a.Size() - min(a.Size(), 300); seq < end; seq++ {
		if err := a.Append(seq, w.entries[seq]); err != nil {
			return err
		}
	}
	if err := a.Append(100, []byte("other")); !errors.Is(err, ErrConflict) {
		return fmt.Errorf("other bytes for entry 100: %w", err)
	}
	if size, err := a.Sync(); err != nil || size != end {
		return fmt.Errorf("sync: %d, %w", size, err)
	}
	return nil
}

// checkFiles compares the files with those that a log of that size has: no more, no less.
func checkFiles(t *testing.T, disk *faultFS, w *twin, size uint64) {
	t.Helper()
	var want []string
	eachTile(size, func(level int, n uint64, width int) {
		if width < 256 {
			return
		}
		path := BundlePath(n, width)
		if level >= 0 {
			path = TilePath(level, n, width)
		}
		want = append(want, "log/"+path)
		have, _ := disk.ReadFile("log/" + path)
		if must, err := w.file(path, size); err != nil || string(have) != string(must) {
			t.Fatalf("file %s: %d bytes, %v", path, len(have), err)
		}
	})
	want = append(want, "log/tail")
	slices.Sort(want)
	if have := disk.names(); !slices.Equal(have, want) {
		t.Fatalf("files %v, not %v", have, want)
	}
}
