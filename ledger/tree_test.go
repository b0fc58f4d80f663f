package ledger

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTreeProofs(t *testing.T) {
	w := newWorld(t, 1)
	roots := []Hash{{}, w.head().Root}
	for len(w.entries) < 70 {
		w.append(KindEffect, []byte(`{"body":{},"causes":[0],"type":"tick"}`))
		roots = append(roots, w.head().Root)
	}
	size := w.size()
	h := w.head()
	for seq := range size {
		leaf := LeafHash(w.entries[seq])
		proof := w.inclusion(seq, h)
		if err := VerifyInclusion(proof, seq, size, leaf, h.Root); err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"the next seq":      VerifyInclusion(proof, (seq+1)%size, size, leaf, h.Root),
			"another leaf":      VerifyInclusion(proof, seq, size, Hash{1}, h.Root),
			"another root":      VerifyInclusion(proof, seq, size, leaf, Hash{1}),
			"beyond the tree":   VerifyInclusion(proof, size, size, leaf, h.Root),
			"one hash more":     VerifyInclusion(append(proof, Hash{1}), seq, size, leaf, h.Root),
			"size above 2^63":   VerifyInclusion(proof, seq, 1<<63+size, leaf, h.Root),
			"too many hashes":   VerifyInclusion(make([]Hash, 65), seq, size, leaf, h.Root),
			"seq above 2^63":    VerifyInclusion(proof, 1<<63+seq, size, leaf, h.Root),
			"one hash less":     VerifyInclusion(proof[:len(proof)-1], seq, size, leaf, h.Root),
			"empty tree, seq 0": VerifyInclusion(nil, 0, 0, leaf, h.Root),
		} {
			if !errors.Is(err, ErrProof) {
				t.Errorf("entry %d, %s: %v", seq, name, err)
			}
		}
	}
	for old := uint64(1); old <= size; old++ {
		raw, err := tlog.ProveTree(int64(size), int64(old), w.tree)
		if err != nil {
			t.Fatal(err)
		}
		proof := make([]Hash, len(raw))
		for i := range raw {
			proof[i] = Hash(raw[i])
		}
		if old == size {
			proof = nil
		}
		if err := VerifyConsistency(proof, old, roots[old], size, h.Root); err != nil {
			t.Fatalf("size %d: %v", old, err)
		}
		for name, err := range map[string]error{
			"another old root": VerifyConsistency(proof, old, Hash{1}, size, h.Root),
			"another new root": VerifyConsistency(proof, old, roots[old], size, Hash{1}),
			"one hash more":    VerifyConsistency(append(proof, Hash{1}), old, roots[old], size, h.Root),
			"size 0":           VerifyConsistency(proof, 0, roots[old], size, h.Root),
			"shrinking":        VerifyConsistency(proof, size+1, roots[old], size, h.Root),
		} {
			if !errors.Is(err, ErrProof) {
				t.Errorf("size %d, %s: %v", old, name, err)
			}
		}
	}
}
