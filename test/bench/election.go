package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// electionResults are the write gaps after kill -9 of the leader: how long
// nobody got an acknowledgement who wrote to a replica that lives.
type electionResults struct {
	Replicas int       `json:"replicas"`
	Kills    int       `json:"kills"`
	Gap      *spread   `json:"gap"`
	All      []float64 `json:"all_ms"`
	Lost     int       `json:"lost"` // acknowledged and not on the ledger: 0, or the run fails
}

// writer writes one statement after another to one replica at a time, and goes
// to the next one when that dies. It keeps when each acknowledgement came.
type writer struct {
	mu    sync.Mutex
	acked []time.Time
	tries int
}

func (w *writer) run(ctx context.Context, c *cluster, statements [][]byte) {
	at, next := 0, 0
	var open *conn
	defer func() {
		if open != nil {
			open.c.Close()
		}
	}()
	for ctx.Err() == nil && next < len(statements) {
		if open == nil {
			var err error
			if open, err = dial(c.members[at%len(c.members)].api); err != nil {
				at++
				pause(ctx, 2*time.Millisecond)
				continue
			}
		}
		w.mu.Lock()
		w.tries++
		w.mu.Unlock()
		a, err := open.submit(statements[next], "")
		switch {
		case err != nil: // it died; the same bytes again are safe
			open.c.Close()
			open = nil
			at++
		case a.status == http.StatusOK:
			w.mu.Lock()
			w.acked = append(w.acked, time.Now())
			w.mu.Unlock()
			next++
			pause(ctx, 10*time.Millisecond)
		default:
			pause(ctx, 20*time.Millisecond)
		}
	}
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// gap is the longest time without an acknowledgement between two instants.
func (w *writer) gap(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, at := range w.acked {
		if at.Before(from) {
			continue
		}
		if at.After(to) {
			break
		}
		longest = max(longest, at.Sub(last))
		last = at
	}
	return max(longest, to.Sub(last))
}

// after waits for so many acknowledgements more.
func (w *writer) after(ctx context.Context, more int) error {
	want := w.count() + more
	return await(ctx, startLimit, func() error {
		if w.count() < want {
			return errors.New("no acknowledgement")
		}
		return nil
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// gapLimit is how long a ledger may be without a leader before the run fails.
const gapLimit = 30 * time.Second

// elections kills the leader again and again, under one writer.
func (b *bench) elections(ctx context.Context, t *target, kills int) (*electionResults, error) {
	statements, err := presign(t.signers[:1], 1_500*kills+2_000, 64)
	if err != nil {
		return nil, err
	}
	before, err := t.size(ctx)
	if err != nil {
		return nil, err
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	w := &writer{}
	done := make(chan struct{})
	go func() { defer close(done); w.run(writing, t.cluster, statements) }()
	out := &electionResults{Replicas: len(t.members)}
	var gaps []time.Duration
	for range kills {
		if err := w.after(ctx, 20); err != nil {
			return nil, err
		}
		leader, err := t.leader(ctx)
		if err != nil {
			return nil, err
		}
		killed := time.Now()
		leader.child.kill()
		leader.child = nil
		if err := w.after(ctx, 20); err != nil {
			return nil, fmt.Errorf("after the kill of %s: %w", leader.name, err)
		}
		gap := w.gap(killed, time.Now())
		if gap > gapLimit {
			return nil, fmt.Errorf("no acknowledgement for %s after the kill of %s", gap, leader.name)
		}
		gaps = append(gaps, gap)
		out.All = append(out.All, millis(gap))
		b.note("kill of %s: %4.0f ms without an acknowledgement", leader.name, millis(gap))
		if err := t.startMember(leader); err != nil {
			return nil, err
		}
		if err := t.awaitCertified(ctx, 1); err != nil {
			return nil, err
		}
	}
	stop()
	<-done
	after, err := t.size(ctx)
	if err != nil {
		return nil, err
	}
	out.Kills, out.Gap = kills, spreadOf(gaps)
	if grown := after - before; grown < uint64(w.count()) {
		return nil, fmt.Errorf("%d acknowledged across %d kills, and the ledger grew by %d", w.count(), kills, grown)
	}
	return out, nil
}

// size is how many entries the leader has applied.
func (c *cluster) size(ctx context.Context) (uint64, error) {
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	s, err := leader.status(ctx)
	if err != nil {
		return 0, err
	}
	return s.Applied, nil
}
