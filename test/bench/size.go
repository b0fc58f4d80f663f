package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/ledger/replica"
)

// sizeResults is one ledger of one replica, whose state is the same whatever
// its length.
type sizeResults struct {
	Entries       uint64  `json:"entries"`
	SnapshotBytes int64   `json:"snapshot_bytes"`
	StartMillis   float64 `json:"start_ms"` // from the process's start until it is ready and serves a certified head
	RSSBytes      uint64  `json:"rss_bytes"`
	HeapBytes     uint64  `json:"heap_bytes"`      // in use after a collection
	Inclusion     *spread `json:"inclusion_proof"` // GET /v1/proofs/inclusion over HTTP
	BuildSeconds  float64 `json:"build_seconds"`
}

const (
	buildBundle   = 256 // statements in one submission while a ledger is built
	buildTrailing = 64  // of Raft's commands kept behind the snapshot: the same at every length
	starts        = 5   // the median counts
)

// sizes builds a ledger of so many entries and measures the program on it.
func (b *bench) sizes(ctx context.Context, entries uint64) (*sizeResults, error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("size-%d", entries))
	c, err := found(b.program, dir, 1, measured, "--log-store", "wal")
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.stop() }()
	out := &sizeResults{}
	began := time.Now()
	if err := build(ctx, c, entries); err != nil {
		return nil, fmt.Errorf("build a ledger of %d entries: %w", entries, err)
	}
	out.BuildSeconds = time.Since(began).Seconds()
	states, err := filepath.Glob(filepath.Join(c.members[0].dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(states) == 0 {
		return nil, fmt.Errorf("no snapshot was made: %w", err)
	}
	info, err := os.Stat(states[len(states)-1])
	if err != nil {
		return nil, err
	}
	out.SnapshotBytes = info.Size()
	var times, memory, heaps []float64
	for range starts {
		began := time.Now()
		if err := c.start(ctx); err != nil {
			return nil, err
		}
		times = append(times, millis(time.Since(began)))
		if out.Inclusion, err = inclusion(ctx, c, entries); err != nil {
			return nil, err
		}
		rss, err := c.members[0].child.residentBytes()
		if err != nil {
			return nil, err
		}
		memory = append(memory, float64(rss))
		heap, err := c.members[0].heap(ctx)
		if err != nil {
			return nil, err
		}
		heaps = append(heaps, float64(heap))
		if out.Entries, err = c.size(ctx); err != nil {
			return nil, err
		}
		if err := c.stop(); err != nil {
			return nil, err
		}
	}
	out.StartMillis, out.RSSBytes, out.HeapBytes = median(times), uint64(median(memory)), uint64(median(heaps))
	return out, os.RemoveAll(dir)
}

// build submits records in bundles to the replica within this process, which
// does all it always does, but for the fsync of Raft's log, and snapshots it.
func build(ctx context.Context, c *cluster, entries uint64) error {
	m := c.members[0]
	base := filepath.Join(c.dir, "keys", m.name)
	certificate, err := tls.LoadX509KeyPair(base+".tls.crt", base+".tls.key")
	if err != nil {
		return err
	}
	genesis, err := os.ReadFile(filepath.Join(c.dir, "genesis.cbor"))
	if err != nil {
		return err
	}
	r, err := replica.Open(replica.Config{
		Dir: m.dir, Name: m.name, Genesis: genesis, Key: c.signers[0].key, Certificate: certificate, Listen: m.peer,
		LogStore: replica.LogStoreWAL, Raft: replica.RaftTuning{NoSync: true, TrailingLogs: buildTrailing},
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(running) }()
	err = fill(ctx, c, r, entries)
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	return err
}

// fill signs the next bundles while the ones before are committed.
func fill(ctx context.Context, c *cluster, r *replica.Replica, entries uint64) error {
	for !r.Status().Ready {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	const signed = 16 * buildBundle
	last := uint64(0)
	for last+1 < entries {
		n := int(min(entries-last-1, signed))
		statements, err := presign(c.signers, n, 64)
		if err != nil {
			return err
		}
		for len(statements) > 0 {
			bundle := statements[:min(buildBundle, len(statements))]
			statements = statements[len(bundle):]
			receipt, err := r.Submit(ctx, bundle, replica.WaitCommitted)
			if err != nil {
				return err
			}
			last = receipt.Last
		}
	}
	if err := r.WaitCertified(ctx, last); err != nil {
		return err
	}
	return r.Snapshot(ctx)
}

// inclusion times proofs of random entries.
func inclusion(ctx context.Context, c *cluster, entries uint64) (*spread, error) {
	const proofs = 300
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	random := rand.New(rand.NewPCG(1, entries))
	var times []time.Duration
	for range proofs {
		path := fmt.Sprintf("http://%s/v1/proofs/inclusion?seq=%d", c.members[0].api, random.Uint64N(entries-10))
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		if err := discard(response); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return spreadOf(times), nil
}
