package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// walFolder writes batches of entries as raft-wal does, each acknowledged, and
// gives the tail's path, what it holds, and where each batch ends.
func walFolder(t *testing.T, batches [][]int) (dir, tail string, honest []byte, ends []int) {
	t.Helper()
	dir = t.TempDir()
	log := openWAL(t, dir)
	random := rand.New(rand.NewPCG(1, 2))
	index := uint64(1)
	for _, sizes := range batches {
		var logs []*raft.Log
		for _, size := range sizes {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			logs = append(logs, &raft.Log{Index: index, Term: 1, Data: data})
			index++
		}
		if err := log.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil || len(found) != 1 {
			t.Fatalf("segments %v: %v", found, err)
		}
		tail = found[0]
		b, err := os.ReadFile(tail)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, (len(bytes.TrimRight(b, "\x00"))+7)/8*8)
		honest = b
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, tail, honest, ends
}

func openWAL(t *testing.T, dir string) *wal.WAL {
	t.Helper()
	log, err := tryWAL(dir)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func tryWAL(dir string) (*wal.WAL, error) {
	meta := &summedMeta{}
	log, err := wal.Open(dir, wal.WithSegmentSize(16<<10), wal.WithMetaStore(meta))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return log, nil
}

// kept opens the folder with a changed tail: how many entries it then has, or why
// it does not open.
func kept(t *testing.T, dir, tail string, b []byte) (last uint64, err error) {
	t.Helper()
	if err := os.WriteFile(tail, b, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := tryWAL(dir)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	return log.LastIndex()
}

var walBatches = [][]int{{40}, {10, 300}, {700, 3, 80}, {5}, {900}, {60, 60}}

// Any bit of the tail of raft-wal's log flips, and no acknowledged entry is
// dropped without a word: it is refused by name, or everything is still there.
func TestFlippedBitsOfWALTailAreRefused(t *testing.T) {
	dir, tail, honest, ends := walFolder(t, walBatches)
	if last, err := kept(t, dir, tail, honest); err != nil || last != 10 {
		t.Fatalf("undamaged: %d entries: %v", last, err)
	}
	used := ends[len(ends)-1]
	refused, same, opened := 0, 0, 0
	for bit := range 8 * used {
		b := bytes.Clone(honest)
		b[bit/8] ^= 1 << (bit % 8)
		whole, end := walTail{b: b}.check()
		if end < 0 {
			refused++
		} else if whole == used && end == used {
			same++
		} else {
			t.Errorf("byte %d, bit %d: dropped from %d on as torn", bit/8, bit%8, whole)
		}
		if bit%61 != 0 && bit/8 >= walHeader+walFrame { // the real thing, too, wherever a frame header was seen to matter
			continue
		}
		opened++
		last, err := kept(t, dir, tail, b)
		var damage *FileError
		switch {
		case errors.As(err, &damage):
		case err != nil:
			t.Errorf("byte %d, bit %d: %v", bit/8, bit%8, err)
		case last != 10:
			t.Errorf("byte %d, bit %d: opened with %d of 10 entries", bit/8, bit%8, last)
		}
	}
	t.Logf("%d bits: %d flips refused, %d change nothing; %d opened by raft-wal", 8*used, refused, same, opened)
	if refused == 0 {
		t.Error("no flip was refused")
	}
}

// A write that a crash cut short anywhere is torn, not damaged, and what was
// acknowledged before it is there: the file ends in it, or its rest is zeros, or
// any of its sectors is.
func TestTornWALTailIsTaken(t *testing.T) {
	dir, tail, honest, ends := walFolder(t, walBatches)
	entries := func(end int) (n uint64) {
		for i, at := range ends {
			if at <= end {
				n += uint64(len(walBatches[i]))
			}
		}
		return n
	}
	used := ends[len(ends)-1]
	for cut := 0; cut <= used; cut++ {
		if whole, end := (walTail{b: honest[:cut]}).check(); end < 0 || entries(whole) != entries(cut) {
			t.Errorf("the file ends at %d: whole to %d, torn to %d", cut, whole, end)
		}
		if cut%37 == 0 {
			if last, err := kept(t, dir, tail, honest[:cut]); err != nil || last != entries(cut) {
				t.Errorf("the file ends at %d: %d entries, want %d: %v", cut, last, entries(cut), err)
			}
		}
	}
	// The newest batch lost any of its sectors.
	for n := range ends {
		from, to := 0, ends[n]
		if n > 0 {
			from = ends[n-1]
		}
		sectors := (to-1)/walSector - from/walSector + 1
		for lost := 1; lost < 1<<sectors; lost++ {
			b := bytes.Clone(honest)
			clear(b[to:])
			for s := range sectors {
				if lost>>s&1 == 1 {
					at := (from/walSector + s) * walSector
					clear(b[max(at, from):min(at+walSector, to)])
				}
			}
			name := fmt.Sprintf("batch %d without sectors %b", n, lost)
			if whole, end := (walTail{b: b}).check(); whole != from || end < 0 {
				t.Errorf("%s: whole to %d, torn to %d, want %d", name, whole, end, from)
				continue
			}
			if last, err := kept(t, dir, tail, b); err != nil || last != entries(from) {
				t.Errorf("%s: %d entries, want %d: %v", name, last, entries(from), err)
			}
			if again, err := os.ReadFile(tail); err != nil || !allZero(again[from:]) {
				t.Errorf("%s: the rest of it is still there: %v", name, err)
			}
		}
	}
}

// What is left of a torn write never comes to light behind the smaller one that
// takes its place.
func TestRestOfTornWriteIsGone(t *testing.T) {
	dir, tail, honest, ends := walFolder(t, [][]int{{40}, {600, 600, 600}})
	b := bytes.Clone(honest)
	clear(b[ends[0]:walSector]) // its first sector is missing, its end is there
	if last, err := kept(t, dir, tail, b); err != nil || last != 1 {
		t.Fatalf("%d entries: %v", last, err)
	}
	log := openWAL(t, dir)
	if err := log.StoreLogs([]*raft.Log{{Index: 2, Term: 2, Data: make([]byte, 340)}}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = openWAL(t, dir)
	defer log.Close()
	if last, err := log.LastIndex(); err != nil || last != 2 {
		t.Errorf("%d entries: %v", last, err)
	}
}

// The frames that the check knows are raft-wal's.
func TestWALTailFrames(t *testing.T) {
	_, _, honest, ends := walFolder(t, walBatches)
	for i, end := range ends {
		if whole, torn := (walTail{b: honest[:end]}).check(); whole != end || torn != end {
			t.Errorf("batch %d ends at %d: whole to %d, torn to %d", i, end, whole, torn)
		}
		if tag := binary.LittleEndian.Uint32(honest[end-walFrame:]); tag != walCommit {
			t.Errorf("batch %d ends with frame %#x", i, tag)
		}
	}
}

// A flip is found beside a torn write, too, unless it is in a frame header of the
// very batch before that.
func TestFlippedBitsBeforeTornWriteAreRefused(t *testing.T) {
	_, _, honest, ends := walFolder(t, walBatches)
	n := len(ends)
	torn := bytes.Clone(honest)
	clear(torn[ends[n-1]-100:])
	if whole, end := (walTail{b: torn}).check(); whole != ends[n-2] || end <= whole {
		t.Fatalf("whole to %d, torn to %d", whole, end)
	}
	payload := ends[n-3] + walFrame
	for bit := range 8 * (payload + walBatches[n-2][0]) {
		if at := bit / 8; at >= ends[n-3] && at < payload {
			continue
		}
		b := bytes.Clone(torn)
		b[bit/8] ^= 1 << (bit % 8)
		if whole, end := (walTail{b: b}).check(); end >= 0 && whole != ends[n-2] {
			t.Fatalf("byte %d, bit %d: dropped from %d on as torn", bit/8, bit%8, whole)
		}
	}
}
