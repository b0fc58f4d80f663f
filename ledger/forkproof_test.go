package ledger

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// A replica that signed two histories is proven to have, at the same size and
// with a larger head of ours; each change of the file proves nothing.
func TestForkProof(t *testing.T) {
	w, astray := newWorld(t, 3), newWorld(t, 3)
	w.say("alice", TypeRecord, Record{Text: "ours"})
	astray.say("alice", TypeRecord, Record{Text: "theirs"})
	same, other := w.seal(0), astray.seal(0)
	w.say("bob", TypeRecord, Record{Text: "later"})
	later := w.seal(0)
	proof, err := tlog.ProveTree(int64(later.Size), int64(other.Size), w.tree)
	w.must(err)
	var hashes []Hash
	for _, h := range proof {
		hashes = append(hashes, Hash(h))
	}
	note := func(h Head, signers ...string) string { return string(w.sign(h, signers...).Note()) }
	make := func(ours Head, hashes []Hash, change func(*ForkProof)) error {
		p := &ForkProof{Authority: []*Link{GenesisLink(w.entries[0])}, Consistency: hashes, Ours: note(ours, "r02"), Root: same.Root, Theirs: note(other, "r02")}
		change(p)
		b, err := p.Encode()
		w.must(err)
		if p, err = ParseForkProof(b); err != nil {
			return err
		}
		report, err := p.Verify(w.hash)
		if err == nil && (report.Replica != "r02" || report.Theirs != other || report.Ours != ours || report.Operator != w.genesis.Replicas[1].Operator) {
			t.Errorf("the report is %+v", report)
		}
		return err
	}
	none := func(*ForkProof) {}
	if err := make(same, nil, none); err != nil {
		t.Errorf("at one size: %v", err)
	}
	if err := make(later, hashes, none); err != nil {
		t.Errorf("with a larger head: %v", err)
	}
	for name, change := range map[string]func(*ForkProof){
		"two replicas":          func(p *ForkProof) { p.Theirs = note(other, "r01") },
		"two cosignatures":      func(p *ForkProof) { p.Theirs = note(other, "r01", "r02") },
		"one history":           func(p *ForkProof) { p.Theirs = note(same, "r02") },
		"a made-up root":        func(p *ForkProof) { p.Root[0] ^= 1 },
		"their root as ours":    func(p *ForkProof) { p.Root = other.Root },
		"no consistency":        func(p *ForkProof) { p.Consistency = nil },
		"no authority":          func(p *ForkProof) { p.Authority = nil },
		"of another generation": func(p *ForkProof) { p.Theirs = string(w.signIn(1, other, "r02").Note()) },
		"a smaller one of ours": func(p *ForkProof) { p.Ours, p.Theirs = p.Theirs, p.Ours },
	} {
		if err := make(later, hashes, change); err == nil {
			t.Errorf("%s: it is taken for a proof", name)
		}
	}
	p := &ForkProof{Authority: []*Link{GenesisLink(w.entries[0])}, Ours: note(same, "r02"), Root: same.Root, Theirs: note(same, "r02")}
	if _, err := p.Verify(w.hash); !errors.Is(err, ErrProof) {
		t.Errorf("one head twice: %v", err)
	}
	if _, err := p.Verify(Hash{1}); err == nil {
		t.Error("another ledger's")
	}
}
