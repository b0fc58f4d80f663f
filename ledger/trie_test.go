package ledger

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"pgregory.net/rapid"
)

// naiveDigest is FORMAT.md section 8 as it is written: over all records, by
// recursion, nothing remembered.
func naiveDigest(records map[string]string) Hash {
	var keys []string
	for key := range records {
		keys = append(keys, key)
	}
	return naiveNode(records, keys, 0)
}

func naiveNode(records map[string]string, keys []string, depth int) Hash {
	switch len(keys) {
	case 0:
		return Hash{}
	case 1:
		value := sha256.Sum256([]byte(records[keys[0]]))
		length := len(keys[0])
		return sha256.Sum256([]byte("\x00" + string([]byte{byte(length >> 8), byte(length)}) + keys[0] + string(value[:])))
	}
	b := []byte{1}
	for i := range 16 {
		var below []string
		for _, key := range keys {
			if digit := fmt.Sprintf("%x", sha256.Sum256([]byte(key)))[depth]; digit == "0123456789abcdef"[i] {
				below = append(below, key)
			}
		}
		child := naiveNode(records, below, depth+1)
		b = append(b, child[:]...)
	}
	return sha256.Sum256(b)
}

// trieKeys are few, so that puts hit what is there, and some share much of
// their paths.
func trieKeys() []string {
	keys := deepKeys(4)
	for i := range 40 {
		keys = append(keys, fmt.Sprintf("node/edge-%d", i))
	}
	return keys
}

func TestTrieAgainstNaiveTwin(t *testing.T) {
	keys := trieKeys()
	rapid.Check(t, func(t *rapid.T) {
		records := map[string]string{}
		var trie Trie
		anyKey := rapid.SampledFrom(keys)
		anyValue := rapid.SampledFrom([]string{`{}`, `{"a":1}`, `"x"`, `0`})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key, value := anyKey.Draw(t, "key"), anyValue.Draw(t, "value")
				records[key] = value
				trie = trie.Put(key, []byte(value))
			},
			"delete": func(t *rapid.T) {
				key := anyKey.Draw(t, "key")
				delete(records, key)
				trie = trie.Delete(key)
			},
			"apply": func(t *rapid.T) {
				var changes []TrieChange
				for range rapid.IntRange(0, 60).Draw(t, "changes") {
					c := TrieChange{Key: anyKey.Draw(t, "key"), Value: []byte(anyValue.Draw(t, "value")), Delete: rapid.Bool().Draw(t, "delete")}
					changes = append(changes, c)
					if c.Delete {
						delete(records, c.Key)
					} else {
						records[c.Key] = string(c.Value)
					}
				}
				trie = trie.Apply(changes)
			},
			"old tries stay": func(t *rapid.T) {
				root, count := trie.Root(), trie.Len()
				for _, key := range keys {
					trie.Put(key, []byte(`"other"`))
					trie.Delete(key)
				}
				if trie.Root() != root || trie.Len() != count {
					t.Fatal("a change changed the trie that it was made from")
				}
			},
			"": func(t *rapid.T) {
				if want := naiveDigest(records); trie.Root() != want || trie.Len() != len(records) {
					t.Fatalf("root %s of %d, want %s of %d", trie.Root(), trie.Len(), want, len(records))
				}
				key := anyKey.Draw(t, "proven key")
				value, there := records[key]
				p := trie.Prove(key)
				if p.Present != there {
					t.Fatalf("%s: present %t, want %t", key, p.Present, there)
				}
				proof := p.With(canon.Raw(value))
				if err := proof.Verify(trie.Root()); err != nil {
					t.Fatal(err)
				}
				if there {
					lie := *proof
					lie.Value = canon.Raw(`"lie"`)
					wantFails(t, &lie, trie.Root())
					lie.Value = nil
					wantFails(t, &lie, trie.Root())
				} else {
					lie := *proof
					lie.Value, lie.Other = canon.Raw(`{}`), nil
					wantFails(t, &lie, trie.Root())
				}
				other := trie.Root()
				other[31] ^= 1
				wantFails(t, proof, other)
			},
		})
	})
}

func wantFails(t *rapid.T, p *StateProof, root Hash) {
	if p.Verify(root) == nil {
		t.Fatalf("a proof of %s that is wrong holds", p.Key)
	}
}

// TestTamperedStateProofs flips every bit that a proof has, one at a time.
func TestTamperedStateProofs(t *testing.T) {
	for _, c := range tamperedProofs(t) {
		if err := c.proof.Verify(c.trie.Root()); err == nil {
			t.Errorf("%s: it holds", c.name)
		}
	}
	var trie Trie
	for i := range 200 {
		trie = trie.Put(fmt.Sprintf("node/edge-%d", i), []byte(`{}`))
	}
	for _, key := range []string{"node/edge-7", "node/none-1", "node/none-2"} {
		p := trie.Prove(key).With(canon.Raw(`{}`))
		if err := p.Verify(trie.Root()); err != nil {
			t.Fatal(err)
		}
		for i := range p.Siblings {
			for bit := range 16 {
				p.Siblings[i].Bitmap ^= 1 << bit
				if p.Verify(trie.Root()) == nil {
					t.Errorf("%s: bit %d of bitmap %d does not matter", key, bit, i)
				}
				p.Siblings[i].Bitmap ^= 1 << bit
			}
			for j := range p.Siblings[i].Hashes {
				p.Siblings[i].Hashes[j][j%32] ^= 0x10
				if p.Verify(trie.Root()) == nil {
					t.Errorf("%s: hash %d of branch %d does not matter", key, j, i)
				}
				p.Siblings[i].Hashes[j][j%32] ^= 0x10
			}
		}
		if p.Other != nil {
			p.Other.Value[0] ^= 1
			if p.Verify(trie.Root()) == nil {
				t.Errorf("%s: the other record's value does not matter", key)
			}
		}
	}
}

// TestUnchangedTrieIsShared checks that a change that changes nothing hashes
// and allocates no branch: the very same nodes remain.
func TestUnchangedTrieIsShared(t *testing.T) {
	var trie Trie
	for i := range 100 {
		trie = trie.Put(fmt.Sprint(i), []byte(`{}`))
	}
	if same := trie.Put("7", []byte(`{}`)); same.root != trie.root {
		t.Error("putting a record as it is makes another trie")
	}
	if same := trie.Delete("none"); same.root != trie.root {
		t.Error("deleting what is not there makes another trie")
	}
	if trie.Apply(nil).root != trie.root {
		t.Error("no changes make another trie")
	}
}

// TestProofsHaveOneForm tries what would hash to the right digest if the form
// of a proof were not checked.
func TestProofsHaveOneForm(t *testing.T) {
	var trie Trie
	for i := range 100 {
		trie = trie.Put(fmt.Sprintf("node/edge-%d", i), []byte(`{}`))
	}
	const key = "node/edge-7"
	own := nibble(sha256.Sum256([]byte(key)), 0)

	// The true child on the path, smuggled in among its siblings, would hide what
	// the proof says of the record.
	lie := trie.Prove(key).With(canon.Raw(`"lie"`))
	putSibling(&lie.Siblings[0], own, trie.root.children[own].hash)
	if lie.Verify(trie.Root()) == nil {
		t.Error("a lie holds beside the path's own child")
	}

	var two Trie
	two = two.Put("a", []byte(`{}`)).Put("b", []byte(`{}`))
	padded := two.Prove("a").With(canon.Raw(`{}`))
	for i := range 16 {
		if i != nibble(sha256.Sum256([]byte("a")), 0) && padded.Siblings[0].Bitmap&(1<<(15-i)) == 0 {
			putSibling(&padded.Siblings[0], i, Hash{})
			break
		}
	}
	if padded.Verify(two.Root()) == nil {
		t.Error("a proof that names an empty child holds")
	}

	value := sha256.Sum256([]byte(`{}`))
	var lonely [16]Hash
	lonely[own] = recordHash(key, value)
	alone := &StateProof{Key: key, Siblings: []Siblings{{Hashes: []Hash{}}}, Value: canon.Raw(`{}`)}
	if alone.Verify(branchHash(&lonely)) == nil {
		t.Error("a branch of one record is accepted")
	}
}

// putSibling sets child i of a branch that has none there.
func putSibling(s *Siblings, i int, h Hash) {
	before := bits.OnesCount16(s.Bitmap >> (16 - i))
	s.Bitmap |= 1 << (15 - i)
	s.Hashes = slices.Insert(s.Hashes, before, h)
}
