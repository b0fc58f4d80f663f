package ledger

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

// packCase is a join pack that holds, endorsed at a time, or is refused for the
// reason why.
type packCase struct {
	name, why string
	file      []byte
	endorsed  uint64
}

// packTime is when the endorsers of packCases sign, in the order in which they
// are named: a second after each other.
const packTime = 1_700_000_100_000

// packWorld has a council in which carol gave her seat to dave, of dune, and anna
// joined alice, of acme; heads before and after that.
type packWorld struct {
	*world
	links             []*Link
	early, last, late Head
}

func newPackWorld(t testing.TB) *packWorld {
	p := &packWorld{world: newWorld(t, 3)}
	p.say("alice", TypeRecord, Record{Text: "noted"})
	p.early = p.seal(0)
	p.links = grow(p.world, len(growth))
	p.last = p.head()
	p.say("bob", TypeRecord, Record{Text: "noted later"})
	p.late = p.seal(0)
	return p
}

// pack is of a head, with the first links, certified by all and endorsed by these
// governors.
func (p *packWorld) pack(h Head, links int, endorsers ...string) *JoinPack {
	signed := p.sign(h, "r01", "r02", "r03")
	for i := range signed.Cosignatures {
		signed.Cosignatures[i] = signed.Cosignatures[i].WithoutMLDSA44()
	}
	made := &JoinPack{Authority: p.links[:links], Checkpoint: string(signed.Note())}
	for i, name := range endorsers {
		made.Add(Endorse(p.hash, testKey(name), name, h, packTime+1000*uint64(i)))
	}
	return made
}

func packCases(t testing.TB) (genesis Hash, cases []packCase) {
	w := newPackWorld(t)
	add := func(name, why string, endorsed uint64, p *JoinPack, change func(*JoinPack)) {
		if change != nil {
			change(p)
		}
		if p.Type == "" {
			p.Type = JoinPackType
		}
		if p.Endorsements == nil {
			p.Endorsements = []Endorsement{}
		}
		b, err := canon.Marshal(p)
		w.must(err)
		cases = append(cases, packCase{name, why, b, endorsed})
	}
	all := len(w.links)
	add("two of three operators", "", packTime, w.pack(w.late, all, "alice", "bob"), nil)
	add("all governors: the second newest operator's time counts", "", packTime+2000, w.pack(w.late, all, "alice", "bob", "dave", "anna"), nil)
	add("the head of a handover, by the council that it seats", "", packTime, w.pack(w.last, all, "dave", "anna"), nil)
	add("before the first handover, by the founders", "", packTime, w.pack(w.early, 1, "alice", "carol"), nil)
	add("nobody", "endorsed by nobody: 0 of 2 operators", 0, w.pack(w.late, all), nil)
	add("too few operators", "by alice of acme: 1 of 2 operators", 0, w.pack(w.late, all, "alice"), nil)
	add("the same operator twice", "by alice of acme, anna of acme: 1 of 2 operators", 0, w.pack(w.late, all, "alice", "anna"), nil)
	add("a former governor", "carol: no governor of this name", 0, w.pack(w.late, all, "alice", "carol"), nil)
	add("a former governor beside enough", "carol: no governor of this name", 0, w.pack(w.late, all, "alice", "bob", "carol"), nil)
	add("the former council, with the chain that replaced it", "goes on to a handover", 0, w.pack(w.early, all, "alice", "carol"), nil)
	add("a governor of later", "dave: no governor of this name", 0, w.pack(w.early, 1, "alice", "dave"), nil)
	add("a recovery holder", "rhea: no governor of this name", 0, w.pack(w.late, all, "alice", "rhea"), nil)
	add("a replica", "r01: no governor of this name", 0, w.pack(w.late, all, "alice", "r01"), nil)
	spoil := func(name, why string, change func(e *Endorsement)) {
		add(name, why, 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) { change(&p.Endorsements[1]) })
	}
	const unsigned = "bob: it is not signed by the key"
	by := func(key string, branch Hash, h Head) func(e *Endorsement) {
		return func(e *Endorsement) { *e = Endorse(branch, testKey(key), "bob", h, packTime) }
	}
	spoil("an endorsement of another head", unsigned, by("bob", w.hash, w.last))
	spoil("an endorsement for another ledger", unsigned, by("bob", Hash{7}, w.late))
	spoil("an endorsement in another generation", unsigned, by("bob", Branch(w.hash, 1), w.late))
	spoil("another's key under a governor's name", unsigned, by("alice", w.hash, w.late))
	spoil("a later time than was signed", unsigned, func(e *Endorsement) { e.Time++ })
	spoil("no time", "bob: it has no time", func(e *Endorsement) { e.Time = 0 })
	spoil("a signature cut short", unsigned, func(e *Endorsement) { e.Signature = e.Signature[1:] })
	spoil("one governor twice", "appears twice", func(e *Endorsement) { *e = Endorse(w.hash, testKey("alice"), "alice", w.late, packTime+5) })
	add("not sorted by name", "sorted by name", 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) {
		p.Endorsements[0], p.Endorsements[1] = p.Endorsements[1], p.Endorsements[0]
	})
	add("a head by one of three", "cosigned by 1", 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) {
		p.Checkpoint = string(w.sign(w.late, "r02").Note())
	})
	add("a head that nobody certified", "does not verify", 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) {
		c, err := ParseCheckpoint([]byte(p.Checkpoint))
		w.must(err)
		c.Head.Root[0] ^= 1
		p.Checkpoint = string(c.Note())
	})
	add("no chain", "no link at all", 0, w.pack(w.late, 0, "alice", "bob"), nil)
	add("a link is missing", "does not follow", 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) {
		p.Authority = append([]*Link{w.links[0]}, w.links[2:]...)
	})
	add("another type", "type", 0, w.pack(w.late, all, "alice", "bob"), func(p *JoinPack) { p.Type = "quorate/join-pack.v2" })
	cases = append(cases, packCase{"a line feed after it", "trailing_bytes", append(bytes.Clone(cases[0].file), '\n'), 0})
	return w.hash, cases
}

func verifyPack(b []byte, genesis Hash) (*JoinPackReport, error) {
	p, err := ParseJoinPack(b)
	if err != nil {
		return nil, err
	}
	return p.Verify(genesis)
}

func TestJoinPacks(t *testing.T) {
	genesis, cases := packCases(t)
	for _, c := range cases {
		report, err := verifyPack(c.file, genesis)
		switch {
		case c.why != "":
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: want %q in: %v", c.name, c.why, err)
			}
		case err != nil || report.Endorsed != c.endorsed || report.Genesis != genesis:
			t.Errorf("%s: %v, or another report", c.name, err)
		default:
			if _, err := verifyPack(c.file, Hash{1}); err == nil {
				t.Errorf("%s: it holds for another ledger too", c.name)
			}
		}
	}
}

// A pack is recent from an hour before its endorsement's time to a limit after it.
func TestJoinPackAge(t *testing.T) {
	genesis, cases := packCases(t)
	r, err := verifyPack(cases[0].file, genesis)
	if err != nil {
		t.Fatal(err)
	}
	for at, good := range map[int64]bool{
		0: true, MaxEndorsedAgeMillis: true, MaxEndorsedAgeMillis + 1: false, -MaxEndorsedAheadMillis: true, -MaxEndorsedAheadMillis - 1: false,
	} {
		err := r.Recent(uint64(packTime+at), MaxEndorsedAgeMillis)
		var age *PackAgeError
		if (err == nil) != good || err != nil && !errors.As(err, &age) {
			t.Errorf("%d ms after the endorsement: %v", at, err)
		}
	}
	if r.Recent(packTime+1001, 1000) == nil {
		t.Error("a limit of its own is not kept to")
	}
}

// What governors sign apart from each other makes one pack, whichever is put to
// which.
func TestJoinPacksMerge(t *testing.T) {
	w := newPackWorld(t)
	all := len(w.links)
	one, two := w.pack(w.late, all, "alice", "bob"), w.pack(w.late, all, "dave", "alice") // alice a second later
	if err := one.Merge(two); err != nil {
		t.Fatal(err)
	}
	if err := two.Merge(w.pack(w.late, all, "alice", "bob")); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(one.Endorsements, two.Endorsements) || len(one.Endorsements) != 3 || one.Endorsements[0].Time != packTime+1000 {
		t.Errorf("merged: %d and %d endorsements, alice's of %d", len(one.Endorsements), len(two.Endorsements), one.Endorsements[0].Time)
	}
	if r, err := one.Verify(w.hash); err != nil || len(r.Operators) != 3 {
		t.Errorf("merged: %v", err)
	}
	if err := one.Merge(w.pack(w.last, all, "dave")); err == nil || !strings.Contains(err.Error(), "two heads") {
		t.Errorf("of another head: %v", err)
	}
	other := newWorld(t, 4)
	alien := w.pack(w.late, all, "dave")
	alien.Authority = []*Link{GenesisLink(other.entries[0])}
	if err := one.Merge(alien); err == nil || !strings.Contains(err.Error(), "two ledgers") {
		t.Errorf("of another ledger: %v", err)
	}
}

// Whatever is read encodes to the same bytes, and none but the honest packs hold.
func FuzzParseJoinPack(f *testing.F) {
	genesis, cases := packCases(f)
	honest := map[string]bool{}
	for _, c := range cases {
		if len(c.file) < 200<<10 {
			f.Add(c.file)
		}
		honest[string(c.file)] = c.why == ""
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseJoinPack(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		same(t, b, again, err)
		if r, err := p.Verify(genesis); err == nil && !honest[string(b)] && r.Endorsed > packTime+10_000 {
			t.Fatal("a pack that nobody endorsed holds")
		}
	})
}
