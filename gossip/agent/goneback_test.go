package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Whatever of a rotation is on disk when the ledger goes on from before it, wherever the
// node crashes before or after that and whatever the disk kept: the former key signs
// again and no other, no seq is used twice over both generations, what announced the
// other key is not said again, and the next rotation comes to its end.
func TestGoingBackSurvivesEveryCrash(t *testing.T) {
	histories := 0
	for _, announced := range []bool{false, true} {
		for after := 1; after <= 9; after++ { // by then the first rotation is over
			world := func(what string) *ringWorld {
				w := newRingWorld(t, fmt.Sprintf("back after step %d, announced %t, %s", after, announced, what))
				w.goesBack, w.announced = after, announced
				return w
			}
			steps := world("no crash").run(nil, "")
			for at := 1; at <= steps; at++ {
				for _, fault := range []string{faultLost, faultTorn, faultWhole} {
					w := world(fmt.Sprintf("%s at step %d", fault, at))
					w.run([]int{at, 1 + (at+after)%4}, fault)
					said := map[string]int{}
					for _, text := range w.heard {
						said[text[len(text)-64:]]++
					}
					for next, times := range said {
						if times > 2 || times == 2 && announced && next == w.current.String() {
							t.Fatalf("%s: %d announcements of %s were heard: %q", w.what, times, next, w.heard)
						}
					}
					histories++
				}
			}
		}
	}
	t.Logf("%d histories", histories)
}

// A former key whose file is gone is not taken for one that is there, and is once people
// put it back: of the same line, so that its seqs go on.
func TestAFormerKeyThatIsPutBack(t *testing.T) {
	one, two := &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{1})}, &keys.File{Key: keys.FromSeed([keys.SeedSize]byte{2})}
	first, second := ledger.Hash(one.Key.ID()), ledger.Hash(two.Key.ID())
	shelf := newFaultShelf(one)
	open := func() *keyring {
		t.Helper()
		k, err := openKeyring(shelf)
		if err != nil || k.fail != nil {
			t.Fatal(err, k)
		}
		return k
	}
	k := open()
	if err := k.make(func() (*keys.File, error) { return two, nil }, func(ledger.Hash) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := k.turn(second, 9, 3); err != nil {
		t.Fatal(err)
	}
	delete(shelf.key, "")
	f := &keyFacts{Current: first, Epoch: 5, Generation: 4, Lapsed: func(*ringKey) bool { return false }}
	k = open()
	if step := k.ring.plan(f); step != keyBack || !k.has(first, 4) || !k.has(first, 3) {
		t.Errorf("before it looked: %s", step)
	}
	if done, err := k.back(first, nil, 5, 4); done || err != nil {
		t.Errorf("without the file: %t, %v", done, err)
	}
	for range 2 {
		if step := k.ring.plan(f); step != keyRest || k.has(first, 4) || k.ring.Active != second || k.held[second] == nil {
			t.Errorf("without the file: %s, %+v", step, k.ring)
		}
		k = open()
	}
	shelf.key[""] = one
	k = open()
	if step := k.ring.plan(f); step != keyBack || !k.has(first, 4) {
		t.Errorf("with the file again: %s, %+v", step, k.ring)
	}
	if done, err := k.back(first, nil, 5, 4); !done || err != nil {
		t.Errorf("with the file again: %t, %v", done, err)
	}
	k = open()
	if k.ring.Active != first || k.ring.Line != first || k.held[first] != one || *k.ring.find(second).Ended != 5 || *k.ring.Generation != 4 {
		t.Errorf("after it went back: %+v", k.ring)
	}
}

// rotatingAlone is a lagging whose agent rotates its key, and whose ledger may go on from
// an earlier head.
type rotatingAlone struct {
	*lagging
	shelf *faultShelf
	head  *fsm.State // from which it may go on
	size  int        // of w.entries then
}

func newRotatingAlone(t *testing.T) *rotatingAlone {
	t.Helper()
	w := &rotatingAlone{lagging: newLaggingOf(t, shortLived)}
	w.shelf = newFaultShelf(&keys.File{Name: "n0", Role: fsm.RoleNode, Key: w.key})
	w.a.store, w.a.config.MemoryDir, w.a.config.Backup.Off = newVault(t.TempDir()), t.TempDir(), true
	w.open()
	w.a.rotator = newRotator(w.a)
	w.pass(1)
	if err := w.ledger.Apply(ledger.CommandSeal); err != nil {
		t.Fatal(err)
	}
	w.head, w.size = w.ledger.State, len(w.entries)
	return w
}

// open opens the keys, as a start does.
func (w *rotatingAlone) open() {
	w.t.Helper()
	k, err := openKeyring(w.shelf)
	if err != nil || k.fail != nil {
		w.t.Fatal(err, k)
	}
	w.a.keyring = k
	w.a.identity.Store(newIdentity(k, w.a.identity.Load().seqs))
}

// until lets time pass, with the rotator at work and what it announces brought to the
// ledger, until something holds.
func (w *rotatingAlone) until(what string, holds func(*fsm.NodeRecord) bool) {
	w.t.Helper()
	for range 300 {
		w.ledger.Now = uint64(time.Now().UnixMilli())
		if err := w.ledger.Apply(ledger.CommandTick); err != nil {
			w.t.Fatal(err)
		}
		w.show()
		for w.a.rotator.next(w.t.Context(), time.Now()) == 0 {
		}
		if said := w.a.keyring.ring.Said; said != nil {
			if _, err := w.Submit(w.t.Context(), [][]byte{said}, client.WaitCommitted); err != nil && !strings.Contains(err.Error(), "key_taken") {
				w.t.Logf("%s: %v", what, err)
			}
		}
		if me, _ := w.ledger.State.Node("n0"); holds(&me) {
			return
		}
		time.Sleep(time.Second)
	}
	me, _ := w.ledger.State.Node("n0")
	w.t.Fatalf("not yet: %s: generation %d, epoch %d, the ring %+v, trouble %q, the ledger has %+v", what, w.ledger.State.Meta().Generation, w.ledger.State.Epoch(), w.a.keyring.ring, w.a.trouble.list(), me)
}

// rotated waits until a key is in force that is none of those, and speaks under it.
func (w *rotatingAlone) rotated(former ...ledger.Hash) ledger.Hash {
	w.t.Helper()
	var now ledger.Hash
	w.until("it has another key", func(me *fsm.NodeRecord) bool {
		for _, id := range former {
			if me.Key == id {
				return false
			}
		}
		now = me.Key
		return w.a.keyring.ring.Active == me.Key
	})
	w.speaks(now)
	return now
}

// speaks waits until the ledger has a statement of n0 under a key, of its generation.
func (w *rotatingAlone) speaks(id ledger.Hash) {
	w.t.Helper()
	time.Sleep(time.Second) // it says nothing twice
	w.until("it speaks under its key", func(*fsm.NodeRecord) bool {
		tick := uint64(time.Now().UnixMilli()) / 1_000
		st, err := w.a.out.sign(ledger.TypeObserve, func(seq uint64) any {
			return ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: "n1", From: tick, To: tick}
		})
		if err != nil {
			return false
		}
		if _, err := w.Submit(w.t.Context(), [][]byte{st.Envelope}, client.WaitCommitted); err != nil {
			w.t.Fatalf("under %s: %v", st.KeyID, err)
		}
		return st.KeyID == id && st.Payload.Generation == w.ledger.State.Meta().Generation
	})
}

// goesBack has the council go on from the head, with one replica.
func (w *rotatingAlone) goesBack() {
	w.t.Helper()
	w.ledger.State, w.entries, w.shown = w.head, w.entries[:w.size], w.size
	w.ledger.Now = uint64(time.Now().UnixMilli())
	body := ledger.Recover{At: w.ledger.Now, Generation: 1, Keep: []string{"r1"},
		Head: ledger.RecoverHead{Last: w.head.Prev(), Root: ledger.Hash{1}, Size: w.head.Next()}}
	first := w.accepted(w.ledger.Say("a", ledger.TypeRecover, body))
	w.accepted(w.ledger.Say("b", ledger.TypeApprove, ledger.Ballot{Proposal: first.ID}))
	if got := w.ledger.State.Meta().Generation; got != 1 {
		w.t.Fatalf("generation %d", got)
	}
	w.a.out.forgotten()
}

// A ledger that goes on from before a node's rotation has its former key in force: the node
// takes it into use again, after a restart too, says so to nobody as trouble, goes on
// counting, and rotates anew.
func TestTheLedgerGoesOnFromBeforeARotation(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newRotatingAlone(t)
			one := ledger.Hash(w.key.ID())
			w.speaks(one)
			two := w.rotated(one)
			w.goesBack()
			if restarted {
				w.open()
			}
			w.until("its former key is active", func(me *fsm.NodeRecord) bool { return me.Key == one && w.a.keyring.ring.Active == one })
			if trouble := w.a.trouble.list(); trouble[troubleKey]+trouble[troubleRotation] != "" {
				t.Errorf("trouble: %q", trouble)
			}
			w.speaks(one)
			if three := w.rotated(one); three == two {
				t.Error("a key of what was left follows")
			}
			w.until("what was left is destroyed", func(*fsm.NodeRecord) bool { return w.a.keyring.ring.find(two).Gone })
		})
	}
}

// Where the former key's file is gone, trouble says what people are to do, and that helps.
func TestTheFormerKeyIsGone(t *testing.T) {
	gone := func(t *testing.T) (*rotatingAlone, ledger.Hash) {
		t.Helper()
		w := newRotatingAlone(t)
		one := ledger.Hash(w.key.ID())
		w.rotated(one)
		delete(w.shelf.key, "")
		w.open()
		w.goesBack()
		w.until("trouble says it", func(*fsm.NodeRecord) bool { return w.a.trouble.list()[troubleKey] != "" })
		said := w.a.trouble.list()[troubleKey]
		for _, want := range []string{"as generation 1", "former key " + one.String(), "restore it from its backup", "quorate agent rekey"} {
			if !strings.Contains(said, want) {
				t.Errorf("trouble says %q, and not %q", said, want)
			}
		}
		return w, one
	}
	synctest.Test(t, func(t *testing.T) {
		w, one := gone(t)
		w.shelf.key[""] = &keys.File{Name: "n0", Role: fsm.RoleNode, Key: w.key}
		w.open()
		w.speaks(one)
	})
	synctest.Test(t, func(t *testing.T) {
		w, _ := gone(t)
		made := keys.FromSeed([keys.SeedSize]byte{9})
		id := ledger.Hash(made.ID())
		w.shelf.key[rekeyName(id)] = &keys.File{Name: "n0", Role: fsm.RoleNode, Key: made}
		if err := CreateSeqs(w.a.store.seqsPath(id), w.a.config.memoryDir(), id, Machine()); err != nil {
			t.Fatal(err)
		}
		w.rekeyed("n0", made, made.PeerKey().Public().(ed25519.PublicKey))
		clear(w.sent) // another line counts anew
		w.speaks(id)
		if trouble := w.a.trouble.list(); trouble[troubleKey] != "" {
			t.Errorf("trouble: %q", trouble)
		}
	})
}

// A ring of before does not say in which generation its key was in force. It learns that
// from a view that has the key in force; where it comes too late for that, trouble says so.
// A view of what the ledger left is said too, unless it is merely old.
func TestWhatARingCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		one := ledger.Hash(w.key.ID())
		two := w.rotated(one)
		k := w.a.keyring
		forget := func() {
			r := k.ring.copy()
			r.Generation = nil
			if err := k.write(r); err != nil {
				t.Fatal(err)
			}
		}
		forget()
		w.until("it learns", func(*fsm.NodeRecord) bool { return k.ring.Generation != nil && *k.ring.Generation == 0 })
		forget()
		w.goesBack()
		w.until("trouble says it", func(*fsm.NodeRecord) bool {
			return strings.Contains(w.a.trouble.list()[troubleKey], "nothing here tells since when")
		})
		if k.ring.Active != two || k.ring.Generation != nil {
			t.Errorf("the ring: %+v", k.ring)
		}
		if err := k.write(k.ring.noted(2)); err != nil {
			t.Fatal(err)
		}
		w.until("trouble says it", func(*fsm.NodeRecord) bool {
			return strings.Contains(w.a.trouble.list()[troubleKey], "of generation 1, and this node's key was in force in generation 2")
		})
		v := *w.a.view.Load()
		v.Signed = time.Now().Add(-2 * time.Hour)
		w.a.view.Store(&v)
		if wait := w.a.rotator.next(context.Background(), time.Now()); wait == 0 || w.a.trouble.list()[troubleKey] != "" {
			t.Errorf("a stale view: trouble %q", w.a.trouble.list())
		}
	})
}

// A view of a generation gives way to a later state of it and to a newer generation, be that
// shorter, and never to what the ledger left.
func TestAViewNeverLeavesItsGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		w.a.near = &neighbourhood{}
		first := w.ledger.State
		w.pass(8)
		left := w.ledger.State
		w.goesBack()
		recovered := w.ledger.State
		w.pass(1)
		later := w.ledger.State
		if recovered.Next() >= left.Next() {
			t.Fatalf("what was left has %d entries, what follows %d", left.Next(), recovered.Next())
		}
		for i, step := range []struct{ shown, want *fsm.State }{{left, left}, {first, left}, {recovered, recovered}, {left, recovered}, {later, later}, {recovered, later}, {first, later}} {
			w.a.enforce(step.shown, &head{signed: uint64(time.Now().Unix())}, true)
			if w.a.view.Load().State != step.want {
				t.Errorf("step %d: it goes by generation %d with %d entries", i, w.a.view.Load().State.Meta().Generation, w.a.view.Load().Size)
			}
		}
	})
}
