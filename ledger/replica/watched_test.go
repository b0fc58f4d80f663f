package replica

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/ledger"
)

func envelopesOf(n int, text string) (list [][]byte) {
	for i := range n {
		list = append(list, fmt.Appendf(nil, "%s %d", text, i))
	}
	return list
}

// What is under watch is bounded by submissions and by statements, of all and of
// each peer, and no peer takes what is another's.
func TestWatchIsBounded(t *testing.T) {
	peer, other := ledger.Hash{1}, ledger.Hash{2}
	c := newCensorship(time.Second, time.Second)
	if !c.watch(envelopesOf(ledger.MaxBundle, "whole"), peer) {
		t.Error("a peer's first bundle has no place")
	}
	if c.watch(envelopesOf(1, "one more"), peer) {
		t.Error("a peer has more statements under watch than a bundle")
	}
	for i := range maxWatchedOfPeer {
		if !c.watch(envelopesOf(1, fmt.Sprint("small ", i)), other) {
			t.Errorf("another peer's submission %d has no place", i)
		}
	}
	if c.watch(envelopesOf(1, "too many"), other) {
		t.Error("a peer has too many submissions under watch")
	}
	if !c.watch(envelopesOf(1, "too many"), ledger.Hash{}) {
		t.Error("our own client's has no place")
	}
	for i := range maxWatched {
		c.watch(envelopesOf(ledger.MaxBundle, fmt.Sprint("own ", i)), ledger.Hash{})
	}
	statements := 0
	for _, one := range c.list() {
		statements += len(one.envelopes)
	}
	if statements > maxWatchedStatements || len(c.list()) > maxWatched {
		t.Errorf("%d statements in %d submissions are under watch", statements, len(c.list()))
	}
}

// Only what nobody was given since the client's own tries is withdrawn.
func TestWithdrawnWatch(t *testing.T) {
	c := newCensorship(time.Second, time.Second)
	own, sent, passed := envelopesOf(1, "own"), envelopesOf(1, "sent"), envelopesOf(1, "passed on")
	c.watch(own, ledger.Hash{})
	c.watch(sent, ledger.Hash{})
	c.watch(passed, ledger.Hash{1})
	c.watched[watchKey(sent)].again = true
	for _, one := range []struct {
		name      string
		envelopes [][]byte
		withdrawn bool
	}{{"own", own, true}, {"sent again", sent, false}, {"passed on by a peer", passed, false}} {
		if !c.holds(one.envelopes) {
			t.Errorf("%s: not under watch", one.name)
		}
		if c.withdraw(one.envelopes) != one.withdrawn || c.holds(one.envelopes) == one.withdrawn {
			t.Errorf("%s: withdrawn %v", one.name, !one.withdrawn)
		}
	}
	if !c.withdraw(envelopesOf(1, "never seen")) {
		t.Error("what was never under watch is")
	}
}

// Dry runs are bounded for each peer, and come back with time.
func TestDryRunsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCensorship(time.Second, time.Second)
		count := func(from ledger.Hash, statements int) (n int) {
			for c.mayTry(from, statements) {
				n++
			}
			return n
		}
		if n := count(ledger.Hash{1}, ledger.MaxBundle); n != dryRunBurst/ledger.MaxBundle {
			t.Errorf("%d bundles at once", n)
		}
		if n := count(ledger.Hash{2}, 1); n != dryRunBurst {
			t.Errorf("%d statements at once", n)
		}
		time.Sleep(10 * time.Second)
		if n := count(ledger.Hash{2}, 1); n != 10*dryRunRate {
			t.Errorf("%d statements in ten seconds", n)
		}
		for i := range 4 * maxTriers {
			c.mayTry(ledger.Hash{1, byte(i), byte(i >> 8)}, 1)
		}
		if len(c.tried) > maxTriers {
			t.Errorf("%d peers are remembered", len(c.tried))
		}
	})
}
