package replica

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/ledger"
)

// leadership is one term of this replica as leader.
type leadership struct {
	ready   atomic.Bool // everything that earlier leaders committed is applied
	barrier uint64      // Raft index of the barrier that showed it; set before ready
	term    uint64
}

// leadershipLoop runs lead for as long as this replica leads.
func (r *Replica) leadershipLoop(ctx context.Context) error {
	node := r.node.Load()
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads := <-node.LeaderCh():
			stop()
			stop = func() {}
			r.leading.Store(nil)
			r.changed.fire()
			if !leads {
				continue
			}
			r.metrics.elections.Inc()
			own, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			stop = func() { cancel(); <-done }
			go func() {
				defer close(done)
				r.lead(own, node)
			}()
		}
	}
}

// unfitToLead says why this replica should not lead, or "".
func (r *Replica) unfitToLead() string {
	if from, to, gap := r.archive.Gap(); gap && from < to {
		return "gap in the history"
	}
	if err := r.diskUnfit(); err != nil {
		return "disk: " + err.Error()
	}
	return ""
}

// lead does what a leader does, until ctx ends.
func (r *Replica) lead(ctx context.Context, node *raft.Raft) {
	for {
		if reason := r.unfitToLead(); reason != "" {
			r.log.Warn("leadership handed on", "reason", reason)
			if err := r.futures.do(ctx, node.LeadershipTransfer); err == nil || ctx.Err() != nil {
				return
			}
			if !pause(ctx, time.Second) {
				return
			}
			continue
		}
		l := &leadership{term: node.CurrentTerm()}
		barrier, err := r.futures.await(ctx, func() raft.Future { return node.Barrier(r.limits.PeerTimeout) })
		if err != nil {
			if !pause(ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		if indexed, ok := barrier.(raft.IndexFuture); ok {
			l.barrier = indexed.Index()
		}
		l.ready.Store(true)
		r.leading.Store(l)
		r.changed.fire()
		break
	}
	r.log.Info("leads", "term", node.CurrentTerm())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.sealLoop(ctx, node) })
	group.Go(func() error { return r.membershipLoop(ctx, node) })
	group.Go(func() error { return r.stepDownLoop(ctx, node) })
	_ = group.Wait()
}

// stepDownLoop hands leadership on when the disk fails under a leader.
func (r *Replica) stepDownLoop(ctx context.Context, node *raft.Raft) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.stepDown:
		}
		for r.unfitToLead() != "" && ctx.Err() == nil {
			r.log.Warn("leadership handed on", "reason", r.unfitToLead())
			if err := r.futures.do(ctx, node.LeadershipTransfer); err == nil || !pause(ctx, time.Second) {
				break
			}
		}
	}
}

// sealer decides when to seal and when to tick.
type sealer struct {
	r         *Replica
	node      *raft.Raft
	last      time.Time // of our last seal
	firstOpen time.Time // when unsealed entries were first seen
	refreshed time.Time // when an uncertified seal was last sealed over
}

func (r *Replica) sealLoop(ctx context.Context, node *raft.Raft) error {
	s := &sealer{r: r, node: node}
	// A new leader's first seal vouches for the time of all before it.
	if newest := r.shell.newest(); newest == nil || newest.head.Size > r.certifier.size() {
		s.tick(ctx)
		s.seal(ctx)
	}
	s.refreshed = time.Now()
	for ctx.Err() == nil {
		changed := r.changed.wait()
		delay := s.step(ctx)
		if delay == 0 {
			continue
		}
		timer := time.NewTimer(delay)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// step does what is due, and says how long to wait for more; zero when it did
// something.
func (s *sealer) step(ctx context.Context) time.Duration {
	limits := s.r.limits
	state := s.r.shell.now.Load().state
	wanted, urgent := state.SealWanted()
	if !wanted {
		s.firstOpen = time.Time{}
		if state.Due(s.r.now()) || s.stale() {
			s.tick(ctx)
			return 0
		}
		return limits.TickCheck
	}
	if s.firstOpen.IsZero() {
		s.firstOpen = time.Now()
	}
	at := s.last.Add(limits.SealInterval)
	if gathered := s.firstOpen.Add(limits.SealGather); gathered.After(at) {
		at = gathered
	}
	if urgent {
		at = s.last.Add(limits.UrgentInterval)
	}
	if delay := time.Until(at); delay > 0 {
		return min(delay, limits.TickCheck)
	}
	s.seal(ctx)
	return 0
}

// stale says whether the newest seal has stayed uncertified so long that
// nobody can vouch for its time any more: then a fresh one is needed.
func (s *sealer) stale() bool {
	newest := s.r.shell.newest()
	if newest == nil || newest.head.Size <= s.r.certifier.size() {
		return false
	}
	wait := max(time.Duration(newest.state.Policy().MaxSkewMillis)*time.Millisecond, 2*time.Second)
	if time.Since(s.refreshed) < wait || newest.stamp+uint64(wait.Milliseconds()) > s.r.now() {
		return false
	}
	s.refreshed = time.Now()
	return true
}

func (s *sealer) tick(ctx context.Context) { s.order(ctx, ledger.CommandTick) }

func (s *sealer) seal(ctx context.Context) {
	s.last = time.Now()
	s.order(ctx, ledger.CommandSeal)
	s.firstOpen = time.Time{}
}

func (s *sealer) order(ctx context.Context, kind ledger.CommandKind) {
	if _, err := s.r.order(ctx, s.node, &ledger.Command{Kind: kind}); err != nil && ctx.Err() == nil {
		s.r.log.Info("order seal or tick", "error", err)
		pause(ctx, s.r.limits.UrgentInterval)
	}
}
