package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
)

// The planted bugs. Each is one that a real program could have.
const (
	bugEarlyAck  = "early-ack"  // a request to a follower counts as answered before it is
	bugStaleRead = "stale-read" // a linearizable read is answered from what this replica has
	bugDropFsync = "drop-fsync" // writes are not made durable
)

func plant(bug string, cfg *replica.Config, f *faults) error {
	switch bug {
	case "", bugStaleRead:
	case bugEarlyAck:
		cfg.Hooks.Transport = func(inner replica.GuardedTransport) replica.GuardedTransport { return earlyAcks{inner} }
	case bugDropFsync:
		cfg.Raft.NoSync = true
		cfg.Hooks.Archive = &faultyFS{lazyFS{archive.OS()}, f}
	default:
		return fmt.Errorf("unknown bug %q", bug)
	}
	return nil
}

// earlyAcks takes a follower that has not answered yet for one that has agreed,
// so that a leader commits, and proves that it leads, without a majority.
type earlyAcks struct{ replica.GuardedTransport }

const ackAfter = 200 * time.Millisecond

func (t earlyAcks) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	answer := make(chan *raft.AppendEntriesResponse, 1)
	go func() {
		var got raft.AppendEntriesResponse
		if t.GuardedTransport.AppendEntries(id, to, q, &got) == nil {
			answer <- &got
		}
	}()
	select {
	case got := <-answer:
		*a = *got
	case <-time.After(ackAfter):
		last := q.PrevLogEntry
		if n := len(q.Entries); n > 0 {
			last = q.Entries[n-1].Index
		}
		*a = raft.AppendEntriesResponse{RPCHeader: q.RPCHeader, Term: q.Term, LastLog: last, Success: true}
	}
	return nil
}

// staleReads forgets to ask the leader.
type staleReads struct{ *api.ReplicaBackend }

func (b staleReads) View(ctx context.Context, consistency string) (*api.View, error) {
	if consistency == client.Linearizable {
		consistency = client.Stale
	}
	return b.ReplicaBackend.View(ctx, consistency)
}

// lazyFS forgets to fsync.
type lazyFS struct{ archive.FS }

func (s lazyFS) SyncDir(string) error { return nil }

func (s lazyFS) Create(name string) (archive.File, error) {
	file, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return lazyFile{file}, nil
}

type lazyFile struct{ archive.File }

func (lazyFile) Sync() error { return nil }
