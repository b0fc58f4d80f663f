package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// dueTime is when n0 is to rotate the key that it has, as the rules draw it.
func (w *rotatingAlone) dueTime() (epoch uint64, part uint64) {
	w.t.Helper()
	me, _ := w.ledger.State.Node("n0")
	policy := w.ledger.State.Policy()
	rules := policy.KeyRules()
	due := gossip.RotationDue(w.a.genesis, me.Name, me.Ordinal, me.ValidTo, rules.RotateEpochs, rules.LateEpochs)
	return due.Epoch, due.At
}

// follow has the ledger and the agent's view come to an epoch.
func (w *rotatingAlone) follow(epoch uint64) {
	w.t.Helper()
	for w.ledger.State.Epoch() < epoch {
		w.pass(1)
		w.show()
	}
}

// A rotator that runs rotates at the moment of its epoch that is drawn for it, to the
// millisecond, and not before.
func TestRotationWaitsForItsMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		epoch, part := w.dueTime()
		if epoch <= w.ledger.State.Epoch() {
			t.Fatalf("it is due in epoch %d already: another seed is wanted", epoch)
		}
		go func() { ended <- w.a.rotator.run(ctx) }()
		w.follow(epoch - 1)
		synctest.Wait()
		if w.a.keyring.ring.Next != nil {
			t.Error("it rotates in an epoch before its own")
		}
		w.follow(epoch)
		at := time.UnixMilli(int64(w.ledger.State.Meta().EpochStart + w.ledger.State.Policy().EpochMillis*part/10_000))
		if !at.After(time.Now()) {
			t.Fatalf("it is due %s ago: another seed is wanted", time.Since(at))
		}
		time.Sleep(time.Until(at) - time.Millisecond)
		synctest.Wait()
		if w.a.keyring.ring.Next != nil {
			t.Errorf("it rotates before its moment, %d basis points into the epoch", part)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if w.a.keyring.ring.Next == nil || w.a.keyring.ring.Said == nil {
			t.Errorf("at its moment: %+v", w.a.keyring.ring)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	})
}

// refusingShelf is a shelf that makes no key file as long as it is full.
type refusingShelf struct {
	*faultShelf
	full  bool
	tried []time.Time
}

func (s *refusingShelf) put(name string, f *keys.File) error {
	s.tried = append(s.tried, time.Now())
	if s.full {
		return errors.New("no space left")
	}
	return s.faultShelf.put(name, f)
}

// A step that fails is done again after a pause, which doubles up to its bound and is half
// at random, and not before; once it works, the rotation goes on at once and nothing is
// trouble.
func TestRotationRestsAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		shelf := &refusingShelf{faultShelf: w.shelf, full: true}
		w.a.keyring.shelf = shelf
		r := w.a.rotator
		epoch, _ := w.dueTime()
		w.follow(epoch + 1) // past its moment
		if wait := r.next(t.Context(), time.Now()); wait > behindDelay || len(shelf.tried) != 0 {
			t.Fatalf("%s, tried %d times", wait, len(shelf.tried))
		} else {
			time.Sleep(wait)
		}
		least := retryFirst
		for i := range 12 {
			wait := r.next(t.Context(), time.Now())
			if len(shelf.tried) != i+1 || wait < least/2 || wait >= least/2+least {
				t.Fatalf("failure %d: tried %d times, again in %s", i+1, len(shelf.tried), wait)
			}
			if w.a.trouble.list()[troubleRotation] == "" {
				t.Fatal("nothing is said")
			}
			time.Sleep(wait - 1)
			if left := r.next(t.Context(), time.Now()); left != 1 || len(shelf.tried) != i+1 {
				t.Fatalf("a moment before: again in %s, tried %d times", left, len(shelf.tried))
			}
			time.Sleep(time.Nanosecond)
			least = min(2*least, retryMost)
		}
		if least != retryMost {
			t.Fatalf("%s is not the bound", least)
		}
		shelf.full = false
		if wait := r.next(t.Context(), time.Now()); wait != 0 || w.a.keyring.ring.Next == nil || w.a.trouble.list()[troubleRotation] != "" {
			t.Errorf("with room: again in %s, trouble %q", wait, w.a.trouble.list())
		}
		for r.next(t.Context(), time.Now()) == 0 {
		}
		if w.a.keyring.ring.Said == nil || r.pause != retryFirst {
			t.Errorf("then: said %t, the pause is %s", w.a.keyring.ring.Said != nil, r.pause)
		}
	})
}

// What is sent and not answered is sent again after such pauses too, until the ledger has it.
func TestAnnouncementIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		r := w.a.rotator
		epoch, _ := w.dueTime()
		w.follow(epoch + 1)
		for range 100 {
			if time.Sleep(r.next(t.Context(), time.Now())); w.a.keyring.ring.Said != nil {
				break
			}
		}
		for range 3 {
			wait := r.next(t.Context(), time.Now())
			if wait == 0 || wait > 2*retryMost || w.a.trouble.list()[troubleRotation] != "" {
				t.Fatalf("again in %s, trouble %q", wait, w.a.trouble.list())
			}
			time.Sleep(wait)
		}
		if r.step != keySend || r.pause < 4*retryFirst {
			t.Errorf("after three times: %s, the pause is %s", r.step, r.pause)
		}
		if _, err := w.Submit(t.Context(), [][]byte{w.a.keyring.ring.Said}, client.WaitCommitted); err != nil {
			t.Fatal(err)
		}
		w.show()
		if wait := r.next(t.Context(), time.Now()); r.step != keyRest || r.pause != 0 || wait != keysEvery {
			t.Errorf("once the ledger has it: %s, again in %s", r.step, wait)
		}
	})
}

// Who was down or in doubt at its time rotates at a random moment soon after it can, once
// drawn for each key, and who was not at its own.
func TestWhoWasDownIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		meta := &fsm.Meta{EpochStart: uint64(now.Add(-2 * time.Second).UnixMilli())}
		late := time.Time{} // its epoch is over
		draw := func(r *rotator, validTo, epochMillis uint64, at time.Time) time.Duration {
			t.Helper()
			me := &fsm.NodeRecord{ValidTo: validTo}
			waits := r.behind(me, meta, epochMillis, at, now)
			wait := r.from.Sub(now)
			if waits != (wait > 0) {
				t.Errorf("waits %t, for %s", waits, wait)
			}
			return wait
		}
		for _, c := range []struct{ epoch, most time.Duration }{{6 * time.Second, 750 * time.Millisecond}, {10 * time.Minute, behindDelay}} {
			const draws = 400
			quarters := [4]int{}
			for range draws {
				wait := draw(&rotator{}, 7, uint64(c.epoch.Milliseconds()), late)
				if wait < 0 || wait >= c.most {
					t.Fatalf("of an epoch of %s: %s", c.epoch, wait)
				}
				quarters[4*wait/c.most]++
			}
			for _, n := range quarters {
				if n < draws/10 { // of 100; less by chance: once in 10^14
					t.Errorf("of an epoch of %s: %v", c.epoch, quarters)
				}
			}
		}
		r := &rotator{}
		first := draw(r, 7, 600_000, late)
		for range 20 {
			if again := draw(r, 7, 600_000, late); again != first {
				t.Fatalf("drawn anew: %s and %s", first, again)
			}
		}
		other := 0
		for validTo := range uint64(20) {
			if draw(r, 8+validTo, 600_000, late) != first {
				other++
			}
		}
		if other < 19 {
			t.Errorf("of 20 other keys %d have a moment of their own", other)
		}
		if wait := draw(&rotator{}, 7, 600_000, now.Add(-time.Second)); wait != 0 {
			t.Errorf("who was there at its moment waits for %s", wait)
		}
		if wait := draw(&rotator{}, 7, 600_000, now.Add(-3*time.Second)); wait < 0 {
			t.Errorf("whose moment was before the epoch waits for %s", wait)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newRotatingAlone(t)
		r := w.a.rotator
		epoch, _ := w.dueTime()
		w.pass(int(epoch + 1 - w.ledger.State.Epoch())) // of which it hears nothing
		w.show()
		most := time.Duration(w.ledger.State.Policy().EpochMillis) * time.Millisecond / 8
		wait := r.next(t.Context(), time.Now())
		if wait <= 0 || wait > most || w.a.keyring.ring.Next != nil {
			t.Fatalf("back again: in %s", wait)
		}
		time.Sleep(wait - 1)
		if again := r.next(t.Context(), time.Now()); again <= 0 || w.a.keyring.ring.Next != nil {
			t.Errorf("before its moment: in %s", again)
		}
		time.Sleep(time.Millisecond)
		if again := r.next(t.Context(), time.Now()); again != 0 || w.a.keyring.ring.Next == nil || *w.a.keyring.ring.Next == (ledger.Hash{}) {
			t.Errorf("at its moment: in %s", again)
		}
	})
}
