package replica

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Run runs the replica until ctx ends or something fails that it can't go on
// without. It listens for peers, makes sure that its data is not older than
// what it signed, then lets Raft vote. At the end it hands leadership over,
// makes everything durable and closes it. A replica that halts stays up to say
// why, and Run then returns a *HaltedError.
func (r *Replica) Run(ctx context.Context) (err error) {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("run replica: it ran before")
	}
	listener, err := r.cfg.Network.Listen(ctx, r.cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for peers: %w", err), r.Close())
	}
	// The services outlive ctx by the shutdown.
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, live := errgroup.WithContext(live)
	raftConns, httpConns := newHandoff(listener.Addr()), newHandoff(listener.Addr())
	group.Go(func() error {
		defer httpConns.Close()
		return r.wire.serve(live, listener, raftConns, httpConns)
	})
	group.Go(func() error { return r.servePeers(live, httpConns) })
	group.Go(func() error { return r.peers.loop(live) })
	group.Go(func() error { return r.learnPeers(live) })

	err = r.vote(ctx, live, group, raftConns)
	r.stopping.Store(true)
	r.changed.fire()
	stop()
	if failed := group.Wait(); err == nil {
		err = failed
	}
	r.leading.Store(nil)
	if closed := r.Close(); err == nil {
		err = closed
	}
	r.changed.fire()
	if halted := r.halted(); halted != nil {
		return halted
	}
	return err
}

// vote waits until this replica may vote, and lets Raft run until ctx ends.
func (r *Replica) vote(ctx, live context.Context, group *errgroup.Group, conns *handoff) error {
	if r.halted() != nil { // it was before, and remembers
		return wait(ctx, live)
	}
	if err := r.checkAge(ctx, live); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if r.halted() == nil {
			return err
		}
	}
	if r.halted() != nil {
		return wait(ctx, live)
	}
	n, err := r.startRaft(live, conns)
	if err != nil {
		if r.halted() != nil {
			return wait(ctx, live)
		}
		return err
	}
	loops, quit := context.WithCancel(live)
	defer quit()
	inner, loops := errgroup.WithContext(loops)
	for _, loop := range []func(context.Context) error{
		r.certifier.loop, r.pullLoop, r.cosigner.loop, r.leadershipLoop, r.catchUpLoop, r.backfillLoop, r.joinLoop, r.logKeyLoop, r.rotateLoop, r.watchLoop, r.censorLoop, r.stallLoop, r.watchdogLoop, r.patienceLoop, r.repairLoop, r.scrubLoop,
	} {
		inner.Go(func() error { return loop(loops) })
	}
	select {
	case <-ctx.Done():
		r.stopping.Store(true)
		if !errors.Is(context.Cause(ctx), ErrAbrupt) && r.halted() == nil {
			r.graceful(live, n.raft)
		}
	case <-loops.Done():
	case <-r.haltCh:
	}
	quit()
	err = r.unlessStalled(inner.Wait)
	if r.logFailure.error() == nil && !r.abandoned.Load() { // else Raft's main loop may have ended, and answers nothing
		drained, cancel := context.WithTimeout(live, r.limits.ShutdownLimit)
		if err := r.futures.drain(drained); err != nil {
			r.log.Warn("stop raft", "error", err)
		}
		cancel()
	}
	down := r.unlessStalled(n.shutdown)
	r.futures.end()
	if err == nil {
		err = down
	}
	if r.halted() != nil {
		return wait(ctx, live)
	}
	return err
}

// wait keeps a halted replica's status up until ctx ends.
func wait(ctx, live context.Context) error {
	select {
	case <-ctx.Done():
	case <-live.Done():
	}
	return nil
}
