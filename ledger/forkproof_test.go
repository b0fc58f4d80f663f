package ledger

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"golang.org/x/mod/sumdb/tlog"
)

// forkWorld is a ledger that r02 left for another history at a seal. Later r04
// comes, to join, and r02 goes.
type forkWorld struct {
	*world
	same, other, later Head // ours where they part, theirs, and ours at the end
	links              []*Link
}

func newForkWorld(t testing.TB) *forkWorld {
	astray := newWorld(t, 3)
	astray.say("alice", TypeRecord, Record{Text: "theirs"})
	w := &forkWorld{world: newWorld(t, 3), other: astray.seal(0)}
	w.links = []*Link{GenesisLink(w.entries[0])}
	w.say("alice", TypeRecord, Record{Text: "ours"})
	w.same = w.seal(0)
	w.links = append(w.links, addFourth(w.world, 0))
	causes := w.decide("replica.remove", map[string]any{"name": "r02"}, "alice", "bob")
	w.links = append(w.links, w.handover(causes, func(a *Authority) { a.Replicas = slices.Delete(a.Replicas, 1, 2) }, "r01", "r03"))
	w.say("bob", TypeRecord, Record{Text: "later"})
	w.later = w.seal(0)
	return w
}

func (w *forkWorld) note(h Head, signers ...string) string {
	return string(w.sign(h, signers...).Note())
}

func (w *forkWorld) consistency(old, size uint64) []Hash {
	proof, err := tlog.ProveTree(int64(size), int64(old), w.tree)
	w.must(err)
	hashes := []Hash{}
	for _, h := range proof {
		hashes = append(hashes, Hash(h))
	}
	return hashes
}

// proof is that r02 forked, with a head of ours at the end.
func (w *forkWorld) proof() *ForkProof {
	return &ForkProof{Authority: w.links, Consistency: w.consistency(w.same.Size, w.later.Size), Ours: w.note(w.later, "r02"), Root: w.same.Root, Theirs: w.note(w.other, "r02")}
}

// proofAtOnce is the same at one size, with a chain of link 0 alone.
func (w *forkWorld) proofAtOnce() *ForkProof {
	return &ForkProof{Authority: w.links[:1], Consistency: []Hash{}, Ours: w.note(w.same, "r02"), Root: w.same.Root, Theirs: w.note(w.other, "r02")}
}

// forkCase is a file, and why it proves nothing; "" if it does.
type forkCase struct {
	name, why string
	file      []byte
}

func forkCases(t testing.TB) (Hash, []forkCase) {
	w := newForkWorld(t)
	var cases []forkCase
	add := func(name, why string, p *ForkProof, change func(p *ForkProof)) {
		if change != nil {
			change(p)
		}
		b, err := p.Encode()
		w.must(err)
		cases = append(cases, forkCase{name, why, b})
	}
	add("a larger head of ours, of a replica that has gone since", "", w.proof(), nil)
	add("two heads of one size", "", w.proofAtOnce(), nil)
	add("a chain that is longer than need be", "", w.proofAtOnce(), func(p *ForkProof) { p.Authority = w.links })
	astray := w.other
	astray.Origin = "ledger.test/elsewhere"
	ours := w.same
	ours.Origin = astray.Origin
	unpaired := func(h Head) string {
		c := w.sign(h, "r02")
		c.Cosignatures[0] = c.Cosignatures[0].WithoutMLDSA44()
		return string(c.Note())
	}
	altered := func(h Head, change func(c *Cosignature)) string {
		c := w.sign(h, "r02")
		change(&c.Cosignatures[0])
		return string(c.Note())
	}
	withLog := func(h Head) string {
		c := w.sign(h, "r02")
		c.LogLines = w.log.Sign(h, w.stamp/1000)
		return string(c.Note())
	}
	const witness = "\u2014 witness.example AAAAAAAAAAA=\n"
	for _, c := range []struct {
		name, why string
		change    func(*ForkProof)
	}{
		{"of two replicas", "are of", func(p *ForkProof) { p.Theirs = w.note(w.other, "r01") }},
		{"theirs has two cosignatures", "one cosignature", func(p *ForkProof) { p.Theirs = w.note(w.other, "r01", "r02") }},
		{"ours has two cosignatures", "one cosignature", func(p *ForkProof) { p.Ours = w.note(w.later, "r01", "r02") }},
		{"theirs has none", "one cosignature", func(p *ForkProof) { p.Theirs = w.note(w.other) }},
		{"theirs has a line of the log", "one cosignature", func(p *ForkProof) { p.Theirs = withLog(w.other) }},
		{"ours has a line of a witness", "one cosignature", func(p *ForkProof) { p.Ours += witness }},
		{"theirs without its ML-DSA-44 line", "no key", func(p *ForkProof) { p.Theirs = unpaired(w.other) }},
		{"ours without its ML-DSA-44 line", "no key", func(p *ForkProof) { p.Ours = unpaired(w.later) }},
		{"theirs with a bad ML-DSA-65 signature", "no key", func(p *ForkProof) {
			p.Theirs = altered(w.other, func(c *Cosignature) { c.MLDSA65[700] ^= 1 })
		}},
		{"ours with a bad ML-DSA-65 signature", "no key", func(p *ForkProof) {
			p.Ours = altered(w.later, func(c *Cosignature) { c.MLDSA65[700] ^= 1 })
		}},
		{"theirs with a bad ML-DSA-44 signature", "no key", func(p *ForkProof) {
			p.Theirs = altered(w.other, func(c *Cosignature) { c.MLDSA44[700] ^= 1 })
		}},
		{"theirs at another time", "no key", func(p *ForkProof) { p.Theirs = altered(w.other, func(c *Cosignature) { c.Time++ }) }},
		{"theirs with another key's id", "no key", func(p *ForkProof) { p.Theirs = altered(w.other, func(c *Cosignature) { c.ID65[0] ^= 1 }) }},
		{"one history", "of one history", func(p *ForkProof) { p.Theirs = w.note(w.same, "r02") }},
		{"a made-up root", "consistency", func(p *ForkProof) { p.Root[0] ^= 1 }},
		{"their root as ours", "of one history", func(p *ForkProof) { p.Root = w.other.Root }},
		{"no consistency", "consistency", func(p *ForkProof) { p.Consistency = nil }},
		{"a hash changed", "consistency", func(p *ForkProof) { p.Consistency[0][3] ^= 1 }},
		{"a hash too many", "consistency", func(p *ForkProof) { p.Consistency = append(p.Consistency, p.Consistency[0]) }},
		{"129 hashes", "consistency", func(p *ForkProof) { p.Consistency = make([]Hash, 129) }},
		{"ours is the smaller one", "consistency", func(p *ForkProof) { p.Ours, p.Theirs = p.Theirs, p.Ours }},
		{"no authority", "", func(p *ForkProof) { p.Authority = []*Link{} }},
		{"a link is missing", "", func(p *ForkProof) { p.Authority = []*Link{p.Authority[0], p.Authority[2]} }},
		{"theirs is of another generation", "no key", func(p *ForkProof) { p.Theirs = string(w.signIn(1, w.other, "r02").Note()) }},
		{"both are of another generation", "no key", func(p *ForkProof) {
			p.Ours, p.Theirs = string(w.signIn(1, w.later, "r02").Note()), string(w.signIn(1, w.other, "r02").Note())
		}},
		{"of a replica that is joining", "no key", func(p *ForkProof) { p.Ours, p.Theirs = w.note(w.later, "r04"), w.note(w.other, "r04") }},
		{"theirs is signed with another key", "no key", func(p *ForkProof) { p.Theirs = w.note(w.other, "r02:new") }},
		{"both are signed with a key that is not on the ledger", "no key", func(p *ForkProof) {
			p.Ours, p.Theirs = w.note(w.later, "r02:new"), w.note(w.other, "r02:new")
		}},
		{"theirs has another origin", "are of", func(p *ForkProof) { p.Theirs = w.note(astray, "r02") }},
		{"both have another origin", "the ledger is", func(p *ForkProof) {
			p.Ours, p.Theirs, p.Consistency = w.note(ours, "r02"), w.note(astray, "r02"), []Hash{}
		}},
		{"theirs is no note", "parse checkpoint", func(p *ForkProof) { p.Theirs = strings.Replace(p.Theirs, "\n\n", "\n", 1) }},
	} {
		why := c.why
		if why == "" {
			why = "authority"
		}
		add(c.name, why, w.proof(), c.change)
	}
	add("two heads of one size, and hashes", "two roots", w.proofAtOnce(), func(p *ForkProof) { p.Consistency = []Hash{{}} })
	whole := cases[0].file
	root, err := canon.Marshal(w.same.Root)
	w.must(err)
	for _, c := range []struct{ name, from, to string }{
		{"another type", "quorate/fork-proof.v1", "quorate/fork-proof.v2"},
		{"a field too many", `{"authority":`, `{"also":1,"authority":`},
		{"a field missing", `"root":` + string(root) + `,`, ""},
		{"white space", `,"type":`, `, "type":`},
	} {
		b := bytes.Replace(whole, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(b, whole) {
			t.Fatalf("%s changes nothing", c.name)
		}
		cases = append(cases, forkCase{c.name, "parse fork proof", b})
	}
	cases = append(cases, forkCase{"cut", "parse fork proof", whole[:len(whole)-1]})
	return w.hash, cases
}

func verifyForkFile(b []byte, genesis Hash) (*ForkReport, error) {
	p, err := ParseForkProof(b)
	if err != nil {
		return nil, err
	}
	return p.Verify(genesis)
}

// A replica that signed two histories is proven to have, with nothing but the
// genesis hash; each change of the file proves nothing.
func TestForkProof(t *testing.T) {
	genesis, cases := forkCases(t)
	held := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report, err := verifyForkFile(c.file, genesis)
			if c.why != "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("want %q in: %v", c.why, err)
				}
				return
			}
			held++
			if err != nil {
				t.Fatal(err)
			}
			if key := testKey("r02").ID(); report.Replica != "r02" || report.Operator != "bolt" || report.Key != Hash(key) || report.Ours.Size < report.Theirs.Size ||
				report.Root == report.Theirs.Root || report.Signed == 0 || report.Generation != 0 {
				t.Errorf("the report is %+v", report)
			}
			if _, err := verifyForkFile(c.file, Hash{1}); err == nil {
				t.Error("it holds for another ledger too")
			}
		})
	}
	if held != 3 {
		t.Errorf("%d files hold", held)
	}
}

func makeForks(t testing.TB) forkVectors {
	v := forkVectors{About: "Fork proofs (FORMAT.md section 16), checked with nothing but the genesis hash."}
	genesis, cases := forkCases(t)
	v.Genesis = genesis[:]
	var texts []*string
	for _, c := range cases {
		made := forkVector{Name: c.name, File: string(c.file), Holds: c.why == ""}
		if made.Holds {
			report, err := verifyForkFile(c.file, genesis)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			made.Replica, made.Operator, made.Key, made.Signed = report.Replica, report.Operator, report.Key[:], report.Signed
			made.Ours, made.Theirs, made.Root, made.Forked = report.Ours.Size, report.Theirs.Size, report.Root[:], report.Theirs.Root[:]
		}
		v.Cases = append(v.Cases, made)
	}
	for i := range v.Cases {
		texts = append(texts, &v.Cases[i].File)
	}
	v.Strings = shorten(texts...)
	return v
}

func checkForks(t *testing.T, v forkVectors) {
	sorts := map[string]int{"holds": 0, "refused": 0}
	for _, c := range v.Cases {
		report, err := verifyForkFile(lengthen(t, c.File, v.Strings), Hash(v.Genesis))
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
			continue
		}
		if err != nil {
			sorts["refused"]++
			continue
		}
		sorts["holds"]++
		if report.Replica != c.Replica || report.Operator != c.Operator || !bytes.Equal(report.Key[:], c.Key) || report.Signed != c.Signed || report.Ours.Size != c.Ours ||
			report.Theirs.Size != c.Theirs || !bytes.Equal(report.Root[:], c.Root) || !bytes.Equal(report.Theirs.Root[:], c.Forked) {
			t.Errorf("%s: another report: %+v", c.Name, report)
		}
	}
	wants(t, sorts)
}
