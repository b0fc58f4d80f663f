package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

func savedOf(generation, size uint64) *Saved {
	return &Saved{
		Generation: generation, Size: size, Note: fmt.Appendf(nil, "note of %d", size), Links: [][]byte{[]byte("{}"), []byte(`{"index":1}`)},
		Seal: []byte("seal"), SealProof: []ledger.Hash{{1}, {2}},
		Records: func(yield func(string, []byte) bool) {
			for i := range 100 {
				if !yield(fmt.Sprintf("node/%d", i), fmt.Appendf(nil, "record of %d", size)) {
					return
				}
			}
		},
	}
}

func sameSaved(a, b *Saved) error {
	collect := func(s *Saved) string {
		out := fmt.Sprintf("%d %d %q %q %q %v\n", s.Generation, s.Size, s.Note, s.Links, s.Seal, s.SealProof)
		for k, v := range s.Records {
			out += k + "=" + string(v) + "\n"
		}
		return out
	}
	if x, y := collect(a), collect(b); x != y {
		return fmt.Errorf("saved %.200s, loaded %.200s", x, y)
	}
	return nil
}

// Wherever it crashes, the store has afterwards one whole state, never an older
// one than it said to have kept.
func TestStoreSurvivesEveryCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newCrashDisk(rapid.Uint64().Draw(t, "seed"))
		kept, tried := uint64(0), uint64(0)
		for range rapid.IntRange(1, 6).Draw(t, "lives") {
			d = d.again()
			s := &Store{disk: d, name: "state"}
			saved, err := s.Load()
			switch {
			case errors.Is(err, fs.ErrNotExist) && kept == 0:
			case err != nil:
				t.Fatal(err)
			case saved.Size < kept || saved.Size > tried:
				t.Fatalf("it has size %d, kept was %d, tried %d", saved.Size, kept, tried)
			default:
				if err := sameSaved(savedOf(1, saved.Size), saved); err != nil {
					t.Fatal(err)
				}
				kept = saved.Size
			}
			d.steps = rapid.IntRange(1, 4).Draw(t, "crash after")
			for range 4 {
				size := kept + rapid.Uint64Range(0, 5).Draw(t, "growth")
				tried = max(tried, size)
				if s.Save(savedOf(1, size)) != nil {
					break
				}
				kept = size
			}
		}
	})
}

func TestStoreRefusesRollback(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := NewStore(path).Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("of nothing: %v", err)
	}
	if err := NewStore(path).Save(savedOf(2, 100)); err != nil {
		t.Fatal(err)
	}
	var rollback *RollbackError
	for _, old := range []*Saved{savedOf(2, 99), savedOf(1, 1_000)} {
		if err := NewStore(path).Save(old); !errors.As(err, &rollback) {
			t.Errorf("generation %d, size %d: %v", old.Generation, old.Size, err)
		}
	}
	for _, next := range []*Saved{savedOf(2, 100), savedOf(2, 101), savedOf(3, 7)} {
		if err := NewStore(path).Save(next); err != nil {
			t.Errorf("generation %d, size %d: %v", next.Generation, next.Size, err)
		}
	}
	saved, err := NewStore(path).Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := sameSaved(savedOf(3, 7), saved); err != nil {
		t.Error(err)
	}
}

func TestStoreTellsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := NewStore(path).Save(savedOf(1, 5)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	for at := 0; at < len(whole); at += 61 {
		b := bytes.Clone(whole)
		b[at] ^= 1
		d := newCrashDisk(1)
		d.files["state"] = b
		s := &Store{disk: d, name: "state"}
		if _, err := s.Load(); !errors.As(err, &damaged) {
			t.Fatalf("damaged at %d: %v", at, err)
		}
		if err := s.Save(savedOf(1, 3)); err != nil {
			t.Fatalf("damaged at %d, nothing is kept in its place: %v", at, err)
		}
	}
}

func TestStoreOnAFullDisk(t *testing.T) {
	d := newCrashDisk(1)
	s := &Store{disk: d, name: "state"}
	if err := s.Save(savedOf(1, 5)); err != nil {
		t.Fatal(err)
	}
	d.full = true
	if err := s.Save(savedOf(1, 6)); err == nil {
		t.Fatal("a full disk keeps it")
	}
	d.full = false
	saved, err := s.Load()
	if err != nil || saved.Size != 5 {
		t.Fatalf("after a full disk: %+v, %v", saved, err)
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
}

func FuzzSaved(f *testing.F) {
	d := newCrashDisk(1)
	_ = (&Store{disk: d, name: "state"}).Save(savedOf(1, 5))
	f.Add(d.files["state"][:len(d.files["state"])-32])
	f.Fuzz(func(t *testing.T, content []byte) {
		saved, err := decodeSaved("state", withSum(storePurpose, bytes.Clone(content)))
		if err != nil {
			return
		}
		n := 0
		for range saved.Records {
			n++
		}
		if n > len(content) {
			t.Fatalf("%d records in %d bytes", n, len(content))
		}
	})
}
