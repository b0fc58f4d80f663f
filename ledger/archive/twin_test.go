package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// twin is the naive history: all entries and all hashes in memory, the tree by sumdb/tlog.
type twin struct {
	entries [][]byte
	stored  []tlog.Hash // as tlog.StoredHashIndex numbers them
}

func (w *twin) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = w.stored[index]
	}
	return hashes, nil
}

func (w *twin) push(entry []byte) {
	more, err := tlog.StoredHashes(int64(len(w.entries)), entry, w)
	if err != nil {
		panic(err)
	}
	w.entries = append(w.entries, entry)
	w.stored = append(w.stored, more...)
}

func (w *twin) root(size uint64) tlog.Hash {
	h, err := tlog.TreeHash(int64(size), w)
	if err != nil {
		panic(err)
	}
	return h
}

func (w *twin) frontier(size uint64) Frontier {
	var f Frontier
	for i := range size {
		f.Append(tlog.RecordHash(w.entries[i]))
	}
	return f
}

func (w *twin) tile(level int, n uint64, width int) []byte {
	var b []byte
	for i := range uint64(width) {
		h := w.stored[tlog.StoredHashIndex(8*level, int64(n*256+i))]
		b = append(b, h[:]...)
	}
	return b
}

func (w *twin) bundle(n uint64, width int) []byte {
	var b []byte
	for _, e := range w.entries[n*256:][:width] {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}

// file is what a path of an exported log holds at a size.
func (w *twin) file(path string, size uint64) ([]byte, error) {
	level, n, width, err := ParseTilePath(path)
	if err != nil {
		return nil, err
	}
	count := size
	if level > 0 {
		count = size >> (8 * level)
	}
	if have := count - min(count, n*256); have < uint64(width) || (width < 256 && have != uint64(width)) {
		return nil, fs.ErrNotExist
	}
	if level < 0 {
		return w.bundle(n, width), nil
	}
	return w.tile(level, n, width), nil
}

// testEntry is the one content that entry i has in most tests: of many lengths, some with long runs of
// zeros, so that a sector of zeros is nothing special.
func testEntry(i uint64) []byte {
	b := fmt.Appendf(nil, "entry %d ", i)
	switch i % 16 {
	case 3:
		b = append(b, bytes.Repeat([]byte{byte(i)}, 700)...)
	case 7:
		b = append(b, make([]byte, 1500)...)
	}
	return b
}

func testTwin(size uint64) *twin {
	w := &twin{}
	for i := range size {
		w.push(testEntry(i))
	}
	return w
}

// reader is what an Archive and a Reader have in common.
type reader interface {
	Entry(seq uint64) ([]byte, error)
	LeafHash(seq uint64) (tlog.Hash, error)
	TreeHash(size uint64) (tlog.Hash, error)
	ProveInclusion(seq, size uint64) ([]tlog.Hash, error)
	ProveConsistency(old, size uint64) ([]tlog.Hash, error)
}

// failer is a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkEntries compares entries and leaf hashes of a range.
func checkEntries(t failer, a reader, w *twin, from, to uint64) {
	t.Helper()
	for seq := from; seq < to; seq++ {
		entry, err := a.Entry(seq)
		if err != nil || !bytes.Equal(entry, w.entries[seq]) {
			t.Fatalf("entry %d: %q, %v", seq, entry, err)
		}
		leaf, err := a.LeafHash(seq)
		if err != nil || leaf != tlog.RecordHash(w.entries[seq]) {
			t.Fatalf("leaf hash %d: %v, %v", seq, leaf, err)
		}
	}
}

// checkTree compares a root, and proofs to it.
func checkTree(t failer, a reader, w *twin, size uint64, seqs, olds []uint64) {
	t.Helper()
	root, err := a.TreeHash(size)
	if err != nil || root != w.root(size) {
		t.Fatalf("root of %d: %v, %v", size, root, err)
	}
	for _, seq := range seqs {
		if seq >= size {
			continue
		}
		proof, err := a.ProveInclusion(seq, size)
		if err != nil {
			t.Fatalf("inclusion of %d in %d: %v", seq, size, err)
		}
		if err := tlog.CheckRecord(proof, int64(size), root, int64(seq), tlog.RecordHash(w.entries[seq])); err != nil {
			t.Fatalf("inclusion of %d in %d: %v", seq, size, err)
		}
	}
	for _, old := range olds {
		if old > size {
			continue
		}
		proof, err := a.ProveConsistency(old, size)
		if err != nil {
			t.Fatalf("consistency of %d with %d: %v", old, size, err)
		}
		if old == 0 {
			if len(proof) != 0 {
				t.Fatalf("consistency with the empty tree has %d hashes", len(proof))
			}
			continue
		}
		if err := tlog.CheckTree(proof, int64(size), root, int64(old), w.root(old)); err != nil {
			t.Fatalf("consistency of %d with %d: %v", old, size, err)
		}
	}
}

// checkTiles compares every tile and bundle that a log of this size has, full and partial.
func checkTiles(t failer, a *Archive, w *twin, size uint64) {
	t.Helper()
	eachTile(size, func(level int, n uint64, width int) {
		if level < 0 {
			got, err := a.Bundle(n, width)
			if err != nil || !bytes.Equal(got, w.bundle(n, width)) {
				t.Fatalf("bundle %d of width %d at size %d: %d bytes, %v", n, width, size, len(got), err)
			}
			return
		}
		got, err := a.Tile(level, n, width)
		if err != nil || !bytes.Equal(got, w.tile(level, n, width)) {
			t.Fatalf("tile %d/%d of width %d at size %d: %d bytes, %v", level, n, width, size, len(got), err)
		}
	})
	if size != a.Size() {
		return
	}
	for level, count := 0, size; level < 3; level, count = level+1, count>>8 {
		if _, err := a.Tile(level, count/256, int(count%256)+1); !errors.Is(err, ErrNotFound) {
			t.Fatalf("tile of level %d beyond size %d: %v", level, size, err)
		}
	}
	if _, err := a.Bundle(size/256, int(size%256)+1); !errors.Is(err, ErrNotFound) {
		t.Fatalf("bundle beyond size %d: %v", size, err)
	}
}

// eachTile names the tiles of a log: bundles by the level -1.
func eachTile(size uint64, fn func(level int, n uint64, width int)) {
	for level := -1; level < 7; level++ {
		count := size
		if level > 0 {
			count >>= 8 * level
		}
		for n := range count / 256 {
			fn(level, n, 256)
		}
		if count%256 != 0 {
			fn(level, count/256, int(count%256))
		}
	}
}
