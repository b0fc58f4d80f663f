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
			l.behind(true, next) // it brings something each time
			time.Sleep(lagPatience)
		}
		l.behind(false, 10)
		time.Sleep(2 * lagPatience)
		l.behind(true, 11)
		if !l.lags() || watching.Err() != nil {
			t.Fatalf("lags %t, watch %v", l.lags(), watching.Err())
		}
		time.Sleep(lagPatience - time.Millisecond)
		if l.behind(true, 11); watching.Err() != nil {
			t.Fatal("ended too early")
		}
		time.Sleep(time.Millisecond)
		if l.behind(true, 11); watching.Err() == nil {
			t.Fatal("a watch that gives nothing goes on")
		}
		l.behind(true, 11) // nothing to end until the next watch
		next, end := l.watching(t.Context())
		defer end()
		if l.lags() || next.Err() != nil {
			t.Fatal("the next watch begins late")
		}
	})
}
