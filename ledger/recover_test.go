package ledger

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// recovering is how a ledger of three, r01 to r03, goes on without r02 and r03.
// Its zero value is the honest way; a hostile case changes one thing.
type recovering struct {
	body       func(*Recover)
	authors    []string // the first one's is the recover
	generation uint64   // of the statements
	between    string   // what stands where nothing may: "head" or "votes"
	forkers    []string // who cosigned the fork
	early      bool     // the fork is an earlier head
	record     func(*Authority)
	signers    []string
	link       func(*Link)
}

// lost is a ledger with a certified head, on which the recovery stands.
func lost(t testing.TB) (w *world, early, head Head) {
	w = newWorld(t, 3)
	w.say("alice", TypeRecord, Record{Text: "before"})
	early = w.seal(0)
	w.say("bob", TypeRecord, Record{Text: "the last that was certified"})
	return w, early, w.seal(0)
}

func (r recovering) make(w *world, early, head Head) *Link {
	w.t.Helper()
	if r.authors == nil {
		r.authors = []string{"alice", "bob"}
	}
	if r.forkers == nil {
		r.forkers = []string{"r01", "r02"}
	}
	if r.signers == nil {
		r.signers = []string{"r01"}
	}
	body := Recover{At: w.stamp, Generation: 1, Keep: []string{"r01"}, New: []Replica{testReplica("r02", "bolt", "r02:new"), testReplica("r05", "core", "r05")},
		Head: RecoverHead{Last: LeafHash(w.entries[head.Size-1]), Root: head.Root, Size: head.Size}}
	if r.body != nil {
		r.body(&body)
	}
	if r.between == "head" {
		w.say("carol", TypeRecord, Record{Text: "between"})
	}
	say := func(author, typ string, body any) (uint64, *Statement) {
		p := w.payload(author, typ)
		p.Generation = r.generation
		return w.sayBy(testKey(author), p, body)
	}
	seq, first := say(r.authors[0], TypeRecover, body)
	causes := []uint64{seq}
	for _, author := range r.authors[1:] {
		if r.between == "votes" {
			w.say("carol", TypeRecord, Record{Text: "between"})
		}
		seq, _ := say(author, TypeApprove, Ballot{Proposal: first.ID})
		causes = append(causes, seq)
	}
	l := w.handover(causes, func(a *Authority) {
		a.Generation = body.Generation
		a.Replicas = a.Replicas[:1]
		for _, one := range body.New {
			a.Replicas = append(a.Replicas, authorityReplica(one, true))
		}
		if r.record != nil {
			r.record(a)
		}
	}, r.signers...)
	fork := head
	if r.early {
		fork = early
	}
	proof, err := tlog.ProveTree(int64(w.size()), int64(fork.Size), w.tree)
	w.must(err)
	note := w.signIn(0, fork, r.forkers...)
	for i := range note.Cosignatures {
		note.Cosignatures[i] = note.Cosignatures[i].WithoutMLDSA44()
	}
	l.Fork = &Fork{Checkpoint: string(note.Note())}
	for _, h := range proof {
		l.Fork.Proof = append(l.Fork.Proof, Hash(h))
	}
	if r.link != nil {
		r.link(l)
	}
	return l
}

// readyAfter makes the first new replica active, as a statement of generation 1.
func readyAfter(w *world, generation uint64) *Link {
	p := w.payload("r05", TypeReady)
	p.Generation = generation
	seq, _ := w.sayBy(testKey("r05"), p, Ready{Format: Format, Root: w.head().Root, Size: w.size()})
	return w.handover([]uint64{seq}, func(a *Authority) { a.Replicas[2].Joining = false }, "r01", "r05")
}

// hostileRecoveries are refused after link 0, each for the reason why.
var hostileRecoveries = []struct {
	name, why string
	recovering
}{
	{"one operator", "has the approval of 1 operators, needs 2", recovering{authors: []string{"alice"}}},
	{"a recovery holder approves", "has no vote", recovering{authors: []string{"alice", "rhea"}}},
	{"a replica approves", "has no vote", recovering{authors: []string{"alice", "r02"}}},
	{"a governor approves twice", "a second vote", recovering{authors: []string{"alice", "bob", "bob"}}},
	{"a generation is skipped", "it opens generation 2", recovering{body: func(b *Recover) { b.Generation = 2 }}},
	{"statements of the generation that they open", "it names generation 1", recovering{generation: 1}},
	{"an entry between the head and the recovery", "does not follow the head", recovering{between: "head"}},
	{"an entry between the votes", "does not follow the head", recovering{between: "votes"}},
	{"the fork is missing", "fork: a link has one", recovering{link: func(l *Link) { l.Fork = nil }}},
	{"the fork is an earlier head", "names another one", recovering{early: true}},
	{"the fork is cosigned by one of three", "cosigned by 1", recovering{forkers: []string{"r03"}}},
	{"the fork is cosigned by new ones", "cosigned by 1", recovering{forkers: []string{"r01", "r05"}}},
	{"the fork's proof is changed", "fork", recovering{link: func(l *Link) { l.Fork.Proof[0][0] ^= 1 }}},
	{"the fork's proof is cut", "fork", recovering{link: func(l *Link) { l.Fork.Proof = l.Fork.Proof[1:] }}},
	{"another root", "names another one", recovering{body: func(b *Recover) { b.Head.Root[0] ^= 1 }}},
	{"another last entry", "another last entry", recovering{body: func(b *Recover) { b.Head.Last[0] ^= 1 }}},
	{"the key of a lost replica under another name", "has the key of a replica of before", recovering{body: func(b *Recover) {
		b.New[1].Public = testKey("r03").Public().Bytes()
	}}},
	{"the key of a lost replica under its name", "has the key of a replica of before", recovering{body: func(b *Recover) {
		b.New[0].Public = testKey("r02").Public().Bytes()
	}}},
	{"a replica stays that is not there", "not there", recovering{body: func(b *Recover) { b.Keep = append(b.Keep, "r09") }}},
	{"a memo that is too long", "memo", recovering{body: func(b *Recover) { b.Memo = strings.Repeat("m", MaxMemoBytes+1) }}},
	{"nobody stays", "nobody holds", recovering{body: func(b *Recover) { b.Keep = []string{} }}},
	{"a new replica counts at once", "is not what the statements make of it", recovering{
		record: func(a *Authority) { a.Replicas[2].Joining = false }, signers: []string{"r01", "r05"}}},
	{"a lost replica stays in the record", "is not what the statements make of it", recovering{record: func(a *Authority) {
		a.Replicas = append(a.Replicas[:2:2], authorityReplica(testReplica("r03", "core", "r03"), false), a.Replicas[2])
	}, signers: []string{"r01", "r03"}}},
	{"the generation does not rise in the record", "generation is not what", recovering{record: func(a *Authority) { a.Generation = 0 }}},
	{"certified by the lost majority instead", "under the authority that follows", recovering{signers: []string{"r02", "r03"}}},
}

// until makes a recovery's body end some time after its at.
func until(after int64) recovering {
	return recovering{body: func(b *Recover) { b.Until = uint64(int64(b.At) + after) }}
}

// timedRecoveries end before they begin, or too late.
var timedRecoveries = []struct {
	name string
	recovering
}{
	{"until is at", until(0)},
	{"until is before at", until(-1)},
	{"until is more than 30 days after at", until(MaxNonceTTLMillis + 1)},
}

func TestRecoveryUntil(t *testing.T) {
	for after, good := range map[int64]bool{1: true, MaxNonceTTLMillis: true, 0: false, -1: false, MaxNonceTTLMillis + 1: false} {
		w, early, head := lost(t)
		_, err := WalkChain(w.hash, []*Link{GenesisLink(w.entries[0]), until(after).make(w, early, head)})
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "until") {
			t.Errorf("until is %d ms after at: %v", after, err)
		}
	}
}

func TestRecoveryLink(t *testing.T) {
	w, early, head := lost(t)
	links := []*Link{GenesisLink(w.entries[0]), recovering{}.make(w, early, head)}
	links = append(links, readyAfter(w, 1))
	chain, err := WalkChain(w.hash, links)
	if err != nil {
		t.Fatal(err)
	}
	if fork, ok := chain.Fork(1); !ok || fork != head || chain.Latest.Generation != 1 || len(chain.Latest.Active()) != 2 {
		t.Errorf("it goes on from %+v as generation %d with %d", fork, chain.Latest.Generation, len(chain.Latest.Active()))
	}
	if _, ok := chain.Fork(2); ok {
		t.Error("link 2 opens a generation")
	}
	for _, c := range hostileRecoveries {
		w, early, head := lost(t)
		link := c.make(w, early, head)
		chain, err := WalkChain(w.hash, []*Link{GenesisLink(w.entries[0])})
		w.must(err)
		if err := chain.Extend(link); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: want %q in: %v", c.name, c.why, err)
		}
	}
}

// left is a head that the old majority certifies beyond the fork.
func left(t testing.TB) (*world, Head) {
	w, _, _ := lost(t)
	w.say("alice", TypeRecord, Record{Text: "on the branch that was left"})
	return w, w.seal(0)
}

func TestLeftBranch(t *testing.T) {
	w, early, head := lost(t)
	chain, err := WalkChain(w.hash, []*Link{GenesisLink(w.entries[0]), recovering{}.make(w, early, head)})
	if err != nil {
		t.Fatal(err)
	}
	old, beyond := left(t)
	if _, err := chain.VerifyCheckpoint(old.sign(beyond, "r02", "r03").Note()); !errors.Is(err, ErrLeftBranch) {
		t.Errorf("a head of the branch that was left: %v", err)
	}
	// What the one that stays cosigned there, alone, must not count as its word in
	// the generation in which it is enough alone.
	for old.size() <= w.size() {
		old.say("alice", TypeRecord, Record{Text: "on the branch that was left"})
	}
	if _, err := chain.VerifyCheckpoint(old.sign(old.seal(0), "r01").Note()); err == nil {
		t.Error("a head of the branch that was left is certified by what r01 signed for the generation before")
	}
	for _, h := range []Head{early, head} {
		if _, err := chain.VerifyCheckpoint(w.signIn(0, h, "r02", "r03").Note()); err != nil {
			t.Errorf("the head of size %d, which both have: %v", h.Size, err)
		}
	}
}

func makeRecoverUntil(t testing.TB) authorityVectors {
	v := authorityVectors{About: "Recovery with until (FORMAT.md section 15), of the ledger of recover-with-test-keys.json. Each of refused is sealed."}
	w, early, head := lost(t)
	v.Genesis = w.hash[:]
	add := func(l *Link) {
		v.Links = append(v.Links, linkText(t, l))
		v.Certifiers = append(v.Certifiers, strings.Join(w.replicas(), " "))
	}
	add(GenesisLink(w.entries[0]))
	add(until(1).make(w, early, head))
	v.Checkpoints = []noteVector{
		{Name: "the head that opens the generation", Note: string(w.signIn(1, w.head(), "r01").Note()), OK: true},
		{Name: "the head that opens the generation, by the lost ones", Note: string(w.signIn(1, w.head(), "r02", "r03").Note())},
	}
	for _, c := range timedRecoveries {
		w, early, head := lost(t)
		v.Refused = append(v.Refused, refusedLink{Name: c.name, After: 0, Link: linkText(t, c.make(w, early, head))})
	}
	texts := []*string{&v.Checkpoints[0].Note, &v.Checkpoints[1].Note}
	for i := range v.Links {
		texts = append(texts, &v.Links[i])
	}
	for i := range v.Refused {
		texts = append(texts, &v.Refused[i].Link)
	}
	v.Strings = shorten(texts...)
	return v
}

func makeRecover(t testing.TB) authorityVectors {
	v := authorityVectors{About: "Recovery (FORMAT.md section 15): of three replicas one is left; the council goes on with it and two new ones as generation 1, and one of them gets ready. Each of refused is sealed."}
	w, early, head := lost(t)
	v.Genesis = w.hash[:]
	note := func(name string, ok bool, w *world, h Head, signers ...string) {
		generation := w.now.Generation
		if h.Size <= head.Size {
			generation = 0
		}
		v.Checkpoints = append(v.Checkpoints, noteVector{Name: name, Note: string(w.signIn(generation, h, signers...).Note()), OK: ok})
	}
	add := func(l *Link) {
		v.Links = append(v.Links, linkText(t, l))
		v.Certifiers = append(v.Certifiers, strings.Join(w.replicas(), " "))
	}
	add(GenesisLink(w.entries[0]))
	opening := recovering{}.make(w, early, head)
	opened := w.head()
	add(opening)
	add(readyAfter(w, 1))
	note("the head from which it goes on, by two of three lost or not", true, w, head, "r02", "r03")
	note("the head from which it goes on, by the one that stays", false, w, head, "r01")
	note("the head that opens the generation, by the one that stays", true, w, opened, "r01")
	note("the head that opens the generation, by the lost ones", false, w, opened, "r02", "r03")
	old, beyond := left(t)
	note("a head of the branch that was left, by the lost ones", false, old, beyond, "r02", "r03")
	note("a head of the branch that was left, by all three", false, old, beyond, "r01", "r02", "r03")
	for old.size() <= opened.Size {
		old.say("alice", TypeRecord, Record{Text: "on the branch that was left"})
	}
	note("a larger head of the branch that was left, by the one that stays", false, old, old.seal(0), "r01")
	w.say("alice", TypeRecord, Record{Text: "after"})
	last := w.seal(0)
	note("a head after it, by both that count", true, w, last, "r01", "r05")
	v.Checkpoints = append(v.Checkpoints, noteVector{Name: "a head after it, by both that count, signed for the generation before",
		Note: string(w.signIn(0, last, "r01", "r05").Note()), OK: false})
	note("a head after it, by one and a lost one", false, w, last, "r01", "r02")
	refuse := func(name string, after int, l *Link) {
		v.Refused = append(v.Refused, refusedLink{Name: name, After: after, Link: linkText(t, l)})
	}
	for _, c := range hostileRecoveries {
		w, early, head := lost(t)
		refuse(c.name, 0, c.make(w, early, head))
	}
	refuse("the same recovery again", 1, opening)
	w, early, head = lost(t)
	recovering{}.make(w, early, head)
	refuse("a ready of the generation before", 1, readyAfter(w, 0))
	ordinary := newWorld(t, 3)
	l := growth[0](ordinary)
	l.Fork = opening.Fork
	refuse("an ordinary change with a fork", 0, l)
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

// branch is a chain with its links.
type branch struct {
	*Chain
	links []*Link
}

// parted are two branches of a ledger: the one goes on with a handover, on the other
// alice and bob went on from the head before it, with r01.
func parted(t *testing.T, handover func(w *world) *Link) (ours, rival branch) {
	w, _, _ := lost(t)
	other, early, head := lost(t)
	ours.links = []*Link{GenesisLink(w.entries[0]), handover(w)}
	rival.links = []*Link{GenesisLink(w.entries[0]), recovering{}.make(other, early, head)}
	for _, b := range []*branch{&ours, &rival} {
		var err error
		b.Chain, err = WalkChain(w.hash, b.links)
		w.must(err)
	}
	return ours, rival
}

// replaceBy hands the ledger over to a council without those who leave.
func replaceBy(leave []string, come ...Member) func(w *world) *Link {
	return func(w *world) *Link {
		causes := w.decide("council.change", map[string]any{"add": come, "remove": leave}, "alice", "bob")
		return w.handover(causes, func(a *Authority) {
			for _, name := range leave {
				a.Council = slices.DeleteFunc(a.Council, func(m AuthorityMember) bool { return m.Name == name })
			}
			a.Council = append(a.Council, authorityCouncil(come)...)
			slices.SortFunc(a.Council, func(x, y AuthorityMember) int { return strings.Compare(x.Name, y.Name) })
		}, "r01", "r02", "r03")
	}
}

// A council that was replaced on our chain can't end it from a head of its time;
// the present one can, whatever was certified meanwhile.
func TestFormerCouncil(t *testing.T) {
	dave, erin := testMember("dave", "acme"), testMember("erin", "bolt")
	for _, c := range []struct {
		name   string
		last   func(w *world) *Link
		have   uint64
		stands bool
	}{
		{"the council stayed", func(w *world) *Link { return addFourth(w, 0) }, 2, false},
		{"a third one left", replaceBy([]string{"carol"}, testMember("frank", "core")), 2, false},
		{"one of those who signed left", replaceBy([]string{"bob"}, erin), 1, true},
		{"both who signed left", replaceBy([]string{"alice", "bob"}, dave, erin), 0, true},
		{"one has another key", replaceBy([]string{"bob"}, Member{Name: "bob", Operator: "bolt", Public: testKey("bob:new").Public().Bytes()}), 1, true},
	} {
		ours, rival := parted(t, c.last)
		former := ours.Outvotes(rival.Chain, rival.links)
		if (former != nil) != c.stands {
			t.Errorf("%s: %v", c.name, former)
			continue
		}
		if former == nil {
			continue
		}
		fork, _ := rival.Fork(1)
		first, err := ParseEntry(rival.links[1].Statements[0].Entry)
		if err != nil {
			t.Fatal(err)
		}
		st, err := ParseStatement(first.Content)
		if err != nil {
			t.Fatal(err)
		}
		if former.Have != c.have || former.Need != 2 || former.Generation != 1 || former.Index != 1 || former.Fork != fork ||
			former.Recovery != st.ID || strings.Join(former.Signers, " ") != "alice bob" {
			t.Errorf("%s: %+v", c.name, former)
		}
		if err := rival.Outvotes(ours.Chain, ours.links); err != nil {
			t.Errorf("%s: the chain of a lower generation is kept against one of a higher: %v", c.name, err)
		}
	}
	// One that is merely behind knows no better.
	w := newWorld(t, 3)
	behind, err := WalkChain(w.hash, []*Link{GenesisLink(w.entries[0])})
	w.must(err)
	_, rival := parted(t, growth[0])
	if former := behind.Outvotes(rival.Chain, rival.links); former != nil {
		t.Errorf("a chain that the other one continues: %v", former)
	}
}
