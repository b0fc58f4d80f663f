package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// patience is how long this replica waits for votes. A vote costs three writes
// with an fsync each, at the candidate and at the voter; on disks that need
// longer for them than the election timeout nobody would ever be elected. So the
// timeout is as long as both take on a disk like ours; and as the voters' may be
// slower, it doubles with each election that this replica stands in in vain, but
// for the first: ties happen on fast disks, too. A pre-vote costs no write and is
// no such election, so a replica that is cut off stays as quick as ever.
//
// Raft's heartbeat timeout stays as it is: a leader speaks ten times as often as
// its own, and its followers would miss it.
type patience struct {
	base, most time.Duration
	stable     time.Duration // how long a leader must be known for all to be forgotten

	mu     sync.Mutex
	asked  uint64 // the newest term in which votes were asked for, and no leader known since
	failed int
	leader raft.ServerID
	since  time.Time
}

func newPatience(base time.Duration) *patience {
	return &patience{base: base, most: max(base, maxElectionTimeout), stable: stableTerms * base}
}

// asks says that votes are asked for in a term.
func (p *patience) asks(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term <= p.asked {
		return
	}
	if p.asked > 0 {
		p.failed++
	}
	p.asked = term
}

// look says how long to wait for votes, now that leader is known or "", and a write
// to our log usually takes so long.
func (p *patience) look(leader raft.ServerID, now time.Time, write time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if leader != p.leader {
		p.leader, p.since = leader, now
	}
	if leader != "" {
		p.asked = 0
		if now.Sub(p.since) >= p.stable {
			p.failed = 0
		}
	}
	wait := min(max(p.base, voteWrites*write), p.most)
	for range p.failed - 1 {
		wait = min(2*wait, p.most)
	}
	return wait
}

// patienceLoop keeps Raft's election timeout what patience says.
func (r *Replica) patienceLoop(ctx context.Context) error {
	ticker := time.NewTicker(max(r.cfg.Raft.Election/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		node := r.node.Load()
		if node == nil {
			continue
		}
		tuning := node.ReloadableConfig()
		wait := r.patience.look(r.raftLeader(), time.Now(), r.watchdog.usually(diskLog))
		if wait == tuning.ElectionTimeout {
			continue
		}
		r.log.Info("the time to wait for votes changes", "from", tuning.ElectionTimeout, "to", wait)
		tuning.ElectionTimeout = wait
		if err := node.ReloadConfig(tuning); err != nil {
			r.log.Error("change the election timeout", "error", err)
		}
	}
}
