package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// followEntries takes entries from replicas as they are certified. It asks for
// a head whenever a seal comes: a certified head always ends in one. After a lie it
// watches as the client verifies, which is later but leaves a replica that lies.
func (a *Agent) followEntries(ctx context.Context) error {
	pause := retryFirst
	lies := a.lies()
	for ctx.Err() == nil {
		if a.fresh() {
			a.fastStart(ctx)
		}
		from, linked := a.position()
		if !linked {
			if sleep(ctx, pause/2+rand.N(pause)) != nil {
				return ctx.Err()
			}
			pause = min(2*pause, retryMost)
			continue
		}
		before := lies
		lies = a.lies()
		watching, end := a.lag.watching(ctx)
		err := a.client.Watch(watching, client.WatchOptions{From: from, Verify: lies != before}, func(e *client.Entry) error {
			pause = retryFirst
			return a.takeEntry(e)
		})
		end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, errGap) {
			a.logger.Warn("following the replicas was interrupted", "error", err)
		}
		if sleep(ctx, pause/2+rand.N(pause)) != nil {
			return ctx.Err()
		}
		pause = min(2*pause, retryMost)
	}
	return ctx.Err()
}

// position is the next entry to ask for, and whether there is an authority chain to verify
// it by.
func (a *Agent) position() (next uint64, linked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chronicle.next(), a.chronicle.chain != nil
}

// certified is how many entries are certified and replayed.
func (a *Agent) certified() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chronicle.size()
}

// lies is how often what came was found to be no certified history.
func (a *Agent) lies() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chronicle.lies
}

// fresh reports whether nothing is known but entry 0.
func (a *Agent) fresh() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chronicle.size() <= 1 && a.chronicle.next() <= 1
}

func (a *Agent) takeEntry(e *client.Entry) error {
	a.cores.worked(time.Now())
	a.mu.Lock()
	err := a.chronicle.add(e.Entry)
	a.mu.Unlock()
	if errors.Is(err, errBehind) {
		return nil // a peer brought it
	}
	if err == nil && e.Kind == ledger.KindSeal.String() {
		a.want()
	}
	return err
}

// want has the newest head asked for.
func (a *Agent) want() {
	select {
	case a.wantHead <- struct{}{}:
	default:
	}
}

// followHeads asks replicas for the newest head: when entries came, and from
// time to time, since the same head is signed anew every 10 s: less often while a
// replica answers as it should.
func (a *Agent) followHeads(ctx context.Context) error {
	for {
		calm := a.syncReplicas(ctx)
		for pause := 10 * time.Millisecond; a.uncovered() && pause < time.Second; pause *= 2 {
			// Another replica than the one whose watch we follow may be behind it.
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			calm = a.syncReplicas(ctx)
		}
		every := syncEvery
		if calm {
			every = a.syncPause()
		}
		wait := every*3/4 + rand.N(every/2)
		if a.lag.lags() {
			wait = a.patience()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-a.wantHead:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// uncovered reports whether a seal came that no head covers yet.
func (a *Agent) uncovered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.chronicle.open) > 0
}

// syncPause is how long to wait for the next head of replicas that answer: so long
// that the newest signature is never near to being stale.
func (a *Agent) syncPause() time.Duration {
	return min(max(a.maxHeadAge(a.view.Load())/3, syncEvery), syncCalm)
}

// syncReplicas takes new links and the newest head from the replicas, and reports whether
// one gave a head that was signed lately.
func (a *Agent) syncReplicas(ctx context.Context) (calm bool) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	head, err := a.client.Sync(ctx)
	a.beside(err)
	var conflict *client.EquivocationError
	switch {
	case errors.As(err, &conflict):
		a.alarmHeads(conflict.Kept, conflict.Offered)
	case head == nil && ctx.Err() == nil:
		a.trouble.set(troubleReplicas, err)
	}
	if head == nil {
		a.trouble.failed()
		return false
	}
	var old *client.StaleError
	if errors.As(err, &old) {
		a.trouble.set(troubleReplicas, err)
		a.trouble.failed() // so peers are asked before long
	} else {
		calm = true
		a.trouble.set(troubleReplicas, nil)
		a.trouble.reached(a.syncPause()*5/4 + syncEvery)
	}
	a.unkept(err)
	links := a.client.Links()
	for _, raw := range links[min(a.linked(), len(links)):] {
		if err := a.offerLink(raw); err != nil {
			a.trouble.set(troubleReplicas, err)
			return false
		}
	}
	_, err = a.offerHead(head.Note, true)
	next, _ := a.position()
	a.lag.behind(errors.Is(err, errGap), next, head.Size, a.patience())
	if err != nil && !errors.Is(err, errGap) && !errors.Is(err, errBehind) {
		a.beside(err)
		a.logger.Warn("a replica's head is refused", "error", err)
		return false
	}
	return calm
}

// unkept says that what a replica showed was verified and is in memory only.
func (a *Agent) unkept(err error) {
	var unkept *client.UnkeptError
	if errors.As(err, &unkept) {
		a.trouble.set(troubleDisk, unkept)
	}
}

// linked is how many links of the authority chain are known.
func (a *Agent) linked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.chronicle.links)
}

func (a *Agent) offerLink(raw []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chronicle.addLink(raw)
}

// offerHead verifies a head and believes what it covers. own says that it
// came from a replica, so that others may want it.
func (a *Agent) offerHead(note []byte, own bool) (*head, error) {
	a.mu.Lock()
	var h *head
	var err error
	if own {
		h, err = a.chronicle.verifyOwn(note)
	} else {
		h, err = a.chronicle.verifyHead(note)
	}
	var changed bool
	var state *fsm.State
	var entries [][]byte
	if err == nil {
		before := a.chronicle.size()
		changed, err = a.chronicle.settle(h)
		state = a.chronicle.state
		if changed {
			entries = a.chronicle.stored.from(before, keptEntryBytes)
		}
	}
	newest := a.chronicle.head
	a.mu.Unlock()

	var conflict *ConflictError
	var divergence *DivergenceError
	switch {
	case errors.As(err, &conflict):
		a.alarmHeads(conflict.Ours, conflict.Theirs)
	case errors.As(err, &divergence):
		a.trouble.set(troubleDivergence, err)
	}
	if newest != nil && (changed || newest == h) {
		a.enforce(state, newest, changed)
		a.judge.note(entries)
		a.out.fresh()
		if own {
			a.judge.heads.offer(newest)
		}
	}
	return h, err
}

// enforce makes a certified state, or a fresher signature of its head, what
// the agent acts on.
func (a *Agent) enforce(state *fsm.State, h *head, changed bool) {
	signed := time.Unix(int64(h.signed), 0)
	if !changed {
		a.viewing.Lock()
		defer a.viewing.Unlock()
		if v := a.view.Load(); signed.After(v.Signed) {
			w := *v
			w.Signed = signed
			a.view.Store(&w)
		}
		return
	}
	peers := peersOf(state)
	a.change(func(v *View) {
		if v.State != nil && older(state, v.State) {
			return // another source was quicker, or a newer generation is replayed from its beginning
		}
		v.State, v.Size, v.Root, v.peers = state, state.Next(), h.Root, peers
		if signed.After(v.Signed) {
			v.Signed = signed
		}
		if a.trouble.conflicting() {
			v.hold()
		}
	})
}

// older reports whether a certified state is from before another.
func older(a, b *fsm.State) bool {
	x, y := a.Meta().Generation, b.Meta().Generation
	return x < y || x == y && a.Next() < b.Next()
}

// alarmHeads takes note of two certified heads that contradict each other. From
// then on every quarantine holds, whatever either side says later.
func (a *Agent) alarmHeads(ours, theirs []byte) {
	if !a.trouble.conflict(ours, theirs) {
		return
	}
	a.logger.Error("two certified heads contradict each other; no release is believed until an operator looks")
	if err := a.store.keepConflict(ours, theirs); err != nil {
		a.trouble.set(troubleDisk, err)
	}
	a.change(func(v *View) { v.hold() })
}

// stale reports whether the newest head was signed too long ago to act on
// silence: what is quarantined stays so, what is new is not known.
func (a *Agent) stale(now time.Time) bool {
	v := a.view.Load()
	return v.Signed.IsZero() || now.Sub(v.Signed) > a.maxHeadAge(v)
}

func (a *Agent) maxHeadAge(v *View) time.Duration {
	if a.config.MaxHeadAge > 0 || v.State == nil {
		return a.config.MaxHeadAge
	}
	return time.Duration(v.State.Policy().MaxHeadAgeMillis) * time.Millisecond
}
