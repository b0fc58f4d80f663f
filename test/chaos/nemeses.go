package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// nemeses are all of them; the numbers are those of DESIGN.md.
var nemeses = []nemesis{
	{1, "kill-leader", "kill -9 of the leader", killLeader},
	{2, "kill-all", "kill -9 of every replica at once", killAll},
	{3, "crash-points", "death around a write, an apply, a rename", crashPoints},
	{4, "pause-leader", "SIGSTOP of the leader beyond its lease", pauseLeader},
	{5, "split", "a symmetric partition with the leader in the minority", split},
	{6, "one-way", "a partition in one direction", oneWay},
	{7, "bridge", "two replicas that hear all others but not each other", bridgeCut},
	{8, "bad-lines", "delay, loss, reordering and duplicates", badLines},
	{9, "torn-tail", "the last record of a history is torn", tornTail},
	{10, "io-error", "a leader's fsync fails once", ioError},
	{11, "full-disk", "a leader's disk is full", fullDisk},
	{12, "bit-flip", "a bit of a file on a disk flips", bitFlip},
	{13, "power-cut", "the power fails for all: what was not fsynced is gone", powerCut},
	{14, "clock-jump", "a leader's clock jumps by an hour, ahead and back", clockJump},
	{15, "membership", "a replica is added, and removed, under a partition", membership},
	{16, "upgrade", "a rolling downgrade and upgrade", upgrade},
	{20, "governor-loss", "a governor loses its seat in mid-decision, and its approval is replayed", governorLoss},
}

// hurtFor is how long a harm lasts that works by lasting: longer than a lease
// and an election.
const hurtFor = 4 * time.Second

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// killLeader: what was acknowledged survives.
func killLeader(ctx context.Context, h *harm) error {
	leader, status, err := h.leader(ctx)
	if err != nil {
		return err
	}
	if err := leader.kill(); err != nil {
		return err
	}
	h.note("%s led term %d", leader.name, status.Term)
	return h.some(ctx, 10)
}

// killAll: everybody comes back without a hand that repairs.
func killAll(_ context.Context, h *harm) error {
	for _, m := range h.members {
		if err := m.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, m := range h.members {
		if err := m.gone(); err != nil {
			return err
		}
	}
	return h.startAll()
}

func (c *cluster) startAll() error {
	for _, m := range c.members {
		if err := c.start(m); err != nil {
			return err
		}
	}
	return nil
}

// pauseLeader: whoever wakes up behind the times must not answer from them.
func pauseLeader(ctx context.Context, h *harm) error {
	leader, before, err := h.leader(ctx)
	if err != nil {
		return err
	}
	if err := leader.pause(); err != nil {
		return err
	}
	if err := h.some(ctx, 10); err != nil { // so another one leads
		return err
	}
	if err := leader.resume(); err != nil {
		return err
	}
	h.note("%s slept in term %d", leader.name, before.Term)
	return h.some(ctx, 10)
}

// crashPoints: a replica dies at three points, one after another.
func crashPoints(ctx context.Context, h *harm) error {
	points := []string{"log", "logged", "apply", "applied", "tail", "tailed", "bundle", "bundled", "snapshot", "snapshotted"}
	h.chance.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	m := h.members[h.chance.IntN(len(h.members))]
	if err := m.kill(); err != nil {
		return err
	}
	for _, point := range points[:3] {
		if err := h.startFaulty(ctx, m); err != nil {
			return err
		}
		if err := m.order(fmt.Sprintf("crash %s %d", point, 1+h.chance.IntN(2))); err != nil {
			return err
		}
		err := await(ctx, "the crash at "+point, func(ctx context.Context) error {
			if !m.running() {
				return nil
			}
			if point == "snapshot" || point == "snapshotted" {
				_, _ = h.quorate("operator", "snapshot", "--socket", m.socket()) // it dies in it
			}
			return fmt.Errorf("%s still runs", m.name)
		})
		if err != nil {
			return err
		}
	}
	h.note("%s died at %v", m.name, points[:3])
	return nil
}

// startFaulty starts a member as a replica with faults on demand and waits until
// it is ready.
func (c *cluster) startFaulty(ctx context.Context, m *member) error {
	m.program = []string{c.o.replica}
	if err := c.start(m); err != nil {
		return err
	}
	return c.awaitReady(ctx, m)
}

func (c *cluster) awaitReady(ctx context.Context, m *member) error {
	return await(ctx, m.name+" to be ready", func(ctx context.Context) error {
		if !m.running() {
			return fmt.Errorf("it does not run")
		}
		s, err := c.statusOf(ctx, m)
		if err == nil && !s.Ready {
			err = fmt.Errorf("it is %s at %d", s.Role, s.Applied)
		}
		return err
	})
}

// faultyLeader makes a replica with faults on demand the leader.
func (h *harm) faultyLeader(ctx context.Context) (*member, error) {
	m := h.members[h.chance.IntN(len(h.members))]
	if err := m.stop(); err != nil {
		return nil, err
	}
	if err := h.startFaulty(ctx, m); err != nil {
		return nil, err
	}
	return m, await(ctx, m.name+" to lead", func(ctx context.Context) error {
		leader, _, err := h.leader(ctx)
		if err != nil || leader == m {
			return err
		}
		_, err = h.quorate("operator", "transfer", m.name, "--socket", leader.socket())
		return errors.Join(err, fmt.Errorf("%s leads", leader.name))
	})
}

// badLines: whatever the network does to packets, each statement takes effect
// once.
func badLines(ctx context.Context, h *harm) error {
	for _, m := range h.members[:2] {
		m.worse = true
		how, err := worsen(m.space)
		if err != nil {
			return &skipError{"this kernel has neither netem nor htb: " + err.Error()}
		}
		if m == h.members[0] {
			h.note("by %s", how)
		}
	}
	if err := h.some(ctx, 20); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	return nil
}

// clockJump: the ledger's time does not follow a leader whose clock is wrong.
func clockJump(ctx context.Context, h *harm) error {
	// A statement that expires soon, so that a clock that goes back could give it
	// a second life.
	envelope, id, err := signRecordFor(h.keys[0], h.genesis, "once", 6*time.Second)
	if err != nil {
		return err
	}
	if err := h.submitAnyhow(ctx, envelope); err != nil {
		return err
	}
	m, err := h.faultyLeader(ctx)
	if err != nil {
		return err
	}
	for _, offset := range []time.Duration{time.Hour, -time.Hour} {
		if err := m.order(fmt.Sprintf("clock %d", offset.Milliseconds())); err != nil {
			return err
		}
		if err := h.some(ctx, 10); err != nil {
			return err
		}
		rest(ctx, hurtFor/2)
	}
	_ = h.submitAnyhow(ctx, envelope) // refused, or answered with its first result
	h.note("%s led with a wrong clock", m.name)
	h.after = append(h.after, func(context.Context) error {
		if n := len(h.known.seqs[id]); n != 1 {
			return fmt.Errorf("the expired statement %s is on the ledger %d times", id, n)
		}
		return nil
	})
	return nil
}
