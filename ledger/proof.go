package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"

	"github.com/quorate/quorate/ledger/canon"
	"golang.org/x/mod/sumdb/tlog"
)

// StateProof proves one record of the state, or its absence, against a state
// digest (FORMAT.md section 8).
type StateProof struct {
	Key      string     `json:"key"`
	Other    *OtherLeaf `json:"other,omitempty"` // of an absence: the record that stands where the path ends
	Siblings []Siblings `json:"siblings"`        // from the root down
	Value    canon.Raw  `json:"value,omitempty"`
}

// OtherLeaf is the record at which the path of an absent one ends.
type OtherLeaf struct {
	Key   string `json:"key"`
	Value Hash   `json:"value"` // H(value)
}

// Siblings are the children of one branch that are not empty, but for the one
// on the path: bit 15-i of Bitmap stands for child i.
type Siblings struct {
	Bitmap uint16 `json:"bitmap"`
	Hashes []Hash `json:"hashes"`
}

// ErrProof says that a proof does not prove what it claims.
var ErrProof = errors.New("the proof does not hold")

// ErrEquivocation says that two certified heads contradict each other.
var ErrEquivocation = errors.New("two certified heads contradict each other")

// ParseStateProof reads a proof's canonical JSON.
func ParseStateProof(b []byte) (*StateProof, error) {
	if len(b) > MaxStateProofBytes {
		return nil, fmt.Errorf("parse state proof: %d bytes, at most %d", len(b), MaxStateProofBytes)
	}
	var p StateProof
	if err := canon.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("parse state proof: %w", err)
	}
	return &p, nil
}

// Encode gives the proof's canonical JSON.
func (p *StateProof) Encode() ([]byte, error) { return canon.Marshal(p) }

// Verify checks the proof against digest: that the record has this value, or,
// without a value, that there is no such record. An error wraps ErrProof.
func (p *StateProof) Verify(digest Hash) error {
	if len(p.Key) == 0 || len(p.Key) > MaxRecordKeyBytes {
		return fmt.Errorf("verify state proof: key of %d bytes: %w", len(p.Key), ErrProof)
	}
	path := Hash(sha256.Sum256([]byte(p.Key)))
	end, err := p.end(path)
	if err != nil {
		return fmt.Errorf("verify state proof of %q: %w", p.Key, err)
	}
	got, err := p.climb(path, end)
	if err != nil {
		return fmt.Errorf("verify state proof of %q: %w", p.Key, err)
	}
	if got != digest {
		return fmt.Errorf("verify state proof of %q: it leads to digest %s, not %s: %w", p.Key, got, digest, ErrProof)
	}
	return nil
}

// end gives the hash at which the path ends: the record's own, another
// record's, or zero.
func (p *StateProof) end(path Hash) (Hash, error) {
	depth := len(p.Siblings)
	if depth > 2*len(path) {
		return Hash{}, fmt.Errorf("%d branches, a path has 64: %w", depth, ErrProof)
	}
	if len(p.Value) > 0 {
		if p.Other != nil {
			return Hash{}, fmt.Errorf("a value and another record: %w", ErrProof)
		}
		return recordHash(p.Key, sha256.Sum256(p.Value)), nil
	}
	if p.Other == nil {
		return Hash{}, nil
	}
	if len(p.Other.Key) == 0 || len(p.Other.Key) > MaxRecordKeyBytes || p.Other.Key == p.Key {
		return Hash{}, fmt.Errorf("the other record is none: %w", ErrProof)
	}
	other := Hash(sha256.Sum256([]byte(p.Other.Key)))
	for i := range depth {
		if nibble(other, i) != nibble(path, i) {
			return Hash{}, fmt.Errorf("record %q is not on the path: %w", p.Other.Key, ErrProof)
		}
	}
	return recordHash(p.Other.Key, p.Other.Value), nil
}

// climb hashes from the path's end to the root.
func (p *StateProof) climb(path, at Hash) (Hash, error) {
	for depth := len(p.Siblings) - 1; depth >= 0; depth-- {
		s := p.Siblings[depth]
		own := nibble(path, depth)
		if bits.OnesCount16(s.Bitmap) != len(s.Hashes) || s.Bitmap&(1<<(15-own)) != 0 {
			return Hash{}, fmt.Errorf("the bitmap of branch %d does not fit: %w", depth, ErrProof)
		}
		// A branch holds two records at least, so the lowest has another child.
		if depth == len(p.Siblings)-1 && len(s.Hashes) == 0 {
			return Hash{}, fmt.Errorf("branch %d has no other child: %w", depth, ErrProof)
		}
		var children [16]Hash
		children[own] = at
		next := 0
		for i := range children {
			if s.Bitmap&(1<<(15-i)) == 0 {
				continue
			}
			if s.Hashes[next].IsZero() {
				return Hash{}, fmt.Errorf("branch %d names an empty child: %w", depth, ErrProof)
			}
			children[i] = s.Hashes[next]
			next++
		}
		at = branchHash(&children)
	}
	return at, nil
}

// VerifyInclusion checks the RFC 6962 inclusion proof of the leaf hash leaf at
// index seq in the tree of size entries with this root. The error wraps
// ErrProof.
func VerifyInclusion(proof []Hash, seq, size uint64, leaf, root Hash) error {
	if size > canon.MaxInt || seq >= size || len(proof) > MaxInclusionHashes {
		return fmt.Errorf("verify inclusion of entry %d in size %d with %d hashes: %w", seq, size, len(proof), ErrProof)
	}
	if err := tlog.CheckRecord(treeHashes(proof), int64(size), tlog.Hash(root), int64(seq), tlog.Hash(leaf)); err != nil {
		return fmt.Errorf("verify inclusion of entry %d in size %d: %w", seq, size, ErrProof)
	}
	return nil
}

// VerifyConsistency checks the RFC 6962 consistency proof that the tree of old
// entries with oldRoot is a prefix of that of size entries with root. A tree is
// consistent with itself by the empty proof, and old is at least 1. The error
// wraps ErrProof.
func VerifyConsistency(proof []Hash, old uint64, oldRoot Hash, size uint64, root Hash) error {
	if old < 1 || old > size || size > canon.MaxInt || len(proof) > 2*MaxInclusionHashes {
		return fmt.Errorf("verify consistency of size %d with %d by %d hashes: %w", old, size, len(proof), ErrProof)
	}
	if old == size {
		if oldRoot != root || len(proof) != 0 {
			return fmt.Errorf("verify consistency: two roots of size %d: %w", size, ErrProof)
		}
		return nil
	}
	if err := tlog.CheckTree(treeHashes(proof), int64(size), tlog.Hash(root), int64(old), tlog.Hash(oldRoot)); err != nil {
		return fmt.Errorf("verify consistency of size %d with %d: %w", old, size, ErrProof)
	}
	return nil
}

func treeHashes(proof []Hash) []tlog.Hash {
	hashes := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		hashes[i] = tlog.Hash(h)
	}
	return hashes
}
