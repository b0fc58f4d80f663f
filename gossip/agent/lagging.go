package agent

import (
	"context"
	"sync"
	"time"
)

// lag is how long entries have been missing below a head that a replica showed. A
// replica that keeps a watch alive and gives it nothing, or drop by drop, is left after
// a while: the next watch begins at the replica that gave a head last, where the one
// before ended.
type lag struct {
	mu    sync.Mutex
	head  uint64    // size of the head that is to be reached
	begun time.Time // when it was shown
	next  uint64    // entry that was missing
	since time.Time // at that time; zero: none is
	turn  context.CancelFunc
}

// watching gives the context of one watch.
func (l *lag) watching(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn, l.since = cancel, time.Time{}
	return ctx, cancel
}

// behind takes note that a head is beyond the next entry, or that none is. It ends
// the watch that in patience brought neither what was missing nor lagEntries, or in
// lagMost not what was missing when that began.
func (l *lag) behind(is bool, next, head uint64, patience time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case !is:
		l.since = time.Time{}
	case l.since.IsZero() || next >= l.head:
		l.head, l.begun, l.next, l.since = head, now, next, now
	case now.Sub(l.since) < patience:
	case next-min(next, l.next) >= lagEntries && now.Sub(l.begun) < lagMost:
		l.next, l.since = next, now
	case l.turn != nil:
		l.turn()
		l.turn, l.since = nil, time.Time{}
	}
}

// patience is how long what is missing may take. Who gave entries that no head covers
// has the rest of them, unless they are a lie.
func (a *Agent) patience() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.chronicle.next() > a.chronicle.size() {
		return doubtPatience
	}
	return lagPatience
}

// lags reports whether an entry is missing.
func (l *lag) lags() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.since.IsZero()
}

// doubtAge is how old a replica's head may be before the others are asked: below
// max_head_age, so that an agent turns to them before it is stale.
func (a *Agent) doubtAge() time.Duration {
	if m := a.config.MaxHeadAge; m > 0 {
		return min(doubtHeadAge, m/2)
	}
	return doubtHeadAge
}
