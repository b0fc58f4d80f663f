package gossip

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

// history is a chain of entries and its tree.
type history struct {
	entries [][]byte
	hashes  []tlog.Hash // stored
	last    ledger.Hash
}

func (h *history) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, n := range at {
		out[i] = h.hashes[n]
	}
	return out, nil
}

func (h *history) add(t interface{ Fatal(...any) }, content string) {
	e := ledger.Entry{Seq: uint64(len(h.entries)), Prev: h.last, Kind: ledger.KindStatement, Content: []byte(content)}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := tlog.StoredHashes(int64(e.Seq), b, h)
	if err != nil {
		t.Fatal(err)
	}
	h.entries, h.hashes, h.last = append(h.entries, b), append(h.hashes, hashes...), ledger.LeafHash(b)
}

func historyOf(t interface{ Fatal(...any) }, size int, forkAt int) *history {
	h := &history{}
	for i := range size {
		content := fmt.Sprint(i)
		if i >= forkAt {
			content += "'"
		}
		h.add(t, content)
	}
	return h
}

func (h *history) head(t interface{ Fatal(...any) }, size int) CertifiedHead {
	root, err := tlog.TreeHash(int64(size), h)
	if err != nil {
		t.Fatal(err)
	}
	return CertifiedHead{Head: ledger.Head{Size: uint64(size), Root: ledger.Hash(root)}}
}

func (h *history) consistency(t interface{ Fatal(...any) }, old, size int) []ledger.Hash {
	if old == size {
		return nil
	}
	proof, err := tlog.ProveTree(int64(size), int64(old), h)
	if err != nil {
		t.Fatal(err)
	}
	return hashesOf(proof)
}

func hashesOf(proof []tlog.Hash) []ledger.Hash {
	out := make([]ledger.Hash, len(proof))
	for i, p := range proof {
		out[i] = ledger.Hash(p)
	}
	return out
}

// Two heads of one history are related as their sizes are; of two histories,
// whoever has the larger one proves the contradiction; and no proof makes one of
// the other.
func TestRelate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.IntRange(1, 40).Draw(t, "ours"), rapid.IntRange(1, 40).Draw(t, "theirs")
		fork := rapid.IntRange(0, 45).Draw(t, "fork")
		mine, yours := historyOf(t, 40, 100), historyOf(t, 40, fork)
		ours, theirs := mine.head(t, a), yours.head(t, b)
		small, large := min(a, b), max(a, b)
		proof := mine.consistency(t, small, large)
		if b > a {
			proof = yours.consistency(t, small, large)
		}
		one := fork >= small
		want := map[bool]Relation{true: Newer, false: Older}[b > a]
		switch {
		case !one && a == b:
			want = Conflict
		case !one:
			want = Unproven
		case a == b:
			want = Same
		}
		if got := Relate(ours, theirs, proof); got != want {
			t.Fatalf("%d and %d, fork at %d: %s, want %s", a, b, fork, got, want)
		}
		holder := mine
		if b > a {
			holder = yours
		}
		root := holder.head(t, small).Root
		if got := Contradict(ours, theirs, root, proof); got != !one {
			t.Fatalf("%d and %d, fork at %d: contradict: %v", a, b, fork, got)
		}
		if Contradict(ours, theirs, ledger.Hash{1}, proof) {
			t.Fatal("a wrong root proves a contradiction")
		}
		theirs.Generation = 1
		if Relate(ours, theirs, nil) != Newer || Relate(theirs, ours, nil) != Older || Contradict(ours, theirs, root, proof) {
			t.Fatal("a later generation is not newer")
		}
	})
	h := historyOf(t, 3, 9)
	ours, theirs := h.head(t, 3), h.head(t, 3)
	theirs.Signed = 5
	if Relate(ours, theirs, nil) != Resigned || Relate(theirs, ours, nil) != Same {
		t.Error("who signed later is not told")
	}
}

func TestUniteKeepsTheWorse(t *testing.T) {
	standings := []string{Active, Quarantined, Excluded}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom(standings))
		x, y := some.Draw(t, "ours"), some.Draw(t, "theirs")
		u := Unite(x, y)
		if !maps.Equal(u, Unite(y, x)) || !maps.Equal(u, Unite(u, x)) {
			t.Fatalf("of %v and %v: %v", x, y, u)
		}
		for name, s := range u {
			if s != x[name] && s != y[name] || severity(s) < severity(x[name]) || severity(s) < severity(y[name]) {
				t.Fatalf("%s is %s, was %q and %q", name, s, x[name], y[name])
			}
		}
	})
}

// A run of entries proves itself under a head, and none other does.
func TestEntriesProveThemselves(t *testing.T) {
	h := historyOf(t, 30, 100)
	head := h.head(t, 30).Head
	frame := func(from, to int) *Entries {
		proof, err := tlog.ProveRecord(30, int64(to-1), h)
		if err != nil {
			t.Fatal(err)
		}
		return &Entries{Entries: append([][]byte(nil), h.entries[from:to]...), Proof: hashesOf(proof)}
	}
	for from := range 29 {
		for to := from + 1; to <= 30; to += 7 {
			if first, err := frame(from, to).Check(head); err != nil || first != uint64(from) {
				t.Fatalf("%d to %d: first %d, %v", from, to, first, err)
			}
		}
	}
	fork := historyOf(t, 30, 12)
	for name, spoil := range map[string]func(f *Entries){
		"none":           func(f *Entries) { f.Entries = nil },
		"a gap":          func(f *Entries) { f.Entries = append(f.Entries[:3:3], f.Entries[4:]...) },
		"another order":  func(f *Entries) { f.Entries[2], f.Entries[3] = f.Entries[3], f.Entries[2] },
		"a foreign one":  func(f *Entries) { f.Entries[4] = fork.entries[14] },
		"a foreign last": func(f *Entries) { f.Entries[9] = fork.entries[19] },
		"no proof":       func(f *Entries) { f.Proof = nil },
		"no entry":       func(f *Entries) { f.Entries[5] = []byte{1} },
	} {
		f := frame(10, 20)
		spoil(f)
		if _, err := f.Check(head); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := &Entries{Note: make([]byte, 1_000)}
	big := make([][]byte, 40)
	for i := range big {
		big[i] = make([]byte, 60_000)
	}
	n := f.Fill(big, 10)
	if b, err := f.Encode(); err != nil || n < 10 || n == 40 || len(b) > MaxFrameBytes {
		t.Errorf("%d entries fill %d bytes: %v", n, len(b), err)
	}
}
