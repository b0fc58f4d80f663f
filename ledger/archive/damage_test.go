package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wantDamage fails unless the error names this file and an offset at or before the changed byte, and not
// further before than one entry.
func wantDamage(t *testing.T, err error, file string, at int) {
	t.Helper()
	var damage *DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("byte %d of %s: %v", at, file, err)
	}
	if damage.File != file || damage.Offset > int64(at) || damage.Offset < int64(at)-2000 {
		t.Fatalf("byte %d of %s: %v", at, file, err)
	}
	if !strings.Contains(err.Error(), file) {
		t.Fatalf("the message does not name %s: %v", file, err)
	}
}

// change flips one bit of a file on a disk in memory, and gives a function that flips it back.
func (f *faultFS) change(name string, at int) (undo func()) {
	n := f.find(name)
	n.data = bytes.Clone(n.data) // readers may share it
	n.data[at] ^= 0x10
	return func() { n.data[at] ^= 0x10 }
}

// TestFlippedByteInFullFiles flips bytes of every bundle and tile of a log with full tiles of two levels:
// reading names the file, and so do Verify and the next Open.
func TestFlippedByteInFullFiles(t *testing.T) {
	const size = 65536 + 600
	w := tinyTwin(size)
	disk := newFaultFS()
	a := open(t, disk)
	fill(t, a, w, size)
	files := map[string]func(a *Archive) error{
		TilePath(1, 0, 256): func(a *Archive) error { _, err := a.Tile(1, 0, 256); return err },
	}
	for _, n := range []uint64{0, 100, 255, 256, 257} {
		files[BundlePath(n, 256)] = func(a *Archive) error { _, err := a.Entry(n*256 + 200); return err }
		files[TilePath(0, n, 256)] = func(a *Archive) error { _, err := a.ProveInclusion(n*256+3, size); return err }
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for file, read := range files {
		length := len(disk.find("log/" + file).data)
		for _, at := range []int{0, 1, 31, 32, 555, length / 2, length - 1} {
			undo := disk.change("log/"+file, at)
			a := open(t, disk)
			wantDamage(t, read(a), file, at)
			wantDamage(t, read(a), file, at) // not only at first
			if err := a.Append(size, []byte("x")); err != nil {
				t.Fatalf("damage in the history stops appending: %v", err)
			}
			wantDamage(t, a.Verify(nil), file, at)
			a.lock.Close()
			undo()
		}
		node, dir := disk.find("log/"+file), disk.find("log/"+filepath.Dir(file))
		delete(dir.children, filepath.Base(file))
		a := open(t, disk)
		wantDamage(t, read(a), file, 0)
		wantDamage(t, a.Verify(nil), file, 0)
		a.lock.Close()
		dir.children[filepath.Base(file)] = node
	}
}

// TestFlippedByteInTails flips every byte of the three tail files. Open names the file, or finds that the
// last record was torn by the rules of damageAt; Verify finds it while the archive is open.
func TestFlippedByteInTails(t *testing.T) {
	w := testTwin(1100)
	build := func() (*faultFS, *Archive) {
		disk := newFaultFS()
		a := open(t, disk)
		fill(t, a, w, 270)
		fill(t, a, w, 275)
		if err := a.StartIsland(w.frontier(777)); err != nil {
			t.Fatal(err)
		}
		fill(t, a, w, 785)
		fill(t, a, w, 1026)
		fill(t, a, w, 1027)
		if err := a.Backfill(275, w.entries[275:280]); err != nil {
			t.Fatal(err)
		}
		if err := a.Backfill(280, w.entries[280:290]); err != nil {
			t.Fatal(err)
		}
		return disk, a
	}
	disk, a := build()
	for _, name := range []string{tailName, islandName, stageName} {
		for at := range disk.find("log/" + name).data {
			if at%7 != 0 && at > 200 {
				continue
			}
			undo := disk.change("log/"+name, at)
			wantDamage(t, a.Verify(nil), name, at)
			image := disk.reboot(allPersisted, nil)
			_, err := Open("log", Options{FS: image})
			wantDamage(t, err, name, at)
			undo()
		}
	}
	if err := a.Verify(nil); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail cuts the tail at every byte, and overwrites its end with zeros from every sector on: what was
// durable with a later record's word, or with the header, is damage; the rest is dropped.
func TestTornTail(t *testing.T) {
	w := testTwin(400)
	disk := newFaultFS()
	a := open(t, disk)
	fill(t, a, w, 300) // sealed up to 300
	sealed := len(disk.find("log/tail").data)
	fill(t, a, w, 320)
	synced := len(disk.find("log/tail").data)
	fill(t, a, w, 330)
	whole := bytes.Clone(disk.find("log/tail").data)

	reopen := func(tail []byte) (*Archive, error) {
		image := disk.reboot(allPersisted, nil)
		image.find("log/tail").data = tail
		return Open("log", Options{FS: image})
	}
	sizes := make(map[uint64]bool)
	for cut := sealed - 200; cut <= len(whole); cut++ {
		a, err := reopen(whole[:cut:cut])
		if cut < sealed {
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("cut at %d, in what was sealed: %v", cut, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		checkEntries(t, a, w, 290, a.Size())
		sizes[a.Size()] = true
	}
	if len(sizes) != 31 {
		t.Fatalf("cutting gave %d sizes instead of 31", len(sizes))
	}
	for from := synced; from < len(whole); from += 512 - from%512 { // a crash that lost whole sectors
		tail := slices.Clone(whole)
		clear(tail[from:])
		a, err := reopen(tail)
		if err != nil {
			t.Fatalf("zeros from %d: %v", from, err)
		}
		checkEntries(t, a, w, 290, a.Size())
	}
	for from := sealed; from+512 <= synced; from += 512 { // a sector that was durable
		tail := slices.Clone(whole)
		clear(tail[from : from+512])
		if bytes.Equal(tail, whole) {
			continue
		}
		_, err := reopen(tail)
		wantDamage(t, err, "tail", from+511)
	}
}

// TestContentCannotPassForRecord puts a forged record, which says that all was durable, into an entry: a
// torn write before it stays a torn write.
func TestContentCannotPassForRecord(t *testing.T) {
	disk := newFaultFS()
	a := open(t, disk)
	forged := appendRecord(nil, 5, 1000, []byte("x"), 0x12345678)
	for seq := range uint64(3) {
		if err := a.Append(seq, bytes.Repeat(forged, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	tail := disk.find("log/tail")
	tail.data = tail.data[:len(tail.data)-1]
	a = open(t, disk.reboot(allPersisted, nil))
	if a.Size() != 2 {
		t.Fatalf("size %d", a.Size())
	}
}

func TestRepair(t *testing.T) {
	const size = 65536 + 600
	w := tinyTwin(size)
	disk := newFaultFS()
	a := open(t, disk)
	fill(t, a, w, size)
	for _, files := range [][]string{
		{BundlePath(7, 256)},
		{TilePath(0, 7, 256)},
		{TilePath(1, 0, 256)},
		{BundlePath(7, 256), TilePath(0, 7, 256)},
		{BundlePath(7, 256), TilePath(1, 0, 256)},
		{BundlePath(7, 256), TilePath(0, 7, 256), TilePath(1, 0, 256)},
		{TilePath(0, 7, 256), TilePath(0, 9, 256), TilePath(1, 0, 256)}, // 9 is mended next
		{BundlePath(257, 256), TilePath(0, 257, 256)},
	} {
		n := uint64(7)
		if files[0] == BundlePath(257, 256) {
			n = 257
		}
		a.lock.Close()
		for _, file := range files {
			disk.change("log/"+file, 100)
		}
		a = open(t, disk)
		if err := a.Verify(nil); err == nil {
			t.Fatalf("%v: no damage", files)
		}
		bundle := w.bundle(n, 256)
		bundle[9] ^= 1
		var damage *DamageError // where the given bundle should have told what is in its tile
		if err := a.Repair(n, bundle); !errors.Is(err, ErrConflict) && !errors.Is(err, errBundle) && !(len(files) == 3 && errors.As(err, &damage)) {
			t.Fatalf("%v: repair by other bytes: %v", files, err)
		}
		if err := a.Repair(n, w.bundle(n, 256)); err != nil {
			t.Fatalf("%v: %v", files, err)
		}
		if err := a.Repair(9, w.bundle(9, 256)); err != nil {
			t.Fatalf("%v: %v", files, err)
		}
		if err := a.Verify(nil); err != nil {
			t.Fatalf("%v: %v", files, err)
		}
		checkEntries(t, a, w, n*256, n*256+256)
	}
	if err := a.Repair(size/256, w.bundle(0, 256)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("repair of the partial bundle: %v", err)
	}
	if err := a.Repair(3, w.bundle(0, 255)); !errors.Is(err, errBundle) {
		t.Fatalf("repair by a partial bundle: %v", err)
	}
}

// TestNoSpace: as long as there is no space nothing is said to be durable and all is read from memory;
// then all of it is written, and holds when the power goes.
func TestNoSpace(t *testing.T) {
	w := testTwin(700)
	for left := range 4 { // in the bundles, the tiles, the tail
		disk := newFaultFS()
		a := open(t, disk)
		fill(t, a, w, 250)
		for seq := uint64(250); seq < 700; seq++ {
			if err := a.Append(seq, w.entries[seq]); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			disk.full, disk.left = true, left
			if size, err := a.Sync(); size != 250 || !errors.Is(err, ErrFull) || !errors.Is(err, errFault) {
				t.Fatalf("space for %d writes: %d, %v", left, size, err)
			}
			checkEntries(t, a, w, 0, 700)
			if err := a.Verify(nil); err != nil {
				t.Fatalf("space for %d writes: %v", left, err)
			}
			if err := a.Failed(); err != nil {
				t.Fatalf("space for %d writes: it is final: %v", left, err)
			}
		}
		disk.full = false
		if size, err := a.Sync(); err != nil || size != 700 {
			t.Fatalf("space for %d writes: with space again: %d, %v", left, size, err)
		}
		a = open(t, disk.reboot(nonePersisted, nil))
		if a.Size() != 700 {
			t.Fatalf("space for %d writes: %d entries after the power went", left, a.Size())
		}
		checkEntries(t, a, w, 0, 700)
		checkTree(t, a, w, 700, []uint64{0, 256, 699}, []uint64{250, 512, 700})
	}
}

// TestOnDisk runs on the operating system's file system.
func TestOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	w := testTwin(1000)
	a, err := Open(dir, Options{CacheTiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("opened twice: %v", err)
	}
	fill(t, a, w, 600)
	if err := a.StartIsland(w.frontier(650)); err != nil {
		t.Fatal(err)
	}
	fill(t, a, w, 1000)
	if err := a.Backfill(600, w.entries[600:]); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatalf("closed twice: %v", err)
	}
	for _, err := range []error{
		a.Append(1000, []byte("x")), a.Verify(nil), a.StartIsland(w.frontier(1000)), a.Backfill(0, nil), a.Repair(0, w.bundle(0, 256)),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
	}
	if _, err := a.Sync(); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	leftover := filepath.Join(dir, tempDir, "half")
	if err := os.WriteFile(leftover, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Fatal("a leftover of a crash is still there")
	}
	for _, path := range []string{"tile/entries/000", "tile/entries/002", "tile/0/000", "tile/0/002"} {
		have, err := os.ReadFile(filepath.Join(dir, path))
		if want, _ := w.file(path, 1000); err != nil || !bytes.Equal(have, want) {
			t.Fatalf("%s: %v", path, err)
		}
	}
	checkTree(t, a, w, 1000, []uint64{0, 649, 999}, []uint64{600, 650})
	checkTiles(t, a, w, 1000)
	if err := a.Verify(nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, tailName)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	wantDamage(t, err, tailName, 0)
}

func TestRefusals(t *testing.T) {
	w := testTwin(1000)
	a := open(t, newFaultFS())
	fill(t, a, w, 600)
	var conflict *ConflictError
	if err := a.Append(5, []byte("other")); !errors.As(err, &conflict) || conflict.Seq != 5 || !errors.Is(err, ErrConflict) {
		t.Fatalf("other bytes in a bundle: %v", err)
	}
	if err := a.Append(599, []byte("other")); !errors.As(err, &conflict) || conflict.Seq != 599 {
		t.Fatalf("other bytes in the tail: %v", err)
	}
	var gap *GapError
	if err := a.Append(601, []byte("x")); !errors.As(err, &gap) || *gap != (GapError{600, 601}) {
		t.Fatalf("append beyond the end: %v", err)
	}
	for _, entry := range [][]byte{nil, make([]byte, MaxEntryBytes+1)} {
		if err := a.Append(600, entry); err == nil {
			t.Fatalf("took an entry of %d bytes", len(entry))
		}
	}
	if err := a.Backfill(600, w.entries[600:610]); !errors.Is(err, errNoGap) {
		t.Fatalf("backfill without a gap: %v", err)
	}
	lie := w.frontier(700)
	lie.Hashes[0][3] ^= 1 // [0, 512) is here
	if err := a.StartIsland(lie); !errors.As(err, &conflict) || conflict.Seq != 0 {
		t.Fatalf("island on another history: %v", err)
	}
	if err := a.StartIsland(Frontier{Size: 700}); err == nil {
		t.Fatal("took a frontier without hashes")
	}
	if err := a.StartIsland(w.frontier(600)); err != nil || a.Size() != 600 {
		t.Fatalf("island at the end of what is here: %v", err)
	}
	if err := a.StartIsland(w.frontier(700)); err != nil || a.Size() != 700 || a.Durable() != 700 {
		t.Fatalf("island: %v", err)
	}
	if err := a.Backfill(601, w.entries[601:610]); !errors.Is(err, ErrGap) {
		t.Fatalf("backfill that leaves a gap: %v", err)
	}
	if err := a.Backfill(599, w.entries[599:610]); err == nil {
		t.Fatal("backfill of what is here")
	}
	if err := a.Backfill(600, [][]byte{nil}); err == nil {
		t.Fatal("backfill took an empty entry")
	}
	if _, err := a.ProveInclusion(700, 700); !errors.Is(err, ErrNotFound) {
		t.Fatalf("proof beyond the end: %v", err)
	}
	if _, err := a.ProveInclusion(550, 700); !errors.Is(err, ErrGap) {
		t.Fatalf("proof across the gap: %v", err)
	}
	checkTree(t, a, w, 700, []uint64{5}, nil) // all that is missing here is in the frontier
	if _, err := a.ProveConsistency(10, 5); err == nil {
		t.Fatal("consistency of a tree with a smaller one")
	}
	for _, level := range []int{-1, 7, 63, 64} {
		if _, err := a.Tile(level, 0, 1); !errors.Is(err, ErrNotFound) {
			t.Fatalf("tile of level %d: %v", level, err)
		}
	}
	for _, width := range []int{-1, 0, 257} {
		_, err := a.Tile(0, 0, width)
		_, err2 := a.Bundle(0, width)
		if !errors.Is(err, ErrNotFound) || !errors.Is(err2, ErrNotFound) {
			t.Fatalf("width %d: %v, %v", width, err, err2)
		}
	}
	if _, err := a.Tile(0, 1<<63, 256); !errors.Is(err, ErrNotFound) {
		t.Fatalf("tile far away: %v", err)
	}
}

// TestFsyncgate: after an fsync that failed, a second one would succeed without having written anything.
func TestFsyncgate(t *testing.T) {
	w := testTwin(100)
	disk := newFaultFS()
	a := open(t, disk)
	fill(t, a, w, 10)
	for seq := uint64(10); seq < 20; seq++ {
		if err := a.Append(seq, w.entries[seq]); err != nil {
			t.Fatal(err)
		}
	}
	disk.fault = fault{disk.count + 2, failUndone} // the write, then the fsync
	size, err := a.Sync()
	if size != 10 || !errors.Is(err, ErrFailed) || !errors.Is(err, errFault) {
		t.Fatalf("sync: %d, %v", size, err)
	}
	if last := disk.trace[len(disk.trace)-1]; last != "fsync log/tmp/tail" {
		t.Fatalf("the fault hit %q", last)
	}
	for range 3 {
		if size, err := a.Sync(); size != 10 || !errors.Is(err, ErrFailed) {
			t.Fatalf("sync again: %d, %v", size, err)
		}
		if err := a.Append(21, w.entries[21]); !errors.Is(err, ErrFailed) { // what follows a refused one
			t.Errorf("Append past a refused entry gave %v", err)
		}
		if err := a.Append(20, w.entries[20]); !errors.Is(err, ErrFailed) {
			t.Fatalf("append: %v", err)
		}
	}
	if err := a.Append(15, w.entries[15]); err != nil {
		t.Fatalf("comparing goes on: %v", err)
	}
	checkEntries(t, a, w, 0, 20)
	if a.Durable() != 10 || !errors.Is(a.Failed(), ErrFailed) {
		t.Fatalf("durable %d, %v", a.Durable(), a.Failed())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	// The page cache still shows all 20; what is opened must be on the disk all the same.
	a = open(t, disk.reboot(nothingLost, nil))
	if a.Size() != 20 || a.Durable() != 20 {
		t.Fatalf("size %d, durable %d", a.Size(), a.Durable())
	}
	a = open(t, a.fs.(*faultFS).reboot(nonePersisted, nil))
	if a.Size() != 20 {
		t.Fatalf("size %d after the power went", a.Size())
	}
	checkEntries(t, a, w, 0, 20)
}
