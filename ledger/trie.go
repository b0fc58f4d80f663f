package ledger

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
)

// Trie is the Merkle trie over the records of the state (FORMAT.md section 8).
// It keeps each record's key and the hash of its value, not the value. It is
// immutable: every change gives another Trie, which shares what did not change,
// so that a snapshot is a copy of one pointer. The zero Trie is empty.
//
// Hashes are computed as the trie is built, so that Root costs nothing and the
// tries of two goroutines never write to what they share.
type Trie struct{ root *trieNode }

// TrieChange puts a record, or deletes it.
type TrieChange struct {
	Key    string
	Value  []byte // canonical JSON
	Delete bool
}

// trieNode stands for the records whose paths share its own: a leaf for one, a
// branch for two or more. No record is a nil *trieNode, whose hash is zero.
type trieNode struct {
	hash     Hash
	count    int
	leaf     *trieLeaf      // if count is 1
	children *[16]*trieNode // if count is above 1
}

type trieLeaf struct {
	key   string
	path  Hash // H(key); its nibbles lead to the leaf
	value Hash // H(value)
}

func (n *trieNode) sum() Hash {
	if n == nil {
		return Hash{}
	}
	return n.hash
}

// Len is the number of records.
func (t Trie) Len() int {
	if t.root == nil {
		return 0
	}
	return t.root.count
}

// Root is the state digest.
func (t Trie) Root() Hash { return t.root.sum() }

// Put gives the trie with the record key set to value. The key has 1 to
// MaxRecordKeyBytes bytes.
func (t Trie) Put(key string, value []byte) Trie {
	return t.Apply([]TrieChange{{Key: key, Value: value}})
}

// Delete gives the trie without the record key.
func (t Trie) Delete(key string) Trie {
	return t.Apply([]TrieChange{{Key: key, Delete: true}})
}

// Apply makes many changes at once and hashes each branch once. The last change
// of a key holds.
func (t Trie) Apply(changes []TrieChange) Trie {
	if len(changes) == 0 {
		return t
	}
	edits := make([]trieEdit, len(changes))
	for i, c := range changes {
		invariant(len(c.Key) > 0 && len(c.Key) <= MaxRecordKeyBytes, "a record's key has 1 to 1024 bytes")
		edits[i] = trieEdit{path: sha256.Sum256([]byte(c.Key)), order: i}
		if !c.Delete {
			edits[i].put = newLeaf(c.Key, edits[i].path, sha256.Sum256(c.Value))
		}
	}
	if len(edits) > 1 {
		edits = sortEdits(edits)
	}
	return Trie{root: t.root.apply(edits, 0)}
}

// trieEdit is one change of one path: a leaf to put, or nil to delete.
type trieEdit struct {
	path  Hash
	order int
	put   *trieNode
}

// sortEdits sorts by path and keeps only the last edit of each.
func sortEdits(edits []trieEdit) []trieEdit {
	slices.SortFunc(edits, func(a, b trieEdit) int {
		return cmp.Or(slices.Compare(a.path[:], b.path[:]), cmp.Compare(a.order, b.order))
	})
	last := edits[:0]
	for i, e := range edits {
		if i+1 < len(edits) && edits[i+1].path == e.path {
			continue
		}
		last = append(last, e)
	}
	return last
}

// apply makes edits, sorted by path and all below n, which stands at depth. It
// gives n itself if nothing changes.
func (n *trieNode) apply(edits []trieEdit, depth int) *trieNode {
	switch {
	case len(edits) == 0:
		return n
	case n == nil:
		return build(edits, depth)
	case n.leaf != nil:
		return n.applyToLeaf(edits, depth)
	}
	var children [16]*trieNode
	changed := false
	for i, old := range n.children {
		of := 0
		for of < len(edits) && nibble(edits[of].path, depth) == i {
			of++
		}
		children[i] = old.apply(edits[:of], depth+1)
		changed = changed || children[i] != old
		edits = edits[of:]
	}
	if !changed {
		return n
	}
	return newBranch(&children)
}

// applyToLeaf makes edits where one record stands: alone, that record is one
// more edit, unless an edit is its own.
func (n *trieNode) applyToLeaf(edits []trieEdit, depth int) *trieNode {
	at, own := slices.BinarySearchFunc(edits, n.leaf.path, func(e trieEdit, path Hash) int {
		return slices.Compare(e.path[:], path[:])
	})
	keep := trieEdit{path: n.leaf.path, put: n}
	if !own {
		return build(slices.Insert(slices.Clone(edits), at, keep), depth)
	}
	if put := edits[at].put; put != nil && put.hash == n.hash {
		edits = slices.Clone(edits)
		edits[at] = keep
	}
	return build(edits, depth)
}

// build makes the node of edits alone, where no record stood.
func build(edits []trieEdit, depth int) *trieNode {
	var only *trieNode
	puts := 0
	for _, e := range edits {
		if e.put != nil {
			only = e.put
			puts++
		}
	}
	if puts < 2 {
		return only
	}
	var children [16]*trieNode
	for i := range children {
		of := 0
		for of < len(edits) && nibble(edits[of].path, depth) == i {
			of++
		}
		if of > 0 {
			children[i] = build(edits[:of], depth+1)
		}
		edits = edits[of:]
	}
	return newBranch(&children)
}

func newLeaf(key string, path, value Hash) *trieNode {
	return &trieNode{hash: recordHash(key, value), count: 1, leaf: &trieLeaf{key: key, path: path, value: value}}
}

// newBranch makes the node of children: a single record is lifted, so that the
// trie's form depends on its records alone, not on how they came and went.
func newBranch(children *[16]*trieNode) *trieNode {
	count := 0
	var only *trieNode
	for _, c := range children {
		if c != nil {
			count += c.count
			only = c
		}
	}
	if count < 2 {
		return only
	}
	var hashes [16]Hash
	for i, c := range children {
		hashes[i] = c.sum()
	}
	return &trieNode{hash: branchHash(&hashes), count: count, children: children}
}

// recordHash is H(0x00 || u16 len(key) || key || H(value)). It binds the key,
// and with it the path, so that a proof of absence can't show a record under
// another path than its own.
func recordHash(key string, value Hash) Hash {
	b := make([]byte, 0, 3+len(key)+len(value))
	b = append(b, 0, byte(len(key)>>8), byte(len(key)))
	b = append(b, key...)
	return sha256.Sum256(append(b, value[:]...))
}

// branchHash is H(0x01 || c0 || … || c15).
func branchHash(children *[16]Hash) Hash {
	var b [1 + 16*32]byte
	b[0] = 1
	for i := range children {
		copy(b[1+32*i:], children[i][:])
	}
	return sha256.Sum256(b[:])
}

// nibble gives nibble i of the path, the high one of each byte first.
func nibble(path Hash, i int) int {
	if i%2 == 0 {
		return int(path[i/2] >> 4)
	}
	return int(path[i/2] & 15)
}

// TrieProof proves that a record is in the trie, or that it is not. It has no
// value: see With.
type TrieProof struct {
	Key      string
	Present  bool
	Other    *OtherLeaf
	Siblings []Siblings
}

// With gives the proof with the record's value, whose hash the trie holds. The
// value is ignored if the record is absent.
func (p TrieProof) With(value canon.Raw) *StateProof {
	s := &StateProof{Key: p.Key, Other: p.Other, Siblings: p.Siblings}
	if p.Present {
		s.Value = value
	}
	return s
}

// Prove proves the record key, present or absent.
func (t Trie) Prove(key string) TrieProof {
	p := TrieProof{Key: key, Siblings: []Siblings{}}
	path := Hash(sha256.Sum256([]byte(key)))
	n := t.root
	for depth := 0; n != nil && n.children != nil; depth++ {
		own := nibble(path, depth)
		p.Siblings = append(p.Siblings, siblingsOf(n.children, own))
		n = n.children[own]
	}
	switch {
	case n == nil:
	case n.leaf.key == key:
		p.Present = true
	default:
		p.Other = &OtherLeaf{Key: strings.Clone(n.leaf.key), Value: n.leaf.value}
	}
	return p
}

func siblingsOf(children *[16]*trieNode, own int) Siblings {
	s := Siblings{Hashes: []Hash{}}
	for i, c := range children {
		if i != own && c != nil {
			s.Bitmap |= 1 << (15 - i)
			s.Hashes = append(s.Hashes, c.hash)
		}
	}
	return s
}
