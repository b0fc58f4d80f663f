package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The faults of a step on disk at which a machine stops: it left nothing, a part, or
// all of it, and the program never learns which.
const (
	faultLost  = "lost"
	faultTorn  = "torn"
	faultWhole = "persisted anyway"
)

// faultShelf is a shelf in memory whose nth step fails in one of these ways; after it
// nothing works until again.
type faultShelf struct {
	content map[string][]byte
	key     map[string]*keys.File // nil: torn
	steps   int                   // until the fault; 0: none comes
	fault   string
	down    bool
	did     int
}

func newFaultShelf(first *keys.File) *faultShelf {
	return &faultShelf{content: map[string][]byte{}, key: map[string]*keys.File{"": first}}
}

// again is the shelf after the crash.
func (s *faultShelf) again(steps int, fault string) *faultShelf {
	return &faultShelf{content: s.content, key: s.key, steps: steps, fault: fault}
}

// step says what is left of a step: "" is all of it, and the program goes on.
func (s *faultShelf) step() (fault string, err error) {
	if s.down {
		return faultLost, errCrash
	}
	s.did++
	if s.did == s.steps {
		s.down = true
		return s.fault, errCrash
	}
	return "", nil
}

func (s *faultShelf) read(name string, _ int64) ([]byte, error) {
	if b, ok := s.content[name]; ok {
		return slices.Clone(b), nil
	}
	return nil, fs.ErrNotExist
}

func (s *faultShelf) replace(name string, write func(io.Writer) error) error {
	var b writeBuffer
	if err := write(&b); err != nil {
		return err
	}
	fault, err := s.step()
	if fault == "" || fault == faultWhole { // a torn one is under another name
		s.content[name] = b
	}
	return err
}

type writeBuffer []byte

func (b *writeBuffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

func (s *faultShelf) add(string, []byte) error { return errors.ErrUnsupported }
func (s *faultShelf) cut(string, int64) error  { return errors.ErrUnsupported }

func (s *faultShelf) files() ([]string, error) {
	names := slices.Sorted(maps.Keys(s.key))
	return slices.DeleteFunc(names, func(name string) bool { return name == "" }), nil
}

func (s *faultShelf) put(name string, f *keys.File) error {
	if _, there := s.key[name]; there {
		return fs.ErrExist
	}
	fault, err := s.step()
	switch fault {
	case "", faultWhole:
		s.key[name] = f
	case faultTorn:
		s.key[name] = nil
	}
	return err
}

func (s *faultShelf) open(name string) (*keys.File, error) {
	f, there := s.key[name]
	switch {
	case !there:
		return nil, fs.ErrNotExist
	case f == nil:
		return nil, errors.New("it is empty")
	}
	return f, nil
}

func (s *faultShelf) wiped(name string) bool {
	f, there := s.key[name]
	return there && f == nil
}

func (s *faultShelf) destroy(name string) error {
	fault, err := s.step()
	switch fault {
	case "", faultWhole:
		delete(s.key, name)
	case faultTorn:
		s.key[name] = nil
	}
	return err
}

// ringWorld is a ledger that knows one node, and the node's lives.
type ringWorld struct {
	t       *testing.T
	shelf   *faultShelf
	epoch   uint64
	current ledger.Hash
	next    *ledger.Hash
	from    uint64
	deaf    int // announcements that are lost on the way
	known   map[ledger.Hash]bool

	said  map[given]string // what was signed under each seq
	heard []string         // announcements, each once
	made  byte
	what  string
}

func newRingWorld(t *testing.T, what string) *ringWorld {
	first := &keys.File{Name: "n", Role: "node", Key: keys.FromSeed([keys.SeedSize]byte{1})}
	w := &ringWorld{t: t, shelf: newFaultShelf(first), epoch: 5, known: map[ledger.Hash]bool{}, said: map[given]string{}, what: what}
	w.current = ledger.Hash(first.Key.ID())
	w.known[w.current] = true
	s := newSeqs(w.shelf, "seqs", w.current, "boot")
	if err := s.write(s.record); err != nil {
		t.Fatal(err)
	}
	w.shelf.did = 0
	return w
}

func (w *ringWorld) fresh() (*keys.File, error) {
	w.made++
	return &keys.File{Name: "n", Role: "node", Key: keys.FromSeed([keys.SeedSize]byte{2, w.made})}, nil
}

// advance begins the next epoch, with the rotation that takes effect in it.
func (w *ringWorld) advance() {
	if w.epoch++; w.next != nil && w.from <= w.epoch {
		w.current, w.next = *w.next, nil
	}
}

// sign signs text as the node does: by the key that the ledger has in force.
func (w *ringWorld) sign(k *keyring, s *Seqs, text string) (string, error) {
	if k.held[w.current] == nil {
		w.t.Fatalf("%s: in epoch %d nobody holds the key in force", w.what, w.epoch)
	}
	seq, err := s.Next(w.epoch, ledger.SpaceMain, 4_096)
	if err != nil {
		return "", err
	}
	g, whole := given{w.epoch, ledger.SpaceMain, seq}, fmt.Sprintf("%s %d %d %s", w.current, w.epoch, seq, text)
	if other, there := w.said[g]; there && other != whole {
		w.t.Fatalf("%s: under one seq %q and %q", w.what, other, whole)
	}
	w.said[g] = whole
	return whole, nil
}

// send is the ledger's answer to an announcement, which others hear too.
func (w *ringWorld) send(envelope []byte) {
	if text := string(envelope); !slices.Contains(w.heard, text) {
		w.heard = append(w.heard, text)
	}
	var key, next string
	var epoch, seq uint64
	if _, err := fmt.Sscanf(string(envelope), "%s %d %d next=%s", &key, &epoch, &seq, &next); err != nil {
		w.t.Fatal(err)
	}
	if w.deaf > 0 {
		w.deaf--
		return
	}
	id, err := ledger.ParseHash(next)
	if err != nil {
		w.t.Fatal(err)
	}
	if epoch+1 >= w.epoch && key == w.current.String() && w.next == nil && !w.known[id] {
		w.next, w.from, w.known[id] = &id, w.epoch+2, true
	}
}

// live lets one life go on until it crashes or the rotation is over and its old key
// destroyed.
func (w *ringWorld) live(first ledger.Hash) (over bool, err error) {
	k, err := openKeyring(w.shelf)
	if err != nil {
		return false, err
	}
	if k.fail != nil {
		w.t.Fatalf("%s: %v", w.what, k.fail)
	}
	s, err := openSeqs(w.shelf, "seqs", k.ring.Line, "boot")
	if err != nil {
		return false, err
	}
	for tick := range 60 {
		if _, err := w.sign(k, s, fmt.Sprint("tick ", tick, w.shelf.did)); err != nil {
			return false, err
		}
		if w.next != nil && (k.ring.Next == nil || *k.ring.Next != *w.next) {
			w.t.Fatalf("%s: the ledger has a successor that the ring has not", w.what)
		}
		if k.ring.Active == w.current && w.current != first && k.ring.find(first).Gone {
			return true, nil
		}
		if err := w.act(k, s); err != nil {
			return false, err
		}
		if tick%3 == 2 {
			w.advance()
		}
	}
	w.t.Fatalf("%s: in epoch %d the rotation is not over: %+v", w.what, w.epoch, k.ring)
	return false, nil
}

func (w *ringWorld) act(k *keyring, s *Seqs) error {
	f := &keyFacts{
		Epoch: w.epoch, Current: w.current, Next: w.next, Able: true, Due: len(w.known) < 2,
		Lapsed: func(k *ringKey) bool { return *k.Ended+1 < w.epoch },
	}
	if k.ring.Said != nil {
		var key string
		var epoch uint64
		if _, err := fmt.Sscanf(string(k.ring.Said), "%s %d", &key, &epoch); err != nil {
			w.t.Fatal(err)
		}
		f.Said = epoch+1 >= w.epoch
	}
	switch step := k.ring.plan(f); step {
	case keyRest:
	case keyMake:
		return k.make(w.fresh, func(id ledger.Hash) bool { return w.known[id] })
	case keyAnnounce:
		return k.announce(func(next *keys.File) ([]byte, error) {
			text, err := w.sign(k, s, "next="+next.Key.ID().String())
			return []byte(text), err
		})
	case keySend:
		w.send(k.ring.Said)
	case keyTurn:
		return k.turn(w.current, w.from)
	case keyDestroy:
		_, err := k.destroy(f.Lapsed)
		return err
	default:
		w.t.Fatalf("%s: step %d", w.what, step)
	}
	return nil
}

// run lives until the rotation is over, with a crash at each of the given steps of
// the lives that follow each other, and gives how many steps the first had.
func (w *ringWorld) run(crashes []int, fault string) (steps int) {
	first := w.current
	for life := range 20 {
		at := 0
		if life < len(crashes) {
			at = crashes[life]
		}
		w.shelf = w.shelf.again(at, fault)
		over, err := w.live(first)
		if life == 0 {
			steps = w.shelf.did
		}
		if over {
			break
		}
		if !errors.Is(err, errCrash) {
			w.t.Fatalf("%s: %v", w.what, err)
		}
	}
	if len(w.known) != 2 || w.current == first {
		w.t.Fatalf("%s: the ledger knows %d keys", w.what, len(w.known))
	}
	if _, there := w.shelf.key[""]; there {
		w.t.Errorf("%s: the old key file is still there", w.what)
	}
	whole := 0
	for _, f := range w.shelf.key {
		if f != nil {
			whole++
		}
	}
	if whole != 1 {
		w.t.Errorf("%s: %d keys lie about", w.what, whole)
	}
	return steps
}

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
	turned := said.turned(two, 7)
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
		"an old view":             {turned, keyFacts{Current: one, Next: &two, Able: true, Due: true}, keyRest},
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
	old := keyFacts{Current: two, Lapsed: func(k *ringKey) bool { return k.ID == one }}
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
		"announced": other.recalled(two, "two", 7).turned(two, 9),
		"in force":  other.turned(two, 9),
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
	if err := k.adopt(f, name, 7); err != nil {
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
