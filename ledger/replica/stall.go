package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// stall is how long the leader of a term has held the ledger's time back, or its
// seals. DESIGN.md says what it must not be mistaken for.
type stall struct {
	leader raft.ServerID
	term   uint64
	looked time.Time // the last time
	seal   uint64    // size of the newest sealed head
	sealed time.Time // when that one came, or no seal was wanted
	kept   time.Time // when the ledger's time was last as it should be
}

// stallLoop refuses a leader that commits what it likes and lets no time pass:
// epochs and expiries would never come, and nobody could vouch for its seals.
func (r *Replica) stallLoop(ctx context.Context) error {
	var s stall
	for ctx.Err() == nil {
		skew := r.maxSkew()
		if !pause(ctx, max(min(r.censors.limit/20, skew/4), 20*time.Millisecond)) {
			return nil
		}
		node := r.node.Load()
		leader, term := r.raftLeader(), node.CurrentTerm()
		now := time.Now()
		slept := now.Sub(s.looked) > r.censors.limit/2 // we did, or our machine
		s.looked = now
		if leader != s.leader || term != s.term || slept || leader == "" || leader == raft.ServerID(r.id.String()) ||
			!r.caughtUp.Load() || r.diskError() != nil || r.halted() != nil {
			// A new leader, or we are in no position to judge: the time begins anew.
			s.leader, s.term, s.sealed, s.kept = leader, term, now, now
			continue
		}
		what, age := r.held(&s, now)
		// Long enough for each leader to find out by itself: it ticks over a seal that
		// nobody vouches for every max_skew.
		if age < max(r.censors.limit, 3*skew) || !r.upToDate(ctx, node) {
			continue
		}
		if again, _ := r.held(&s, time.Now()); again == "" {
			continue
		}
		name := ""
		if p := r.pins.now.Load().byServer(leader); p != nil {
			name = p.Name
		}
		reason := fmt.Errorf("%s %s for %s", name, what, age.Round(time.Millisecond))
		if r.censors.refuse(censor{id: leader, name: name, term: term, since: time.Now(), reason: reason.Error()}) {
			r.refused("stall", name, reason)
		}
		s.sealed, s.kept = time.Now(), time.Now()
	}
	return nil
}

func (r *Replica) maxSkew() time.Duration {
	return time.Duration(r.shell.now.Load().state.Policy().MaxSkewMillis) * time.Millisecond
}

// held says what the leader holds back, and for how long; "" for nothing. Its
// clock may be max_skew from ours.
func (r *Replica) held(s *stall, now time.Time) (what string, age time.Duration) {
	state, skew, clock := r.shell.now.Load().state, uint64(r.maxSkew().Milliseconds()), r.now()
	newest := r.shell.newest()
	if newest != nil && newest.head.Size != s.seal {
		s.seal, s.sealed = newest.head.Size, now
	}
	if wanted, _ := state.SealWanted(); !wanted {
		s.sealed = now
	}
	unvouched := newest != nil && newest.head.Size > r.certifier.size() && newest.stamp+skew < clock
	overdue := clock > 2*skew && state.Stamp()+2*skew < clock && state.Due(clock-2*skew)
	if !unvouched && !overdue {
		s.kept = now
	}
	switch {
	case now.Sub(s.sealed) > now.Sub(s.kept):
		return "has sealed nothing", now.Sub(s.sealed)
	case overdue:
		return "has held the ledger's time back from what is due", now.Sub(s.kept)
	case unvouched:
		return "has sealed at times that nobody can vouch for", now.Sub(s.kept)
	}
	return "", 0
}
