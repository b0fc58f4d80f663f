package main

import (
	"context"
	"syscall"
	"time"
)

// nemeses are all of them, in the order of the short run.
var nemeses = []nemesis{
	{1, "kill-leader", "kill -9 of the leader", killLeader},
	{2, "kill-all", "kill -9 of every replica at once", killAll},
	{13, "power-cut", "the power fails for all: what was not fsynced is gone", powerCut},
	{5, "split", "a symmetric partition with the leader in the minority", split},
}

// hurtFor is how long a harm lasts that works by lasting: longer than a lease
// and an election by far.
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

// powerCut: acknowledged means durable.
func powerCut(_ context.Context, h *harm) error {
	if h.noDisks != nil {
		return &skipError{"the replicas have no disks of their own"}
	}
	if err := h.cutPower(h.members); err != nil {
		return err
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
