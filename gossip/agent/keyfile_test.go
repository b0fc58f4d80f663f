package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// nodeKeys is the keys of a node n1 on a disk: key_file and the folder keys.
type nodeKeys struct {
	t      *testing.T
	config string
	state  string
}

func newNodeKeys(t *testing.T) *nodeKeys {
	t.Helper()
	dir := t.TempDir()
	n := &nodeKeys{t, filepath.Join(dir, "n1.key"), filepath.Join(dir, "keys")}
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *nodeKeys) file(seed byte, role string) *keys.File {
	return &keys.File{Name: "n1", Role: role, Key: keys.FromSeed([keys.SeedSize]byte{seed})}
}

// place puts a key file somewhere, in the place of what is there.
func (n *nodeKeys) place(path string, f *keys.File) {
	n.t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	if err := keys.WriteInsecureFile(path, f); err != nil {
		n.t.Fatal(err)
	}
}

func (n *nodeKeys) open() *keyring {
	n.t.Helper()
	k, err := openKeyring(n.shelf())
	if err != nil {
		n.t.Fatal(err)
	}
	return k
}

// rotated is the ring after the rotation of the first key to the second.
func (n *nodeKeys) rotated(first, second *keys.File) *keyring {
	n.t.Helper()
	n.place(n.config, first)
	k := n.open()
	made := func() (*keys.File, error) { return second, nil }
	if err := k.make(made, func(ledger.Hash) bool { return false }); err != nil {
		n.t.Fatal(err)
	}
	if err := k.turn(ledger.Hash(second.Key.ID()), 10, 0); err != nil {
		n.t.Fatal(err)
	}
	return k
}

// What lies at key_file when the key lapses that was there is destroyed only if it is
// that key, or what a crash left of it.
func TestOnlyTheLapsedKeyIsDestroyed(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(n *nodeKeys, k1, k2 *keys.File)
		stays    bool // the file
		gone     bool // the ring's key
		replaced bool
	}{
		"the key itself":     {func(*nodeKeys, *keys.File, *keys.File) {}, false, true, false},
		"nobody may write":   {func(n *nodeKeys, _, _ *keys.File) { n.check(os.Chmod(n.config, 0o400)) }, false, true, false},
		"nothing":            {func(n *nodeKeys, _, _ *keys.File) { n.check(os.Remove(n.config)) }, false, true, false},
		"zeros":              {func(n *nodeKeys, _, _ *keys.File) { n.check(os.WriteFile(n.config, make([]byte, 900), 0o600)) }, false, true, false},
		"another key":        {func(n *nodeKeys, _, k2 *keys.File) { n.place(n.config, k2) }, true, true, true},
		"what can't be read": {func(n *nodeKeys, _, _ *keys.File) { n.check(os.WriteFile(n.config, []byte("no key"), 0o600)) }, true, false, false},
	} {
		n := newNodeKeys(t)
		k1, k2 := n.file(1, fsm.RoleNode), n.file(2, fsm.RoleNode)
		k := n.rotated(k1, k2)
		c.change(n, k1, k2)
		id := ledger.Hash(k1.Key.ID())
		gone, err := k.destroy(func(of *ringKey) bool { return of.ID == id })
		if (err == nil) != c.gone || (len(gone) == 1) != (c.gone && !c.replaced) {
			t.Errorf("%s: destroyed %v, %v", name, gone, err)
		}
		if _, err := os.Stat(n.config); (err == nil) != c.stays {
			t.Errorf("%s: the file: %v", name, err)
		}
		if of := k.ring.find(id); of.Gone != c.gone || of.Replaced != c.replaced {
			t.Errorf("%s: %+v", name, of)
		}
	}
}

func (n *nodeKeys) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// The active key, lost and restored to key_file, where a key was that ended, outlives it.
func TestRestoredKeyOutlivesTheOneBefore(t *testing.T) {
	n := newNodeKeys(t)
	k1, k2 := n.file(1, fsm.RoleNode), n.file(2, fsm.RoleNode)
	n.rotated(k1, k2)
	first, second := ledger.Hash(k1.Key.ID()), ledger.Hash(k2.Key.ID())
	n.check(os.Remove(filepath.Join(n.state, keyName(second))))
	n.place(n.config, k2)
	k := n.open()
	if _, err := k.destroy(func(of *ringKey) bool { return of.ID == first }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.config); err != nil {
		t.Errorf("the only file of the key in force is gone: %v", err)
	}
	if k = n.open(); k.ring.Active != second || k.held[second] == nil || !k.ring.find(first).Gone {
		t.Errorf("after another start: %+v", k.ring)
	}
}

// A key file that can't be destroyed is the last that is looked after.
func TestRotationGoesBeforeDestroying(t *testing.T) {
	one, two, three := ledger.Hash{1}, ledger.Hash{2}, ledger.Hash{3}
	r := newRing(one).named(two, "two").turned(two, 6, 0)
	lapsed := func(k *ringKey) bool { return k.ID == one }
	for name, c := range map[string]struct {
		ring *ring
		f    keyFacts
		want keyStep
	}{
		"due":              {r, keyFacts{Current: two, Due: true, Able: true}, keyMake},
		"named":            {r.named(three, "three"), keyFacts{Current: two, Able: true}, keyAnnounce},
		"said":             {r.named(three, "three").announced([]byte("x")), keyFacts{Current: two, Able: true, Said: true}, keySend},
		"taken":            {r.named(three, "three").announced([]byte("x")), keyFacts{Current: two, Next: &three}, keyDestroy},
		"in force":         {r.named(three, "three"), keyFacts{Current: three}, keyTurn},
		"nothing":          {r, keyFacts{Current: two}, keyDestroy},
		"an old view":      {r, keyFacts{Current: one}, keyRest},
		"somebody else's":  {r, keyFacts{Current: two, Next: &three}, keyForeign},
		"due, but not now": {r, keyFacts{Current: two, Due: true}, keyDestroy},
	} {
		c.f.Epoch, c.f.Lapsed = 99, lapsed
		if got := c.ring.plan(&c.f); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A key file that was the wrong one at one start does no harm at the next.
func TestWrongKeyFileOnce(t *testing.T) {
	for name, c := range map[string]struct {
		role    string
		rotated bool // the active key is one that the agent made
		put     bool // then a copy of that is put at key_file
		refused bool
	}{
		"a governor's":                     {fsm.RoleGovernor, false, false, true},
		"a governor's, beside the ring's":  {fsm.RoleGovernor, true, false, false},
		"another of the node":              {fsm.RoleNode, false, false, false},
		"another of the node, and a copy":  {fsm.RoleNode, true, true, false},
		"a governor's, and then the right": {fsm.RoleGovernor, true, true, false},
	} {
		n := newNodeKeys(t)
		right, wrong := n.file(1, fsm.RoleNode), n.file(9, c.role)
		n.place(n.config, right)
		if n.open(); c.rotated {
			made := n.file(2, fsm.RoleNode)
			n.rotated(right, made)
			right = made
		}
		id := ledger.Hash(right.Key.ID())
		n.place(n.config, wrong)
		k, err := openKeyring(n.shelf())
		if (err != nil) != c.refused {
			t.Errorf("%s: with the wrong one: %v", name, err)
		}
		if c.role == fsm.RoleGovernor && err == nil && (k.fail == nil || k.ring.Active != id) {
			t.Errorf("%s: with the wrong one: %+v", name, k)
		}
		if c.put || !c.rotated {
			n.place(n.config, right)
		}
		if k, err = openKeyring(n.shelf()); err != nil {
			t.Errorf("%s: the right key file is refused: %v", name, err)
			continue
		}
		if of := k.ring.find(id); k.ring.Active != id || k.held[id] == nil || of.Gone || of.Replaced || of.Ended != nil || !k.has(id, 0) {
			t.Errorf("%s: %+v", name, k.ring)
		}
		if c.rotated && k.ring.find(id).File == "" {
			t.Errorf("%s: its own file is forgotten", name)
		}
	}
}

func (n *nodeKeys) shelf() *keyFolder {
	return &keyFolder{folder: folder(n.state), keyFile: n.config, node: "n1"}
}

// The successor, lost and restored to key_file where the key in force was, is at hand;
// that key is not, which is trouble.
func TestRestoredSuccessor(t *testing.T) {
	n := newNodeKeys(t)
	k1, k2 := n.file(1, fsm.RoleNode), n.file(2, fsm.RoleNode)
	first, second := ledger.Hash(k1.Key.ID()), ledger.Hash(k2.Key.ID())
	n.place(n.config, k1)
	k := n.open()
	if err := k.make(func() (*keys.File, error) { return k2, nil }, func(ledger.Hash) bool { return false }); err != nil {
		t.Fatal(err)
	}
	n.check(os.Remove(filepath.Join(n.state, keyName(second))))
	n.place(n.config, k2)
	k = n.open()
	if k.ring.Active != second || k.ring.Line != first || k.held[second] == nil || k.has(first, 0) || !k.has(second, 0) {
		t.Errorf("%+v", k.ring)
	}
	if got := k.ring.plan(&keyFacts{Current: first, Next: &second, Lapsed: func(*ringKey) bool { return false }}); got != keyRest {
		t.Errorf("before it is in force: %s", got)
	}
}

// A key that is in force and of which the ring knows no more than its id is not at hand.
func TestKnownIsNotHeld(t *testing.T) {
	n := newNodeKeys(t)
	k1, other := n.file(1, fsm.RoleNode), n.file(3, fsm.RoleNode)
	n.place(n.config, k1)
	n.open()
	n.place(n.config, other)
	if k := n.open(); k.ring.find(ledger.Hash(k1.Key.ID())) == nil || k.has(ledger.Hash(k1.Key.ID()), 0) || !k.has(ledger.Hash(other.Key.ID()), 0) {
		t.Errorf("%+v", k.ring)
	}
}

// A successor that was announced may be taken for as long as its announcement is, whatever
// people put at key_file meanwhile: it does not end before.
func TestAnnouncedSuccessorEndsLater(t *testing.T) {
	key, epoch, seq := keys.FromSeed([keys.SeedSize]byte{1}), uint64(7), uint64(3)
	one, two, three := ledger.Hash(key.ID()), ledger.Hash{2}, ledger.Hash{3}
	envelope, err := ledger.Sign(key, ledger.Payload{Author: "n1", Epoch: &epoch, Seq: &seq, Ledger: ledger.Hash{1}, Type: ledger.TypeRotate}, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRing(one).named(two, "two").announced(envelope)
	for name, r := range map[string]*ring{
		"another key":   r.adopted(three, "", 0),
		"one of before": r.adopted(three, "three", 5).named(two, "two").announced(envelope).returned(one, false, false),
	} {
		if of := r.find(two); of.Ended == nil || *of.Ended != epoch {
			t.Errorf("%s: %+v", name, of)
		}
	}
	if of := newRing(one).named(two, "two").adopted(three, "", 0).find(two); *of.Ended != 0 {
		t.Errorf("not announced: %+v", of)
	}
}
