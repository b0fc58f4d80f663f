package agent

import (
	"sync"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// early is the statements of the next epoch that wait until it is ours: an epoch
// begins for each node when it hears of it, and who hears first would be lost to
// those who hear a little later. Each is signed by the author that it names, and each
// author, each hop and all together hold few places: who would fill them needs as many
// authors, and takes from others' early statements what they would not have without.
type early struct {
	over chan struct{} // closed when nobody waits any more

	mu       sync.Mutex
	patience time.Duration // changed by tests alone
	hops     map[string]int
	authors  map[string]bool // who has one that waits
}

func newEarly() *early {
	return &early{over: make(chan struct{}), patience: earlyPatience, hops: map[string]int{}, authors: map[string]bool{}}
}

// enter says how long a hop's statement of an author may wait, if there is a place for
// it. Hop and author are names.
func (e *early) enter(hop, author string) (patience time.Duration, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.authors) >= maxEarly || e.hops[hop] >= maxEarlyHop || e.authors[author] {
		return 0, false
	}
	e.hops[hop]++
	e.authors[author] = true
	return e.patience, true
}

func (e *early) leave(hop, author string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.authors, author)
	if e.hops[hop]--; e.hops[hop] == 0 {
		delete(e.hops, hop)
	}
}

// awaitEpoch waits until the epoch of a hop's statement, which was found to be of an
// author of the ledger, has begun here, if it is the next one. It gives Good when it has,
// BadSignature for a statement that may not wait because nobody signed it, and else
// EarlyEpoch.
func (a *Agent) awaitEpoch(hop string, envelope []byte) gossip.Reason {
	st, err := ledger.ParseStatement(append([]byte(nil), envelope...))
	if err != nil || st.Payload.Epoch == nil {
		return gossip.EarlyEpoch
	}
	epoch := *st.Payload.Epoch
	begun := func(before uint64) bool {
		state := a.view.Load().State
		return state != nil && state.Epoch()+before >= epoch
	}
	if !begun(1) {
		return gossip.EarlyEpoch
	}
	author, ok := a.view.Load().certified.Author(st.KeyID)
	switch {
	case !ok || len(author.Public) == 0: // a key that ended: whoever brings it may be behind
		return gossip.EarlyEpoch
	case !a.verify.Verify(st, author.Public):
		return gossip.BadSignature
	}
	patience, ok := a.early.enter(hop, author.Name)
	if !ok {
		return gossip.EarlyEpoch
	}
	defer a.early.leave(hop, author.Name)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		changed := a.changed.wait()
		if begun(0) {
			return gossip.Good
		}
		select {
		case <-changed:
		case <-timer.C:
			return gossip.EarlyEpoch
		case <-a.early.over:
			return gossip.EarlyEpoch
		}
	}
}
