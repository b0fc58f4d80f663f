package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// At whatever step of a rotation a node crashes, whatever the disk kept of it, and
// again in the life after: the key that the ledger has in force is at hand and no
// other signs, one successor is announced in the same words, no seq is used twice,
// and the rotation comes to its end.
func TestRotationSurvivesEveryCrash(t *testing.T) {
	steps := newRingWorld(t, "no crash").run(nil, "")
	if steps < 7 {
		t.Fatalf("a rotation has %d steps on disk: where are the others?", steps)
	}
	lives := 0
	for _, fault := range []string{faultLost, faultTorn, faultWhole} {
		for at := 1; at <= steps; at++ {
			for again := range 12 {
				w := newRingWorld(t, fmt.Sprintf("%s at step %d, then at %d", fault, at, again))
				w.run([]int{at, again}, fault)
				if len(w.heard) != 1 {
					t.Fatalf("%s: %d announcements were heard: %q", w.what, len(w.heard), w.heard)
				}
				lives++
			}
		}
	}
	t.Logf("a rotation has %d steps on disk; %d histories", steps, lives)
}

// What nobody took in its epoch is announced anew, of the same successor.
func TestAnnouncementThatIsLostIsMadeAnew(t *testing.T) {
	w := newRingWorld(t, "deaf")
	w.deaf = 8
	w.run(nil, "")
	if len(w.heard) < 2 {
		t.Errorf("heard: %q", w.heard)
	}
	for _, text := range w.heard {
		if text[len(text)-64:] != w.heard[0][len(w.heard[0])-64:] {
			t.Errorf("another successor: %q", w.heard)
		}
	}
}

func TestPlan(t *testing.T) {
	one, two, three, four := ledger.Hash{1}, ledger.Hash{2}, ledger.Hash{3}, ledger.Hash{4}
	named := newRing(one).named(two, "two")
	said := named.announced([]byte("next"))
	turned := said.turned(two, 7, 1)
	before := said.turned(two, 7, 1) // a ring that knows of no generation
	before.Generation = nil
	back := turned.wentBack(one, nil, 5, 2)
	given := said.dropped(6) // up
	other := given.named(four, "four").announced([]byte("next"))
	never := func(*ringKey) bool { return false }
	for name, c := range map[string]struct {
		ring *ring
		f    keyFacts
		want keyStep
	}{
		"nothing is due":          {newRing(one), keyFacts{Current: one, Able: true}, keyRest},
		"due":                     {newRing(one), keyFacts{Current: one, Able: true, Due: true}, keyMake},
		"due, in doubt":           {newRing(one), keyFacts{Current: one, Due: true}, keyRest},
		"named":                   {named, keyFacts{Current: one, Able: true}, keyAnnounce},
		"named, in doubt":         {named, keyFacts{Current: one}, keyRest},
		"said":                    {said, keyFacts{Current: one, Said: true}, keySend},
		"said, its epoch is over": {said, keyFacts{Current: one, Able: true}, keyAnnounce},
		"taken":                   {said, keyFacts{Current: one, Next: &two, Said: true, Able: true}, keyRest},
		"in force":                {said, keyFacts{Current: two}, keyTurn},
		"an old view":             {turned, keyFacts{Generation: 1, Current: one, Next: &two, Able: true, Due: true}, keyRest},
		"a view of what was left": {turned, keyFacts{Current: two, Able: true, Due: true}, keyRest},
		"it went back":            {turned, keyFacts{Generation: 2, Current: one, Able: true, Due: true}, keyBack},
		"and the key is gone":     {turned.destroyed(one), keyFacts{Generation: 2, Current: one, Able: true, Due: true}, keyRest},
		"and is of another line":  {turned.adopted(three, "three", 9), keyFacts{Generation: 2, Current: two}, keyRest},
		"it went on elsewhere":    {turned, keyFacts{Generation: 2, Current: two, Able: true}, keyRest},
		"a ring of before":        {before, keyFacts{Generation: 2, Current: one, Able: true, Due: true}, keyRest},
		"a ring of before learns": {before, keyFacts{Generation: 2, Current: two}, keyNote},
		"it has learned":          {before.noted(2), keyFacts{Generation: 2, Current: two}, keyRest},
		"after it went back":      {back, keyFacts{Generation: 2, Current: one, Able: true, Due: true}, keyMake},
		"what was, after that":    {back, keyFacts{Generation: 1, Current: two}, keyRest},
		"announced up to then":    {turned.wentBack(one, &two, 5, 2), keyFacts{Generation: 2, Current: one, Next: &two, Able: true}, keyRest},
		"and in force again":      {turned.wentBack(one, &two, 5, 2), keyFacts{Generation: 2, Current: two}, keyTurn},
		"a thief's":               {newRing(one), keyFacts{Current: one, Next: &three, Able: true, Due: true}, keyForeign},
		"a thief was first":       {said, keyFacts{Current: one, Next: &three, Said: true}, keyForeign},
		"known as another's":      {said, keyFacts{Current: one, Said: true, Taken: true}, keyDrop},
		"given up, and taken":     {given, keyFacts{Current: one, Next: &two, Able: true}, keyForeign},
		"given up, and in force":  {given, keyFacts{Current: two}, keyTurn},
		"the former is taken":     {other, keyFacts{Current: one, Next: &two, Said: true}, keyForeign},
		"the former is in force":  {other, keyFacts{Current: two}, keyTurn},
		"re-keyed":                {said, keyFacts{Current: three}, keyAdopt},
	} {
		c.f.Lapsed = never
		if got := c.ring.plan(&c.f); got != c.want {
			t.Errorf("%s: step %d, want %d", name, got, c.want)
		}
	}
	old := keyFacts{Generation: 1, Current: two, Lapsed: func(k *ringKey) bool { return k.ID == one }}
	if got := turned.plan(&old); got != keyDestroy {
		t.Errorf("an old key: step %d", got)
	}
	if got := turned.destroyed(one).plan(&old); got != keyRest {
		t.Errorf("an old key that is gone: step %d", got)
	}
}

// A successor that was given up is found again when the ledger has it after all, and
// the other that was made meanwhile ends.
func TestSuccessorIsRecalled(t *testing.T) {
	one, two, three := ledger.Hash{1}, ledger.Hash{2}, ledger.Hash{3}
	other := newRing(one).named(two, "two").announced([]byte("a")).dropped(6).named(three, "three").announced([]byte("b"))
	for name, r := range map[string]*ring{
		"announced": other.recalled(two, "two", 7).turned(two, 9, 0),
		"in force":  other.turned(two, 9, 0),
	} {
		if r.Active != two || r.find(two).Ended != nil || r.find(one).Ended == nil || r.find(three).Ended == nil || r.Next != nil || r.Said != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := other.recalled(two, "two", 7); *r.Next != two || r.Said != nil || *r.find(three).Ended != 7 {
		t.Errorf("recalled: %+v", r)
	}
}

// A key that people made takes the place of a line: its seqs are its own, and what
// the keys before it signed is not its.
func TestAdoptedKeyBeginsALine(t *testing.T) {
	shelf := newFaultShelf(&keys.File{Key: keys.FromSeed([keys.SeedSize]byte{1})})
	k, err := openKeyring(shelf)
	if err != nil {
		t.Fatal(err)
	}
	first := k.ring.Active
	made := &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{9})}
	id := ledger.Hash(made.Key.ID())
	if f, _, err := k.waiting(id); f != nil || err != nil {
		t.Fatalf("without a file: %v, %v", f, err)
	}
	shelf.key[rekeyName(id)] = made
	f, name, err := k.waiting(id)
	if err != nil || f != made {
		t.Fatalf("%v, %v", f, err)
	}
	if err := k.adopt(f, name, 7, 0); err != nil {
		t.Fatal(err)
	}
	if line := k.ring.lineage(); len(line) != 1 || line[0].ID != id || *k.ring.find(first).Ended != 6 {
		t.Errorf("the ring: %+v", k.ring)
	}
	// The configuration still names the old file, and that is no new key.
	if k, err = openKeyring(shelf); err != nil || k.ring.Active != id || k.held[id] == nil {
		t.Errorf("after a restart: %+v, %v", k.ring, err)
	}
	delete(shelf.key, "")
	if k, err = openKeyring(shelf); err != nil || k.held[id] == nil {
		t.Errorf("without the old file: %v", err)
	}
	// People put a restored key in its place: a line of its own.
	restored := &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{10})}
	shelf.key[""] = restored
	if k, err = openKeyring(shelf); err != nil || k.ring.Line != ledger.Hash(restored.Key.ID()) || !k.ring.find(first).Gone {
		t.Errorf("a restored key: %+v, %v", k.ring, err)
	}
}

// A key whose file is lost leaves an agent that starts only if people made another.
func TestLostKeyFile(t *testing.T) {
	shelf := newFaultShelf(&keys.File{Key: keys.FromSeed([keys.SeedSize]byte{1})})
	if _, err := openKeyring(shelf); err != nil {
		t.Fatal(err)
	}
	delete(shelf.key, "")
	if _, err := openKeyring(shelf); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without any key: %v", err)
	}
	made := &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{9})}
	shelf.key[rekeyName(ledger.Hash(made.Key.ID()))] = made
	k, err := openKeyring(shelf)
	if err != nil || k.held[k.ring.Active] != nil || len(k.held) != 1 {
		t.Fatalf("with a key that waits: %+v, %v", k, err)
	}
}

// A ring that is damaged is made anew, and its successor is found on the shelf.
func TestDamagedRing(t *testing.T) {
	shelf := newFaultShelf(&keys.File{Key: keys.FromSeed([keys.SeedSize]byte{1})})
	k, err := openKeyring(shelf)
	if err != nil {
		t.Fatal(err)
	}
	made := func() (*keys.File, error) { return &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{2})}, nil }
	if err := k.make(made, func(ledger.Hash) bool { return false }); err != nil {
		t.Fatal(err)
	}
	for i := range shelf.content[ringName] {
		b := slices.Clone(shelf.content[ringName])
		b[i] ^= 1
		if _, err := decodeRing(ringName, b); err == nil {
			t.Fatalf("damaged at %d, and believed", i)
		}
	}
	shelf.content[ringName][9] ^= 1
	if k, err = openKeyring(shelf); err != nil || k.fail == nil || k.ring.Next != nil {
		t.Fatalf("%+v, %v", k, err)
	}
	id := ledger.Hash(keys.FromSeed([keys.SeedSize]byte{2}).ID())
	if f, _, err := k.waiting(id); f == nil || err != nil {
		t.Errorf("the successor is in force: %v, %v", f, err)
	}
	if ok, err := k.recall(id, 7); !ok || err != nil || *k.ring.Next != id || k.held[id] == nil {
		t.Errorf("the successor is announced: %v, %v", ok, err)
	}
}
