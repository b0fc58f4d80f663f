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

	generation uint64
	goesBack   int  // it goes on from where it was founded after so many steps on disk; 0: never
	announced  bool // but an announcement that it had by then stands
	steps      int  // on disk, of lives that are over

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
		if k.ring.left(w.generation) {
			return "", errSilent
		}
		w.t.Fatalf("%s: in epoch %d nobody holds the key in force", w.what, w.epoch)
	}
	seq, err := s.Next(w.epoch, ledger.SpaceMain, 4_096)
	if err != nil {
		return "", err
	}
	g, whole := given{w.epoch, ledger.SpaceMain, seq}, fmt.Sprintf("%s %d %d %d %s", w.current, w.epoch, seq, w.generation, text)
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
	var epoch, seq, generation uint64
	if _, err := fmt.Sscanf(string(envelope), "%s %d %d %d next=%s", &key, &epoch, &seq, &generation, &next); err != nil {
		w.t.Fatal(err)
	}
	if generation != w.generation {
		w.t.Fatalf("%s: an announcement of generation %d in generation %d", w.what, generation, w.generation)
	}
	if w.deaf > 0 {
		w.deaf--
		return
	}
	id, err := ledger.ParseHash(next)
	if err != nil {
		w.t.Fatal(err)
	}
	if epoch+1 >= w.epoch && generation == w.generation && key == w.current.String() && w.next == nil && !w.known[id] {
		w.next, w.from, w.known[id] = &id, w.epoch+2, true
	}
}

// goBack has the ledger go on from a head before the rotation, in an earlier epoch.
func (w *ringWorld) goBack(first ledger.Hash) {
	follows := w.next
	if now := w.current; now != first {
		follows = &now
	}
	w.generation, w.epoch, w.current, w.next, w.known = 1, 4, first, nil, map[ledger.Hash]bool{first: true}
	if w.announced && follows != nil {
		w.next, w.from, w.known[*follows] = follows, w.epoch+2, true
	}
}

// live lets one life go on until it crashes or the rotation is over and each former key
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
	var silent *SilentError // until the epoch that the ledger had before it went back
	for tick := range 90 {
		if w.goesBack > 0 && w.generation == 0 && (w.steps+w.shelf.did >= w.goesBack || tick == 45) {
			w.goBack(first)
		}
		if _, err := w.sign(k, s, fmt.Sprint("tick ", tick, w.shelf.did)); err != nil && !errors.As(err, &silent) && !errors.Is(err, errSilent) {
			return false, err
		}
		if w.next != nil && !k.ring.left(w.generation) && (k.ring.Next == nil || *k.ring.Next != *w.next) {
			w.t.Fatalf("%s: the ledger has a successor that the ring has not", w.what)
		}
		if k.ring.Active == w.current && w.current != first && !slices.ContainsFunc(k.ring.Keys, func(of ringKey) bool { return of.ID != w.current && !of.Gone }) {
			return true, nil
		}
		if err := w.act(k, s); err != nil && !errors.As(err, &silent) {
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
		Epoch: w.epoch, Generation: w.generation, Current: w.current, Next: w.next, Able: true, Due: len(w.known) < 2,
		Lapsed: func(k *ringKey) bool { return *k.Ended+1 < w.epoch && (w.goesBack == 0 || w.generation > 0) },
	}
	if k.ring.Said != nil {
		var key string
		var epoch, seq, generation uint64
		if _, err := fmt.Sscanf(string(k.ring.Said), "%s %d %d %d", &key, &epoch, &seq, &generation); err != nil {
			w.t.Fatal(err)
		}
		f.Said = epoch+1 >= w.epoch && generation == w.generation
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
		return k.turn(w.current, w.from, w.generation)
	case keyBack:
		_, err := k.back(w.current, w.next, w.epoch, w.generation)
		return err
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
		w.steps += w.shelf.did
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
