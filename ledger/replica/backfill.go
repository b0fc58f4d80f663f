package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// backfillLoop fills the gap that a snapshot left in the history, from peers,
// off Raft's goroutine. The archive checks what comes against the frontier
// that the certified checkpoint proved.
func (r *Replica) backfillLoop(ctx context.Context) error {
	first := rand.IntN(ledger.MaxReplicas) // who is asked first: not the same one by all newcomers
	for ctx.Err() == nil {
		changed := r.changed.wait()
		from, to, gap := r.archive.Gap()
		if !gap {
			r.clear(alarmGap)
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		r.raise(alarmGap, fmt.Sprintf("entries %d to %d are missing", from, to))
		served, err := r.backfillOnce(ctx, first)
		first = served
		if err != nil {
			r.log.Info("backfill", "from", from, "to", to, "error", err)
			if !pause(ctx, jitter(500*time.Millisecond)) {
				return nil
			}
		}
	}
	return nil
}

// backfillOnce takes one batch from the first peer that has it. A lie shows only
// when a subtree of the frontier is whole: then all starts over with another
// peer first, and each lie moves that on. Who answered is asked first the next
// time, so that a peer that lets us wait does so once.
func (r *Replica) backfillOnce(ctx context.Context, first int) (next int, err error) {
	err = errors.New("no peer in reach")
	others := r.peers.others()
	for i := range others {
		from := others[(first+i)%len(others)]
		seq := r.archive.Whole()
		b, failed := r.peers.get(ctx, from, fmt.Sprintf("%s?from=%d&count=%d", pathEntries, seq, r.limits.BackfillBatch), r.limits.PeerBody)
		if failed != nil {
			err = failed
			continue
		}
		entries, failed := parseEntries(b)
		if failed == nil && len(entries) == 0 {
			failed = errors.New("an empty answer")
		}
		if failed == nil {
			failed = r.archive.Backfill(seq, entries)
		}
		if failed == nil {
			r.metrics.backfilled.Add(float64(len(entries)))
			r.changed.fire()
			return first + i, nil
		}
		if errors.Is(failed, archive.ErrConflict) {
			// Some peer sent entries that are not the ledger's: start over.
			r.log.Warn("backfill", "peer", from.Name, "error", failed)
			return first + i + 1, failed
		}
		err = failed
		r.noteDisk(failed)
	}
	return first, err
}
