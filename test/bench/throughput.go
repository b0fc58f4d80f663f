package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The systems that stand side by side in one row.
const (
	systemWAL  = "quorate-wal"
	systemBolt = "quorate-bolt"
	systemEtcd = "etcd"
)

// throughputRow is one number of clients: each system's cells, round by round.
type throughputRow struct {
	Clients int                `json:"clients"`
	Rounds  map[string][]*cell `json:"rounds"`
}

// rate is a system's median over the rounds, statements or puts a second.
func (r *throughputRow) rate(system string) float64 {
	return r.middle(system, func(c *cell) float64 { return c.PerSecond })
}

func (r *throughputRow) middle(system string, of func(*cell) float64) float64 {
	var values []float64
	for _, c := range r.Rounds[system] {
		values = append(values, of(c))
	}
	return median(values)
}

// ratio is the median of the rounds' own ratios: what disturbs the machine
// disturbs both halves of a pair.
func (r *throughputRow) ratio(system, base string) float64 {
	var ratios []float64
	for i, c := range r.Rounds[system] {
		if i < len(r.Rounds[base]) && r.Rounds[base][i].PerSecond > 0 {
			ratios = append(ratios, c.PerSecond/r.Rounds[base][i].PerSecond)
		}
	}
	return median(ratios)
}

// target is a ledger under load, and what it is expected to do, so that no
// more is signed than is sent.
type target struct {
	*cluster
	system   string
	expected map[int]float64 // by clients, statements a second
}

// firstGuess is what a system does before anything is known of it.
const firstGuess = 5_000

// drive measures one cell at the leader, and demands that the ledger grew by
// at least what was acknowledged.
func (t *target) drive(ctx context.Context, b *bench, clients int) (*cell, error) {
	guess := t.expected[clients]
	if guess == 0 {
		guess = firstGuess
		if clients == 1 {
			guess = firstGuess / 4
		}
	}
	seconds := (b.warm + b.each).Seconds()
	statements, err := presign(t.signers, int(guess*1.3*seconds)+clients, b.size)
	if err != nil {
		return nil, err
	}
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	before, err := leader.status(ctx)
	if err != nil {
		return nil, err
	}
	profiled := b.profile(ctx, t, clients)
	cpu := t.cpu()
	began := time.Now()
	c, err := drive(ctx, leader.api, clients, statements, b.warm, b.each)
	if err != nil {
		return nil, fmt.Errorf("%s, %d clients: %w", t.system, clients, err)
	}
	profiled()
	c.ServersUS = float64((t.cpu() - cpu).Microseconds()) / (c.PerSecond * min(time.Since(began), b.warm+b.each).Seconds())
	after, err := leader.status(ctx)
	if err != nil {
		return nil, err
	}
	if after.Applied-before.Applied < uint64(c.Operations) {
		return nil, fmt.Errorf("%s, %d clients: %d acknowledged, and the ledger grew by %d", t.system, clients, c.Operations, after.Applied-before.Applied)
	}
	c.Elections = after.Term - before.Term
	t.expected[clients] = c.PerSecond
	return c, nil
}

func (c *cluster) cpu() time.Duration {
	var children []*process
	for _, m := range c.members {
		if m.child != nil {
			children = append(children, m.child)
		}
	}
	return cpuOf(children)
}

// foundTarget founds and starts a ledger.
func (b *bench) foundTarget(ctx context.Context, system, store string, replicas int) (*target, error) {
	dir, err := os.MkdirTemp(b.dir, fmt.Sprintf("%s-%d-", store, replicas)) // sections found alike
	if err != nil {
		return nil, err
	}
	c, err := found(b.program, dir, replicas, measured, "--log-store", store)
	if err != nil {
		return nil, err
	}
	return &target{cluster: c, system: system, expected: map[int]float64{}}, c.start(ctx)
}

// wants says whether a system takes part in the throughput.
func (b *bench) wants(system string) bool {
	return len(b.systems) == 0 || slices.Contains(b.systems, system)
}

// throughput measures the rows; the systems take turns within each round. What
// takes no part is not started: an idle ledger seals and beats too.
func (b *bench) throughput(ctx context.Context) (err error) {
	var wal, bolt *target
	var etcd *etcdCluster
	if b.wants(systemWAL) {
		wal, err = b.foundTarget(ctx, systemWAL, "wal", 3)
		defer func() { err = joinStop(err, wal) }()
		if err != nil {
			return err
		}
	}
	if b.wants(systemBolt) {
		bolt, err = b.foundTarget(ctx, systemBolt, "bolt", 3)
		defer func() { err = joinStop(err, bolt) }()
		if err != nil {
			return err
		}
	}
	if b.wants(systemEtcd) {
		etcd, err = startEtcd(ctx, b.etcdLoad, filepath.Join(b.dir, "etcd"), 3)
		defer func() {
			if stopped := etcd.stop(); err == nil {
				err = stopped
			}
		}()
		if err != nil {
			return err
		}
	}
	for _, clients := range b.clients {
		row := &throughputRow{Clients: clients, Rounds: map[string][]*cell{}}
		b.results.Throughput = append(b.results.Throughput, row)
		for range b.rounds {
			for _, system := range []struct {
				name  string
				drive func() (*cell, error)
			}{
				{systemWAL, func() (*cell, error) { return wal.drive(ctx, b, clients) }},
				{systemEtcd, func() (*cell, error) { return etcd.drive(ctx, clients, b.size, b.warm, b.each) }},
				{systemBolt, func() (*cell, error) { return bolt.drive(ctx, b, clients) }},
			} {
				if !b.wants(system.name) {
					continue
				}
				c, err := system.drive()
				if err != nil {
					return err
				}
				row.Rounds[system.name] = append(row.Rounds[system.name], c)
				b.note("%3d clients  %-12s %8.0f/s  p50 %7.2f ms  p99 %7.2f ms  cpu %4.0f us servers, %3.0f us generator",
					clients, system.name, c.PerSecond, c.P50, c.P99, c.ServersUS, c.GeneratorUS)
			}
		}
	}
	return nil
}

func joinStop(err error, t *target) error {
	if t == nil {
		return err
	}
	if stopped := t.stop(); err == nil {
		return stopped
	}
	return err
}
