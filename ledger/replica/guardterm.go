package replica

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// terms refuses absurd leaps of term: beyond what the ledger's age allows, or
// more often from one peer than elections happen. DESIGN.md says why these two
// bounds never lock an honest replica out, and what is left to a liar.
type terms struct {
	now     func() uint64 // milliseconds of Unix time
	created uint64        // and when the ledger was founded
	current func() uint64 // Raft's term
	refill  time.Duration // a peer may raise the term once in so long, after a burst

	mu     sync.Mutex
	raises map[raft.ServerID]*raises
}

// raises is what one peer may still raise.
type raises struct {
	left   float64
	filled time.Time
	last   uint64 // the term it raised to last
}

func newTerms(now func() uint64, created uint64, refill time.Duration, current func() uint64) *terms {
	return &terms{now: now, created: created, refill: refill, current: current, raises: map[raft.ServerID]*raises{}}
}

// highest is the highest term that can be.
func (t *terms) highest() uint64 {
	age := t.now() - min(t.created, t.now())
	return termSlack + age/uint64(termEvery.Milliseconds())
}

// allow says whether a peer may name a term, which counts if Raft would take it
// over.
func (t *terms) allow(from raft.ServerID, term uint64, counts bool) error {
	now := t.current()
	if term <= now {
		return nil
	}
	if highest := t.highest(); term > highest {
		return fmt.Errorf("term %d, ours is %d, the highest that can be is %d", term, now, highest)
	}
	if !counts {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.raises[from]
	if r == nil {
		if len(t.raises) >= maxRaisers {
			clear(t.raises)
		}
		r = &raises{left: termBurst, filled: time.Now()}
		t.raises[from] = r
	}
	if term == r.last {
		return nil // the same election, on another connection or again
	}
	r.left = min(termBurst, r.left+float64(time.Since(r.filled))/float64(t.refill))
	r.filled = time.Now()
	if r.left < 1 {
		return fmt.Errorf("term %d, ours is %d: raised too often, next in %s", term, now,
			time.Duration((1-r.left)*float64(t.refill)).Round(time.Millisecond))
	}
	r.left--
	r.last = term
	return nil
}

// refuseTerms is the rule for requests.
func refuseTerms(t *terms) guardRule {
	return guardRule{"term", func(q *request) error {
		var term uint64
		counts := true
		switch c := q.Command.(type) {
		case *raft.AppendEntriesRequest:
			term = c.Term
		case *raft.InstallSnapshotRequest:
			term = c.Term
		case *raft.RequestVoteRequest:
			term = c.Term
		case *raft.RequestPreVoteRequest:
			term, counts = c.Term, false
		default:
			return nil
		}
		return t.allow(q.sender.serverID(), term, counts)
	}}
}
