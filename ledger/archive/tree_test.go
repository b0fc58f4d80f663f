package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// open opens an archive on a disk in memory.
func open(t testing.TB, disk FS) *Archive {
	t.Helper()
	a, err := Open("log", Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fill appends the twin's entries [a.Size(), to) and syncs.
func fill(t testing.TB, a *Archive, w *twin, to uint64) {
	t.Helper()
	for seq := a.Size(); seq < to; seq++ {
		if err := a.Append(seq, w.entries[seq]); err != nil {
			t.Fatal(err)
		}
	}
	if size, err := a.Sync(); err != nil || size != to {
		t.Fatalf("sync: %d, %v", size, err)
	}
}

// tinyTwin has entries of a few bytes, for large trees.
func tinyTwin(size uint64) *twin {
	w := &twin{}
	for i := range size {
		w.push(fmt.Appendf(nil, "%d", i))
	}
	return w
}

// TestAgainstReference compares roots, tiles, bundles and proofs with sumdb/tlog around the sizes where a
// tile or a level of tiles fills, before and after a restart.
func TestAgainstReference(t *testing.T) {
	w := tinyTwin(65800)
	disk := newFaultFS()
	a := open(t, disk)
	if root, err := a.TreeHash(0); err != nil || root != w.root(0) {
		t.Fatalf("root of nothing: %v, %v", root, err)
	}
	for _, size := range []uint64{1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 65800} {
		fill(t, a, w, size)
		for range 2 {
			seqs := []uint64{0, 1, 255, 256, size / 2, size - 2, size - 1}
			olds := []uint64{0, 1, 255, 256, 257, size / 3, 65535, 65536, size - 1, size}
			checkTree(t, a, w, size, seqs, olds)
			checkTree(t, a, w, size/2+1, seqs, olds)
			checkTiles(t, a, w, size)
			f, err := a.Frontier(size)
			if err != nil || f.Root() != w.root(size) || f.Validate() != nil {
				t.Fatalf("frontier of %d: %v", size, err)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			a = open(t, disk)
		}
	}
	checkEntries(t, a, w, 65000, 65800)
	checkEntries(t, a, w, 0, 600)
	var done, total uint64
	if err := a.Verify(func(d, n uint64) { done, total = d, n }); err != nil || done != 65800 || total != 65800 {
		t.Fatalf("verify: %d of %d, %v", done, total, err)
	}
}

// TestIslandAcrossLevels fills gaps whose ends cut tiles of level 0, 1 and 2, and compares what an island
// alone can tell, and the whole after joining.
func TestIslandAcrossLevels(t *testing.T) {
	const end = 66500
	w := tinyTwin(end)
	for _, c := range []struct{ whole, island, join uint64 }{
		{0, 1, 2}, {0, 256, 256}, {1, 256, 600}, {256, 512, 513}, {255, 257, 1024},
		{100, 65536, 65536}, {300, 65535, 65537}, {65000, 65793, end}, {10, 65400, end}, {513, 66000, 66048}, {600, 1000, end},
	} {
		t.Run(fmt.Sprintf("%d-%d-%d", c.whole, c.island, c.join), func(t *testing.T) {
			disk := newFaultFS()
			a := open(t, disk)
			fill(t, a, w, c.whole)
			if err := a.StartIsland(w.frontier(c.island)); err != nil {
				t.Fatal(err)
			}
			fill(t, a, w, c.join)
			for range 2 {
				checkIsland(t, a, w, c.whole, c.island, c.join)
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				a = open(t, disk)
			}
			for {
				from, to, gap := a.Gap()
				if !gap {
					break
				}
				if err := a.Backfill(from, w.entries[from:min(from+1000, to)]); err != nil {
					t.Fatal(err)
				}
			}
			if a.Whole() != c.join || a.Size() != c.join || a.Durable() != c.join {
				t.Fatalf("whole up to %d, durable %d of %d", a.Whole(), a.Durable(), a.Size())
			}
			for _, size := range []uint64{c.join, end} {
				fill(t, a, w, size)
				checkTree(t, a, w, size, []uint64{0, c.island - 1, size / 2, size - 1}, []uint64{1, c.whole, c.island, size})
				checkTiles(t, a, w, size)
				if err := a.Verify(nil); err != nil {
					t.Fatal(err)
				}
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				a = open(t, disk)
			}
			checkEntries(t, a, w, c.island-min(300, c.island), c.island+300)
		})
	}
}

// checkIsland compares what can be told with a gap from whole to island.
func checkIsland(t *testing.T, a *Archive, w *twin, whole, island, end uint64) {
	t.Helper()
	if from, to, gap := a.Gap(); !gap || from != whole || to != island || a.Whole() != whole || a.Size() != end {
		t.Fatalf("gap from %d to %d, %v; size %d", from, to, gap, a.Size())
	}
	checkEntries(t, a, w, 0, min(whole, 300))
	checkEntries(t, a, w, island, min(end, island+600))
	checkTree(t, a, w, whole, []uint64{0, whole / 2}, []uint64{0, whole / 2, whole})
	var seqs []uint64
	if end > island {
		seqs = []uint64{island, (island + end) / 2, end - 1}
	}
	checkTree(t, a, w, end, seqs, []uint64{island, (island + end) / 2, end})
	checkTree(t, a, w, (island+end+1)/2, nil, []uint64{island})
	eachTile(end, func(level int, n uint64, width int) {
		span := uint64(1) // entries under one hash
		if level > 0 {
			span <<= 8 * level
		}
		var got, want []byte
		var err error
		if level < 0 {
			got, err = a.Bundle(n, width)
			want = w.bundle(n, width)
		} else {
			got, err = a.Tile(level, n, width)
			want = w.tile(level, n, width)
		}
		begin, stop := n*256*span, (n*256+uint64(width))*span
		here := stop <= whole || begin >= island || (level >= 0 && n*256 >= island/span)
		switch {
		case here && (err != nil || !bytes.Equal(got, want)):
			t.Fatalf("tile %d/%d of width %d: %d bytes, %v", level, n, width, len(got), err)
		case !here && !errors.Is(err, ErrGap):
			t.Fatalf("tile %d/%d of width %d, which is in the gap: %d bytes, %v", level, n, width, len(got), err)
		}
	})
	for _, seq := range []uint64{whole, island - 1} {
		var gap *GapError
		if _, err := a.Entry(seq); !errors.As(err, &gap) || *gap != (GapError{whole, island}) {
			t.Fatalf("entry %d of the gap: %v", seq, err)
		}
		if _, err := a.LeafHash(seq); !errors.Is(err, ErrGap) {
			t.Fatalf("leaf hash %d of the gap: %v", seq, err)
		}
		if err := a.Append(seq, w.entries[seq]); !errors.Is(err, ErrGap) {
			t.Fatalf("append of %d, which is in the gap: %v", seq, err)
		}
		if err := a.Entries(0, end, func(uint64, []byte) error { return nil }); !errors.Is(err, ErrGap) {
			t.Fatalf("entries across the gap: %v", err)
		}
		if seq > whole {
			if _, err := a.TreeHash(seq); !errors.Is(err, ErrGap) {
				t.Fatalf("root of %d, which is in the gap: %v", seq, err)
			}
		}
	}
}

// export gives the files of a log in C2SP layout, without those that are in the way of a test.
type export map[string][]byte

func exportOf(t *testing.T, a *Archive, size uint64) export {
	files := make(export)
	eachTile(size, func(level int, n uint64, width int) {
		path := BundlePath(n, width)
		data, err := a.Bundle(n, width)
		if level >= 0 {
			path = TilePath(level, n, width)
			data, err = a.Tile(level, n, width)
		}
		if err != nil {
			t.Fatal(err)
		}
		files[path] = data
	})
	return files
}

func (e export) get(path string) ([]byte, error) {
	data, ok := e[path]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	return data, nil
}

// TestReader reads exports of several sizes, also where only full tiles are left of partial ones.
func TestReader(t *testing.T) {
	w := tinyTwin(66000)
	a := open(t, newFaultFS())
	fill(t, a, w, 66000)
	full := exportOf(t, a, 66000)
	if _, ok := full[TilePath(1, 0, 256)]; !ok {
		t.Fatal("no full tile of level 1 to fall back to")
	}
	for _, size := range []uint64{0, 1, 255, 256, 257, 1000, 65536, 65537, 66000} {
		exports := map[string]export{"its own": exportOf(t, a, size)}
		if size <= 1000 { // its partial tiles are full in the larger log
			exports["of a larger log"] = full
		}
		for name, files := range exports {
			r := NewReader(files.get, size)
			if size == 0 {
				if root, err := r.TreeHash(0); err != nil || root != w.root(0) {
					t.Fatalf("root of nothing: %v", err)
				}
				continue
			}
			checkTree(t, r, w, size, []uint64{0, size / 2, size - 1}, []uint64{1, size / 2, size})
			checkEntries(t, r, w, 0, min(size, 600))
			checkEntries(t, r, w, size-min(size, 300), size)
			var got [][]byte
			err := r.Entries(0, size, func(_ uint64, entry []byte) error {
				got = append(got, entry)
				return nil
			})
			if err != nil || !slices.EqualFunc(got, w.entries[:size], bytes.Equal) {
				t.Fatalf("entries of %s: %d of %d, %v", name, len(got), size, err)
			}
			if _, err := r.Entry(size); !errors.Is(err, ErrNotFound) {
				t.Fatalf("entry beyond the end: %v", err)
			}
		}
	}
}

// TestReaderNamesDamage changes one byte of each file of an export in turn: either the file is named, or
// the root is another than that of the checkpoint.
func TestReaderNamesDamage(t *testing.T) {
	const size = 1000
	w := testTwin(size)
	a := open(t, newFaultFS())
	fill(t, a, w, size)
	files := exportOf(t, a, size)
	for path, data := range files {
		for _, at := range []int{0, 1, len(data) / 2, len(data) - 1} {
			changed := slices.Clone(data)
			changed[at] ^= 0x40
			r := NewReader(func(p string) ([]byte, error) {
				if p == path {
					return changed, nil
				}
				return files.get(p)
			}, size)
			root, err := r.TreeHash(size)
			if err == nil && root != w.root(size) {
				continue
			}
			if err == nil {
				err = r.Entries(0, size, func(uint64, []byte) error { return nil })
			}
			var damage *DamageError
			if !errors.As(err, &damage) || damage.File != path || damage.Offset > int64(at) {
				t.Fatalf("%s changed at %d: %v", path, at, err)
			}
		}
	}
	if len(files) != 4+4+1 {
		t.Fatalf("%d files", len(files))
	}
}

// TestFrontier appends to a compact range and compares roots with the reference.
func TestFrontier(t *testing.T) {
	w := tinyTwin(600)
	var f Frontier
	for i := range uint64(600) {
		if f.Root() != w.root(i) || f.Validate() != nil {
			t.Fatalf("root of %d", i)
		}
		before := f.clone()
		f.Append(tlog.RecordHash(w.entries[i]))
		if len(before.Hashes) > 0 && before.Root() != w.root(i) {
			t.Fatalf("appending changed a copy at %d", i)
		}
	}
	for _, bad := range []Frontier{{Size: 3}, {Size: 0, Hashes: make([]tlog.Hash, 1)}, {Size: maxSize + 1, Hashes: make([]tlog.Hash, 2)}} {
		if bad.Validate() == nil {
			t.Fatalf("%d leaves, %d hashes", bad.Size, len(bad.Hashes))
		}
	}
}
