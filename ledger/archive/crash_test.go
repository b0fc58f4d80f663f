package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The story that the crash matrix runs: a history, a snapshot that leaves a gap, a peer that backfills
// lies, one that backfills the truth, and on. Each number is chosen to cross a bundle boundary, to stop in
// the middle of one, or both.
const (
	storyWhole  = 310  // where the history breaks off
	storyIsland = 777  // = 512 + 256 + 8 + 1
	storyJoin   = 1040 // where the island has got to when the gap is filled: its head is cut off at 1024
	storyEnd    = 1300
)

// promise is what the archive has acknowledged so far.
type promise struct {
	whole  uint64 // entries [0, whole) are durable
	island uint64 // and, when it is not 0, so are [island, end)
	end    uint64
}

// tellStory runs the story on a file system, until it ends or something fails. The promise is what must
// hold after a crash at that moment; offered is the size up to which entries were ever appended.
func tellStory(disk FS, w *twin) (p promise, offered uint64, err error) {
	a, err := Open("log", Options{FS: disk})
	if err != nil {
		return p, 0, err
	}
	appendTo := func(to uint64) error {
		for seq := a.Size(); seq < to; seq++ {
			if err := a.Append(seq, w.entries[seq]); err != nil {
				return err
			}
			offered = max(offered, seq+1)
		}
		return nil
	}
	syncAt := func(to uint64) error {
		if err := appendTo(to); err != nil {
			return err
		}
		size, err := a.Sync()
		if err != nil {
			return err
		}
		if size != to || a.Durable() != to {
			return fmt.Errorf("synced %d of %d", size, to)
		}
		if p.island == 0 {
			p.whole = size
		} else {
			p.end = size
		}
		return nil
	}
	reopen := func() error {
		if err := a.Close(); err != nil {
			return err
		}
		var err error
		a, err = Open("log", Options{FS: disk})
		return err
	}
	backfill := func(to uint64) error {
		from := a.Whole()
		err := a.Backfill(from, w.entries[from:to])
		if _, _, gap := a.Gap(); err == nil && !gap {
			p = promise{whole: a.Durable()}
		}
		return err
	}
	steps := []func() error{
		func() error { return syncAt(3) },
		func() error { return syncAt(200) },
		func() error { return syncAt(256) },
		func() error { return syncAt(300) },
		func() error { return appendTo(305) },
		reopen,
		func() error { return syncAt(storyWhole) },
		func() error {
			if err := a.StartIsland(w.frontier(storyIsland)); err != nil {
				return err
			}
			p.island, p.end, offered = storyIsland, storyIsland, storyIsland
			return nil
		},
		func() error { return syncAt(900) },
		func() error { // a peer lies, and is found out where the first subtree ends
			lies := slices.Clone(w.entries[storyWhole:600])
			lies[100] = []byte("a lie")
			from := a.Whole()
			if err := a.Backfill(from, lies[:90]); err != nil {
				return err
			}
			if err := a.Backfill(from+90, lies[90:]); !errors.Is(err, ErrConflict) {
				return fmt.Errorf("the lie: %w", err)
			}
			if a.Whole() != storyWhole {
				return fmt.Errorf("whole up to %d after the lie", a.Whole())
			}
			return a.Failed()
		},
		func() error { return backfill(400) },
		func() error { return syncAt(1030) },
		func() error { return backfill(600) },
		reopen,
		func() error { return backfill(770) },
		func() error { return syncAt(storyJoin - 1) },
		func() error { return appendTo(storyJoin) },
		func() error { return backfill(storyIsland) },
		func() error { return syncAt(1100) },
		func() error { return syncAt(storyEnd) },
		func() error { return a.Close() },
	}
	for _, step := range steps {
		if err = step(); err != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, errDead) && a != nil {
		if readErr := readsGoOn(a, w); readErr != nil {
			err = fmt.Errorf("after %w: reading: %w", err, readErr)
		} else if appendErr := a.Append(a.Size(), []byte("more")); appendErr == nil {
			err = fmt.Errorf("after %w: it took an entry", err)
		}
	}
	return p, offered, err
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
// every aftermath, and opens the archive again.
func TestCrashMatrix(t *testing.T) {
	w := testTwin(storyEnd)
	disk := newFaultFS()
	if p, _, err := tellStory(disk, w); err != nil || p.whole != storyEnd {
		t.Fatalf("the story without a fault: %+v, %v", p, err)
	}
	operations, trace := disk.count, disk.trace
	if operations < 150 {
		t.Fatalf("the story has only %d operations", operations)
	}
	for _, want := range []string{"rename log/tail", "rename log/island", "rename log/backfill/tail", "remove log/island", "rename log/tile/0/003", "fsync log/tmp/tail", "rename log/tile/entries/003"} {
		if !slices.Contains(trace, want) {
			t.Fatalf("the story never does %q", want)
		}
	}
	t.Logf("%d operations, %d cases", operations, operations*len(faultKinds)*len(aftermaths))
	for _, after := range aftermaths {
		t.Run(strings.ReplaceAll(after.String(), " ", "-"), func(t *testing.T) {
			t.Parallel()
			for _, kind := range faultKinds {
				for at := 1; at <= operations; at++ {
					crashOnce(t, w, fault{at, kind}, after, trace[at-1])
				}
			}
		})
	}
}

// crashOnce runs the story with one fault, and what comes after it.
func crashOnce(t *testing.T, w *twin, f fault, after aftermath, where string) {
	disk := newFaultFS()
	disk.fault = f
	p, offered, err := tellStory(disk, w)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("operation %d (%s) %s, %s, promise %+v: %s", f.at, where, f.kind, after, p, fmt.Sprintf(format, args...))
	}
	switch {
	case f.kind <= dieAfter && !errors.Is(err, errDead) && !disk.dead:
		fail("the story went on: %v", err)
	case f.kind > dieAfter && !errors.Is(err, errFault):
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
	if end > offered && end != storyIsland {
		fail("%d entries, of %d that were ever appended", end, offered)
	}
	whole := end
	if gap {
		v, _ := a.view()
		if whole = v.hist.size; to != storyIsland || from < whole || from > to {
			fail("a gap from %d (%d) to %d", from, whole, to)
		}
		if p.island == 0 && p.whole > storyIsland {
			fail("a gap that had been filled")
		}
		checkEntries(t, a, w, to, end)
		checkTree(t, a, w, end, []uint64{to, (to + end) / 2, end - 1}[:min(3, end-to)], []uint64{to, (to + end) / 2, end})
	} else if p.island != 0 && end < p.end {
		fail("the island is gone")
	}
	if whole < p.whole || end < p.end {
		fail("whole up to %d, ends at %d", whole, end)
	}
	checkEntries(t, a, w, 0, whole)
	checkTree(t, a, w, whole, []uint64{0, whole / 2, whole - min(1, whole)}, []uint64{0, whole / 2, whole})
	checkTiles(t, a, w, whole)
	if err := a.Verify(nil); err != nil {
		fail("verify: %v", err)
	}
	if err := carryOn(a, w); err != nil {
		fail("carry on: %v", err)
	}
	checkTree(t, a, w, storyEnd, []uint64{0, 300, 500, 777, 1023, 1024, 1299}, []uint64{1, 256, 777, 1024, 1299})
	checkTiles(t, a, w, storyEnd)
	if err := a.Close(); err != nil {
		fail("close: %v", err)
	}
	checkFiles(t, disk, w)
}

// carryOn brings the archive to the end of the story, offering again what it has.
func carryOn(a *Archive, w *twin) error {
	if from, to, gap := a.Gap(); gap {
		if err := a.Backfill(from, w.entries[from:to]); err != nil {
			return err
		}
		if _, _, gap := a.Gap(); gap {
			return errors.New("the gap is still there")
		}
	}
	for seq := a.Size() - min(a.Size(), 300); seq < storyEnd; seq++ {
		if err := a.Append(seq, w.entries[seq]); err != nil {
			return err
		}
	}
	if err := a.Append(100, []byte("other")); !errors.Is(err, ErrConflict) {
		return fmt.Errorf("other bytes for entry 100: %w", err)
	}
	if size, err := a.Sync(); err != nil || size != storyEnd {
		return fmt.Errorf("sync: %d, %w", size, err)
	}
	return a.Verify(nil)
}

// checkFiles compares the files with those that a log of the story's size has: no more, no less.
func checkFiles(t *testing.T, disk *faultFS, w *twin) {
	t.Helper()
	var want []string
	eachTile(storyEnd, func(level int, n uint64, width int) {
		if width < 256 {
			return
		}
		path := BundlePath(n, width)
		if level >= 0 {
			path = TilePath(level, n, width)
		}
		want = append(want, "log/"+path)
		have, _ := disk.ReadFile("log/" + path)
		if must, err := w.file(path, storyEnd); err != nil || string(have) != string(must) {
			t.Fatalf("file %s: %d bytes, %v", path, len(have), err)
		}
	})
	want = append(want, "log/tail")
	slices.Sort(want)
	if have := disk.names(); !slices.Equal(have, want) {
		t.Fatalf("files %v, not %v", have, want)
	}
}
