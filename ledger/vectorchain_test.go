package ledger

import (
	"bytes"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

func linkText(t testing.TB, l *Link) string {
	b, err := canon.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func makeAuthority(t testing.TB) authorityVectors {
	v := authorityVectors{About: "The authority chain (FORMAT.md section 10): a replica is added, gets ready, a governor is replaced, another added, the replica removed. Each of refused is sealed, and, where that is not what is wrong with it, certified."}
	w := newWorld(t, 3)
	v.Genesis = w.hash[:]
	note := func(name string, ok bool, h Head, signers ...string) {
		v.Checkpoints = append(v.Checkpoints, noteVector{Name: name, Note: string(w.sign(h, signers...).Note()), OK: ok})
	}
	w.say("alice", TypeRecord, Record{Text: "before"})
	early := w.seal(0)
	w = newWorld(t, 3)
	links := grow(w, 0)
	for _, step := range growth {
		v.Links = append(v.Links, linkText(t, links[len(links)-1]))
		v.Certifiers = append(v.Certifiers, strings.Join(w.replicas(), " "))
		links = append(links, step(w))
	}
	v.Links = append(v.Links, linkText(t, links[len(links)-1]))
	v.Certifiers = append(v.Certifiers, strings.Join(w.replicas(), " "))
	chain, err := WalkChain(w.hash, links)
	w.must(err)

	note("before the first handover, by two of three", true, early, "r01", "r02")
	note("before the first handover, by one", false, early, "r01")
	note("before the first handover, by one and r04", false, early, "r01", "r04")
	second, _ := chain.HandoverHead(2)
	note("the head of handover 2, by three of four", true, second, "r01", "r02", "r03")
	note("the head of handover 2, by two", false, second, "r01", "r02")
	fifth, _ := chain.HandoverHead(5)
	note("the head of handover 5, as both demand", true, fifth, "r01", "r02", "r03")
	note("the head of handover 5, as the new authority alone demands", false, fifth, "r01", "r02")
	forged := fifth
	forged.Root[0] ^= 1
	note("another root at the size of handover 5", false, forged, "r01", "r02", "r03", "r04")
	w.say("alice", TypeRecord, Record{Text: "after"})
	last := w.seal(0)
	note("after the last handover, by two of three", true, last, "r01", "r02")
	note("after the last handover, by one and the removed replica", false, last, "r01", "r04")

	for _, c := range hostileLinks() {
		w := newWorld(t, 3)
		if c.after >= 0 {
			grow(w, c.after)
		}
		v.Refused = append(v.Refused, refusedLink{Name: c.name, After: c.after, Link: linkText(t, c.make(w))})
	}
	var texts []*string
	for i := range v.Links {
		texts = append(texts, &v.Links[i])
	}
	for i := range v.Refused {
		texts = append(texts, &v.Refused[i].Link)
	}
	for i := range v.Checkpoints {
		texts = append(texts, &v.Checkpoints[i].Note)
	}
	v.Strings = shorten(texts...)
	return v
}

// proofCase is a proof file that holds or is refused for the reason why.
type proofCase struct {
	name, why string
	file      []byte
}

// proofWorld has one replica, a second that is added and gets ready, and a head
// before and after that.
type proofWorld struct {
	*world
	links       []*Link
	early, late Head
}

func newProofWorld(t testing.TB) *proofWorld {
	p := &proofWorld{world: newWorld(t, 1)}
	p.links = []*Link{GenesisLink(p.entries[0])}
	p.say("alice", TypeRecord, Record{Text: "noted"})
	p.early = p.seal(0)
	second := testReplica("r02", "dune", "r02")
	p.links = append(p.links, p.handover(p.decide("replica.add", map[string]any{"replica": second}, "alice", "bob"),
		func(a *Authority) { a.Replicas = append(a.Replicas, authorityReplica(second, true)) }, "r01"))
	p.links = append(p.links, p.handover(p.ready("r02"), func(a *Authority) { a.Replicas[1].Joining = false }, "r01", "r02"))
	p.say("bob", TypeRecord, Record{Text: "noted later"})
	p.late = p.seal(0)
	return p
}

func (p *proofWorld) entry(seq uint64, h Head, links int, signers ...string) *EntryProof {
	c := p.sign(h, signers...)
	c.LogLines = p.log.Sign(h, 1_700_000_000)
	return &EntryProof{Seq: seq, Proof: p.inclusion(seq, h), Checkpoint: c.Note(), Authority: p.links[:links], Entry: p.entries[seq]}
}

func (p *proofWorld) state(key string, links int, signers ...string) *StateProofFile {
	return &StateProofFile{
		Authority: p.links[:links], Checkpoint: string(p.sign(p.late, signers...).Note()), Proof: *p.trie.Prove(key).With(p.records[key]),
		Seal: p.entries[p.late.Size-1], SealProof: p.inclusion(p.late.Size-1, p.late),
	}
}

func proofCases(t testing.TB) (genesis Hash, cases []proofCase) {
	p := newProofWorld(t)
	addEntry := func(name, why string, e *EntryProof, change func(e *EntryProof)) {
		change(e)
		b, err := e.Encode()
		p.must(err)
		cases = append(cases, proofCase{name, why, b})
	}
	addState := func(name, why string, s *StateProofFile, change func(s *StateProofFile)) {
		change(s)
		s.Type = StateProofType
		b, err := canon.Marshal(s)
		p.must(err)
		cases = append(cases, proofCase{name, why, b})
	}
	honest := func(*EntryProof) {}
	early := func() *EntryProof { return p.entry(1, p.early, 1, "r01") }
	addEntry("a statement at an early head", "", early(), honest)
	addEntry("genesis", "", p.entry(0, p.early, 1, "r01"), honest)
	addEntry("the seal itself", "", p.entry(p.early.Size-1, p.early, 1, "r01"), honest)
	addEntry("an early statement at a late head", "", p.entry(1, p.late, 3, "r01", "r02"), honest)
	addEntry("an early head with a longer chain", "", p.entry(1, p.early, 3, "r01"), honest)
	addEntry("another index", "the entry is 1", early(), func(e *EntryProof) { e.Seq = 0 })
	addEntry("another entry", "does not hold", early(), func(e *EntryProof) {
		e.Entry = bytes.Replace(e.Entry, []byte(`"text":"noted"`), []byte(`"text":"nothi"`), 1)
	})
	addEntry("a hash changed", "does not hold", early(), func(e *EntryProof) { e.Proof[0][0] ^= 1 })
	addEntry("a hash left out", "does not hold", early(), func(e *EntryProof) { e.Proof = e.Proof[1:] })
	addEntry("no chain", "no link at all", early(), func(e *EntryProof) { e.Authority = nil })
	addEntry("a link is missing", "does not follow", p.entry(1, p.late, 3, "r01", "r02"), func(e *EntryProof) { e.Authority = []*Link{p.links[0], p.links[2]} })
	addEntry("the late head by one of two", "cosigned by 1", p.entry(1, p.late, 3, "r01"), honest)
	addEntry("no cosignature", "cosigned by 0", p.entry(1, p.early, 1), honest)
	raw, err := early().Encode()
	p.must(err)
	text := func(name, why, old, new string) {
		cases = append(cases, proofCase{name, why, []byte(strings.Replace(string(raw), old, new, 1))})
	}
	text("another version", "canonical JSON", "tlog-proof@v1", "tlog-proof@v2")
	text("index with a zero before", "not in its one form", "index 1\n", "index 01\n")
	text("a carriage return", "index", "index 1\n", "index 1\r\n")
	text("no extra line", "extra line", "\nextra ", "\nmore ")
	text("no empty line", "want base64 of 32 bytes", "\n\n", "\n")

	whole := func(*StateProofFile) {}
	late := func(key string) *StateProofFile { return p.state(key, 3, "r01", "r02") }
	addState("a node's record", "", late("node/edge-7"), whole)
	addState("the authority record", "", late(AuthorityKey), whole)
	addState("a node that is not there", "", late("node/edge-99"), whole)
	addState("another value", "leads to digest", late("node/edge-7"), func(s *StateProofFile) { s.Proof.Value = canon.Raw(`{"name":"edge-7"}`) })
	addState("a record shown as absent", "leads to digest", late("node/edge-7"), func(s *StateProofFile) { s.Proof.Value = nil })
	addState("an older seal", "the seal is entry", late("node/edge-7"), func(s *StateProofFile) { s.Seal = p.entries[p.early.Size-1] })
	addState("no seal", "not a seal", late("node/edge-7"), func(s *StateProofFile) { s.Seal = p.entries[1] })
	addState("the seal's proof changed", "does not hold", late("node/edge-7"), func(s *StateProofFile) { s.SealProof[0][0] ^= 1 })
	addState("a head by one of two", "cosigned by 1", p.state("node/edge-7", 3, "r02"), whole)
	b, err := late("node/edge-7").Encode()
	p.must(err)
	cases = append(cases, proofCase{"another type", "type", bytes.Replace(b, []byte("state-proof.v1"), []byte("state-proof.v2"), 1)},
		proofCase{"a line feed after it", "trailing_bytes", append(bytes.Clone(b), '\n')})
	return p.hash, cases
}

func makeProofs(t testing.TB) proofVectors {
	v := proofVectors{About: "Proof files (FORMAT.md section 11), checked with nothing but the genesis hash."}
	genesis, cases := proofCases(t)
	v.Genesis = genesis[:]
	for _, c := range cases {
		made := proofVector{Name: c.name, File: string(c.file), Holds: c.why == ""}
		if made.Holds {
			report, err := verifyProofFile(c.file, genesis)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			made.Size, made.Key, made.Value = report.Head.Size, report.Key, string(report.Value)
			if report.Entry != nil {
				made.Seq = report.Entry.Seq
				if made.Entry, err = report.Entry.Encode(); err != nil {
					t.Fatal(err)
				}
			}
		}
		v.Cases = append(v.Cases, made)
	}
	var texts []*string
	for i := range v.Cases {
		texts = append(texts, &v.Cases[i].File)
	}
	v.Strings = shorten(texts...)
	return v
}

func TestProofFiles(t *testing.T) {
	genesis, cases := proofCases(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := verifyProofFile(c.file, genesis)
			if c.why == "" {
				if err != nil {
					t.Error(err)
				}
				if _, err := verifyProofFile(c.file, Hash{1}); err == nil {
					t.Error("it holds for another ledger too")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("want %q in: %v", c.why, err)
			}
		})
	}
}
