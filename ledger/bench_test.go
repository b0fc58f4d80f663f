package ledger

import (
	"fmt"
	"testing"
)

func benchmarkTrie(n int) (Trie, []string) {
	keys := make([]string, n)
	changes := make([]TrieChange, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("node/edge-%d", i)
		changes[i] = TrieChange{Key: keys[i], Value: make([]byte, 3000)}
	}
	return Trie{}.Apply(changes), keys
}

func BenchmarkTriePut(b *testing.B) {
	for _, n := range []int{1_000, 50_000} {
		trie, keys := benchmarkTrie(n)
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				trie = trie.Put(keys[i%n], fmt.Appendf(nil, `{"version":%d}`, i))
			}
		})
	}
}

func BenchmarkTrieApply100Of50000(b *testing.B) {
	trie, keys := benchmarkTrie(50_000)
	changes := make([]TrieChange, 100)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range changes {
			changes[j] = TrieChange{Key: keys[(i*7919+j*503)%len(keys)], Value: fmt.Appendf(nil, `{"version":%d}`, i)}
		}
		trie = trie.Apply(changes)
	}
}

func BenchmarkTrieBuild50000(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		benchmarkTrie(50_000)
	}
}

func BenchmarkTrieProve(b *testing.B) {
	trie, keys := benchmarkTrie(50_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		trie.Prove(keys[i%len(keys)])
	}
}

func benchmarkStatement(b *testing.B) []byte {
	w := newWorld(b, 1)
	seq, _ := w.say("alice", TypeApprove, Ballot{Proposal: Hash{1}})
	e, err := ParseEntry(w.entries[seq])
	if err != nil {
		b.Fatal(err)
	}
	return e.Content
}

func BenchmarkStatementParse(b *testing.B) {
	envelope := benchmarkStatement(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStatement(envelope); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatementParseAndVerify(b *testing.B) {
	envelope := benchmarkStatement(b)
	public := testKey("alice").Public()
	b.ReportAllocs()
	for b.Loop() {
		s, err := ParseStatement(envelope)
		if err != nil || !s.Verify(public) {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatementSign(b *testing.B) {
	w := newWorld(b, 1)
	k := testKey("alice")
	for b.Loop() {
		if _, err := Sign(k, w.payload("alice", TypeApprove), Ballot{Proposal: Hash{1}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	for _, n := range []int{4, 7} {
		w := newWorld(b, n)
		h := w.seal(0)
		c := w.sign(h, w.replicas()[:CosignThreshold(n)]...)
		c.LogLines = w.log.Sign(h, 1)
		slim := &Checkpoint{Head: h}
		for _, s := range c.Cosignatures {
			slim.Add(s.WithoutMLDSA44())
		}
		certifier, err := NewCertifier(w.now)
		if err != nil {
			b.Fatal(err)
		}
		for name, note := range map[string][]byte{"whole": c.Note(), "slim": slim.Note()} {
			b.Run(fmt.Sprintf("replicas=%d/%s/kept keys", n, name), func(b *testing.B) {
				for b.Loop() {
					parsed, err := ParseCheckpoint(note)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := certifier.Certifies(parsed); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(note)), "note-bytes")
			})
		}
		b.Run(fmt.Sprintf("replicas=%d/whole/keys unpacked anew", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := w.now.Certifies(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCosign(b *testing.B) {
	w := newWorld(b, 4)
	h := w.seal(0)
	k := testKey("r01")
	cosigner := k.Cosigner44()
	for b.Loop() {
		Cosign(w.hash, k, cosigner, "r01", h, 100)
	}
}

func BenchmarkFollow(b *testing.B) {
	w := newWorld(b, 3)
	links := grow(w, 1)
	g, hash, err := ParseGenesis(links[0].Genesis)
	if err != nil {
		b.Fatal(err)
	}
	first := GenesisAuthority(g, hash)
	for b.Loop() {
		if _, err := Follow(w.hash, first, links[1]); err != nil {
			b.Fatal(err)
		}
	}
}
