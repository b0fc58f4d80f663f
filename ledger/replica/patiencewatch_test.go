package replica

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// The time to wait for votes grows with elections in vain only, and is forgotten
// once a leader stays.
func TestPatience(t *testing.T) {
	const base = 500 * time.Millisecond
	p := newPatience(base)
	write := time.Millisecond
	start := time.Now()
	look := func(after time.Duration, leader raft.ServerID, want time.Duration) {
		t.Helper()
		if got := p.look(leader, start.Add(after), write); got != want {
			t.Errorf("after %s, leader %q: %s, want %s", after, leader, got, want)
		}
	}
	look(0, "", base)
	for i, want := range []time.Duration{base, base, 2 * base, 4 * base, 8 * base, 16 * base, 16 * base} {
		p.asks(uint64(i + 7))
		p.asks(uint64(i + 7)) // one for each voter
		look(0, "", want)
	}
	look(time.Second, "a", 16*base)
	look(2*time.Second, "a", 16*base)
	look(time.Second+stableTerms*base, "a", base)
	look(10*time.Second, "", base)
	p.asks(20)
	look(10*time.Second, "b", base) // won: none in vain
	p.asks(21)
	p.asks(22)
	look(11*time.Second, "", base)
	write = 400 * time.Millisecond
	look(11*time.Second, "", voteWrites*write)
	write = time.Minute
	look(11*time.Second, "", maxElectionTimeout)
}

// A write is overdue by what the disk usually takes, within a bound: one that is
// always slow is worked with, one that hangs is not.
func TestOverdueByWhatTheDiskTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatchdog(2 * time.Second)
		write := func(d time.Duration) {
			end := w.begin(diskLog)
			time.Sleep(d)
			end()
		}
		overdue := func(after time.Duration, want bool) {
			t.Helper()
			end := w.begin(diskLog)
			defer end()
			time.Sleep(after)
			if err := w.stalled(diskLog); (err != nil) != want || err != nil && !errors.Is(err, errDiskStalled) {
				t.Errorf("after %s: %v", after, err)
			}
		}
		overdue(1900*time.Millisecond, false)
		for range recentWrites {
			write(time.Millisecond)
		}
		write(2 * time.Second) // once
		overdue(2100*time.Millisecond, true)
		for range recentWrites {
			write(1500 * time.Millisecond)
		}
		overdue(4*time.Second, false)
		overdue(6100*time.Millisecond, true)
		for range recentWrites {
			write(5 * time.Second)
		}
		overdue(9900*time.Millisecond, false)
		overdue(maxDiskStall, true)
		if err := w.stalled(); err != nil {
			t.Errorf("nothing is under way: %v", err)
		}
		for range recentWrites {
			write(time.Millisecond)
		}
		overdue(2100*time.Millisecond, true)
	})
}
