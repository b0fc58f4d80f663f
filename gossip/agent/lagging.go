package agent

import (
	"context"
	"sync"
	"time"
)

// lag is how long entries have been missing below a head that a replica showed. A
// replica that keeps a watch alive and gives it nothing is left after a while: the
// next watch begins at the replica that gave a head last.
type lag struct {
	mu    sync.Mutex
	next  uint64    // entry that was missing then
	since time.Time // zero: none is
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

// behind takes note that a head is beyond the next entry, or that none is, and ends
// the watch if that entry has not come for lagPatience.
func (l *lag) behind(is bool, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case !is:
		l.since = time.Time{}
	case l.since.IsZero() || next != l.next:
		l.next, l.since = next, now
	case now.Sub(l.since) >= lagPatience && l.turn != nil:
		l.turn()
		l.turn, l.since = nil, time.Time{}
	}
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
