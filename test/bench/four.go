package main

import (
	"context"
	"time"
)

// four measures what is measured on the default of four replicas: throughput,
// rest, elections and an export.
func (b *bench) four(ctx context.Context) (err error) {
	t, err := b.foundTarget(ctx, systemWAL, "wal", 4)
	defer func() { err = joinStop(err, t) }()
	if err != nil {
		return err
	}
	times, kills, records, rounds := 40, 20, 20_000, 3
	if b.quick {
		times, kills, records, rounds = 10, 3, 2_000, 1
	}
	rest, err := b.atRest(ctx, t, times)
	if err != nil {
		return err
	}
	b.results.Rest = append(b.results.Rest, rest)
	b.note("at rest: record p99 %.0f ms, decision p99 %.0f ms", rest.Record.P99, rest.Decision.P99)
	if b.results.Verify, err = b.exportVerification(ctx, t, records, rounds); err != nil {
		return err
	}
	b.note("export verification: %.0f entries/s, %.2f of bare", b.results.Verify.EntriesPerSec, b.results.Verify.Ratio)
	elections, err := b.elections(ctx, t, kills)
	if err != nil {
		return err
	}
	b.results.Elections = append(b.results.Elections, elections)
	for _, clients := range []int{64, 256} {
		row := &throughputRow{Clients: clients, Rounds: map[string][]*cell{}}
		for range b.rounds {
			c, err := t.drive(ctx, b, clients)
			if err != nil {
				return err
			}
			row.Rounds[systemWAL] = append(row.Rounds[systemWAL], c)
			b.note("%3d clients, four replicas %8.0f/s  p50 %7.2f ms  p99 %7.2f ms", clients, c.PerSecond, c.P50, c.P99)
		}
		b.results.Four = append(b.results.Four, row)
	}
	return nil
}

// overloaded measures what a leader of four does with more than it can serve.
func (b *bench) overloaded(ctx context.Context) (err error) {
	t, err := b.foundTarget(ctx, systemWAL, "wal", 4)
	defer func() { err = joinStop(err, t) }()
	if err != nil {
		return err
	}
	seconds := time.Minute
	if b.quick {
		seconds = 5 * time.Second
	}
	b.results.Overload, err = b.flood(ctx, t, seconds)
	return err
}

// lengths measures a short ledger and a long one.
func (b *bench) lengths(ctx context.Context) error {
	short, long := uint64(10_000), uint64(500_000)
	if b.quick {
		short, long = 2_000, 20_000
	}
	for _, entries := range []uint64{short, long} {
		s, err := b.sizes(ctx, entries)
		if err != nil {
			return err
		}
		b.results.Sizes = append(b.results.Sizes, s)
		b.note("%d entries: built in %.0f s, snapshot %d bytes, started in %.0f ms, %d MB", s.Entries, s.BuildSeconds, s.SnapshotBytes, s.StartMillis, s.RSSBytes>>20)
	}
	return nil
}
