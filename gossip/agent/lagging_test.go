package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// A watch that brings nothing below a head is ended after lagPatience; one that
// brings anything, or has nothing to bring, never.
func TestAWatchThatLagsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lag
		watching, end := l.watching(t.Context())
		defer end()
		for next := range uint64(10) {
			l.behind(true, next, next+1, lagPatience) // it brings what was missing each time
			time.Sleep(lagPatience)
		}
		l.behind(false, 10, 10, lagPatience)
		time.Sleep(2 * lagPatience)
		l.behind(true, 11, 12, lagPatience)
		if !l.lags() || watching.Err() != nil {
			t.Fatalf("lags %t, watch %v", l.lags(), watching.Err())
		}
		time.Sleep(lagPatience - time.Millisecond)
		if l.behind(true, 11, 12, lagPatience); watching.Err() != nil {
			t.Fatal("ended too early")
		}
		time.Sleep(time.Millisecond)
		if l.behind(true, 11, 12, lagPatience); watching.Err() == nil {
			t.Fatal("a watch that gives nothing goes on")
		}
		l.behind(true, 11, 12, lagPatience) // nothing to end until the next watch
		next, end := l.watching(t.Context())
		defer end()
		if l.lags() || next.Err() != nil {
			t.Fatal("the next watch begins late")
		}
	})
}

// A watch that brings little each time is ended like one that brings nothing, and one
// that brings enough goes on until what was missing at first took too long.
func TestAWatchThatDripsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := func(each uint64) time.Duration {
			var l lag
			watching, end := l.watching(t.Context())
			defer end()
			began := time.Now()
			for next := uint64(0); watching.Err() == nil && time.Since(began) < 4*lagMost; next += each {
				l.behind(true, next, next+10*lagEntries, lagPatience) // and the ledger grows
				time.Sleep(lagPatience)
			}
			return time.Since(began) - lagPatience
		}
		if got := last(lagEntries - 1); got != lagPatience {
			t.Errorf("a drip is endured for %s", got)
		}
		if got := last(lagEntries); got != lagMost {
			t.Errorf("a trickle is endured for %s", got)
		}
		if got := last(10 * lagEntries); got < 3*lagMost {
			t.Errorf("what keeps up is ended after %s", got)
		}
	})
}
