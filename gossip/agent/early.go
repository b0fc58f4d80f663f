package agent

import (
	"sync"
	"time"

	"github.com/quorate/quorate/ledger"
)

// early is the statements of the next epoch that wait until it is ours: an epoch
// begins for each node when it hears of it, and who hears first would be lost to
// those who hear a little later. Who waits is not verified yet, so each hop and
// all together hold few places: whoever fills them delays nothing else, and makes
// of others' early statements what they would be without.
type early struct {
	over chan struct{} // closed when nobody waits any more

	mu       sync.Mutex
	patience time.Duration // changed by tests alone
	busy     int
	hops     map[string]int // by name
}

func newEarly() *early {
	return &early{over: make(chan struct{}), patience: earlyPatience, hops: map[string]int{}}
}

// enter says how long a hop's statement may wait, if there is a place for it.
func (e *early) enter(hop string) (patience time.Duration, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy >= maxEarly || e.hops[hop] >= maxEarlyHop {
		return 0, false
	}
	e.busy++
	e.hops[hop]++
	return e.patience, true
}

func (e *early) leave(hop string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy--
	if e.hops[hop]--; e.hops[hop] == 0 {
		delete(e.hops, hop)
	}
}

// awaitEpoch waits until the epoch of a hop's statement has begun here, if it is
// the next one, and reports whether it has.
func (a *Agent) awaitEpoch(hop string, envelope []byte) bool {
	st, err := ledger.ParseStatement(envelope)
	if err != nil || st.Payload.Epoch == nil {
		return false
	}
	epoch := *st.Payload.Epoch
	begun := func(before uint64) bool {
		state := a.view.Load().State
		return state != nil && state.Epoch()+before >= epoch
	}
	if !begun(1) {
		return false
	}
	patience, ok := a.early.enter(hop)
	if !ok {
		return false
	}
	defer a.early.leave(hop)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		changed := a.changed.wait()
		if begun(0) {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-a.early.over:
			return false
		}
	}
}
