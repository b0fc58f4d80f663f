package ledger

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Whatever a parser of foreign bytes accepts, it gives back in the same bytes:
// there is no second encoding of anything.

func same(t *testing.T, in, out []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("what was parsed does not encode: %v", err)
	}
	if !bytes.Equal(in, out) {
		t.Fatalf("parsed from %x, encodes to %x", in, out)
	}
}

func FuzzParseEntry(f *testing.F) {
	w := newWorld(f, 1)
	w.say("alice", TypeRecord, Record{Text: "noted"})
	w.append(KindEffect, []byte(`{"body":{},"causes":[1],"type":"tick"}`))
	w.seal(0)
	for _, b := range w.entries {
		f.Add(b)
	}
	for _, c := range refusedEntries(f, w)[:20] {
		f.Add([]byte(c.Entry))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		same(t, b, again, err)
		if seal, err := e.Seal(); err == nil {
			again, err := canon.Marshal(seal)
			same(t, e.Content, again, err)
		}
		if effect, err := e.Effect(); err == nil {
			again, err := canon.Marshal(effect)
			same(t, e.Content, again, err)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	w := newWorld(f, 1)
	seq, _ := w.say("alice", TypeRecord, Record{Text: "noted"})
	e, err := ParseEntry(w.entries[seq])
	w.must(err)
	f.Add(e.Content)
	for _, c := range refusedStatements(f, w) {
		f.Add([]byte(c.Envelope))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatement(b)
		if err != nil {
			if _, ok := err.(*StatementError); !ok {
				t.Fatalf("another error than a *StatementError: %v", err)
			}
			return
		}
		payload, err := canon.Marshal(s.Payload)
		same(t, s.PayloadBytes(), payload, err)
		same(t, b, (&keys.Envelope{KeyID: keys.ID(s.KeyID), Type: "quorate/" + s.Payload.Type + ".v1", Payload: s.PayloadBytes(), Signature: s.signature}).Bytes(), nil)
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, c := range makeCommands(f).Cases {
		f.Add([]byte(c.Command))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCommand(b); err == nil {
			same(t, b, c.Encode(), nil)
		}
	})
}

func FuzzParseGenesis(f *testing.F) {
	f.Add(newWorld(f, 1).entries[0])
	f.Add(newWorld(f, 4).entries[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		g, hash, err := ParseGenesis(b)
		if err != nil {
			return
		}
		again, err := g.Entry()
		same(t, b, again, err)
		if hash != LeafHash(b) {
			t.Fatal("another hash than the leaf's")
		}
		if err := GenesisAuthority(g, hash).validate(); err != nil {
			t.Fatalf("a valid genesis has an invalid authority: %v", err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	w := newWorld(f, 4)
	w.say("alice", TypeRecord, Record{Text: "noted"})
	for _, c := range checkpointCases(w, w.seal(0)) {
		f.Add(c.note)
	}
	f.Add([]byte("a\n1\n" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— a AAAAAAE=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCheckpoint(b); err == nil {
			same(t, b, c.Note(), nil)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, l := range grow(newWorld(f, 1), 0) {
		f.Add([]byte(linkText(f, l)))
	}
	p := newProofWorld(f)
	for _, l := range p.links {
		f.Add([]byte(linkText(f, l)))
	}
	chain, err := WalkChain(p.hash, p.links[:2])
	p.must(err)
	honest := linkText(f, p.links[2])
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLink(b)
		if err != nil {
			return
		}
		again, err := l.Encode()
		same(t, b, again, err)
		if next, err := Follow(p.hash, chain.Latest, l); err == nil && string(b) != honest && next.differs(p.now) != "" {
			t.Fatal("a link that nobody made is followed to another authority")
		}
	})
}

func FuzzParseStateProof(f *testing.F) {
	v := makeTrie(f)
	digest := Hash(v.Proofs[0].Digest)
	for _, c := range v.Proofs {
		f.Add([]byte(c.Proof))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseStateProof(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		same(t, b, again, err)
		if p.Verify(digest) == nil && len(p.Value) > 0 {
			t.Fatal("a record of an empty state is proven")
		}
	})
}

func FuzzParseProofFile(f *testing.F) {
	genesis, cases := proofCases(f)
	for _, c := range cases {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseEntryProof(b); err == nil {
			again, err := p.Encode()
			same(t, b, again, err)
			if report, err := p.Verify(genesis); err == nil && report.Entry == nil {
				t.Fatal("it holds and proves nothing")
			}
		}
		if p, err := ParseStateProofFile(b); err == nil {
			again, err := p.Encode()
			same(t, b, again, err)
		}
	})
}
