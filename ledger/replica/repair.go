package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// damages are the bundles of the history that are to be repaired. Whoever reads
// the archive may find one, Raft's goroutine among them, so noting it only takes
// a lock.
type damages struct {
	mu    sync.Mutex
	found map[uint64]*archive.DamageError // by bundle
	wake  chan struct{}                   // capacity 1
}

// note files a damaged bundle or tile under a bundle whose repair mends it.
func (d *damages) note(damage *archive.DamageError) {
	level, n, _, err := archive.ParseTilePath(damage.File)
	if err != nil {
		return // a tail: only Open and Verify find that
	}
	for ; level > 0; level-- {
		n *= archive.TileWidth // the first below it
	}
	d.mu.Lock()
	if _, known := d.found[n]; !known && len(d.found) < maxDamages {
		d.found[n] = damage
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// first is one of the damaged bundles, the lowest, and how many there are.
func (d *damages) first() (n uint64, damage *archive.DamageError, count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, one := range d.found {
		if damage == nil || k < n {
			n, damage = k, one
		}
	}
	return n, damage, len(d.found)
}

func (d *damages) repaired(n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.found, n)
}

// repairLoop mends what readers and the scrub found damaged, from peers. Until
// then the archive gives none of it out, and the rest as ever.
func (r *Replica) repairLoop(ctx context.Context) error {
	first, wait := 0, time.Duration(0)
	for ctx.Err() == nil {
		n, damage, count := r.damages.first()
		if damage == nil {
			r.clear(alarmDamaged)
			select {
			case <-r.damages.wake:
			case <-ctx.Done():
			}
			continue
		}
		r.raise(alarmDamaged, fmt.Sprintf("%d of the history's files; the first: %v", count, damage))
		err := r.repairOnce(ctx, n, first)
		if err == nil {
			r.damages.repaired(n)
			r.metrics.repaired.Inc()
			r.log.Warn("repaired", "file", damage.File, "offset", damage.Offset, "reason", damage.Reason)
			wait = 0
			continue
		}
		first++ // whom to ask first the next time
		wait = min(max(2*wait, 250*time.Millisecond), repairPause)
		r.log.Info("repair", "file", damage.File, "error", err)
		r.noteDisk(err)
		if !pause(ctx, jitter(wait)) {
			return nil
		}
	}
	return nil
}

// repairOnce asks peers for the entries of a bundle, until the ones of one of
// them hash to what our tree says, whose root the certified one is.
func (r *Replica) repairOnce(ctx context.Context, n uint64, first int) error {
	if r.archive.Check(n) == nil {
		return nil // mended with another, or it was the reading that failed
	}
	if err := r.certifiedRoot(); err != nil {
		return err
	}
	err := errors.New("no peer in reach")
	others := r.peers.others()
	for i := range others {
		from := others[(first+i)%len(others)]
		path := fmt.Sprintf("%s?from=%d&count=%d", pathEntries, n*archive.TileWidth, archive.TileWidth)
		b, failed := r.peers.get(ctx, from, path, r.limits.PeerBody)
		if failed != nil {
			err = failed
			continue
		}
		entries, failed := parseEntries(b)
		if failed == nil && len(entries) != archive.TileWidth {
			failed = fmt.Errorf("%d of %d entries", len(entries), archive.TileWidth)
		}
		if failed == nil {
			failed = r.archive.Repair(n, bundleOf(entries))
		}
		if failed == nil {
			failed = r.archive.Check(n)
		}
		if failed == nil {
			return nil
		}
		if errors.Is(failed, archive.ErrConflict) {
			r.metrics.badRepairs.Inc()
			r.log.Warn("repair: other bytes than the tree has", "peer", from.Name, "bundle", n)
		}
		err = fmt.Errorf("from %s: %w", from.Name, failed)
	}
	return err
}

// certifiedRoot makes sure that the tree on disk, by which a repair is judged, is
// the certified one. Where damage hides that, the tree's newest root must do,
// which hangs on the tail's checksum.
func (r *Replica) certifiedRoot() error {
	now := r.certifier.now.Load()
	if now == nil {
		return errors.New("nothing is certified yet")
	}
	head := now.checkpoint.Head
	root, err := r.archive.TreeHash(head.Size)
	var damage *archive.DamageError
	switch {
	case errors.As(err, &damage), errors.Is(err, archive.ErrNotFound), errors.Is(err, archive.ErrGap):
		return nil
	case err != nil:
		return err
	case ledger.Hash(root) != head.Root:
		reason := fmt.Sprintf("the history's root at size %d is %x, the certified one is %s", head.Size, root, head.Root)
		r.halt(reason)
		return errors.New(reason)
	}
	return nil
}

// bundleOf is a bundle as the archive has it on disk (C2SP tlog-tiles).
func bundleOf(entries [][]byte) []byte {
	var b []byte
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}

// scrubRecord is the file scrub: the bundle that the scrub looks at next.
type scrubRecord struct {
	Next uint64 `json:"next"`
}

// scrubLoop reads the whole history again and again, one bundle each
// ScrubInterval, and goes on after a restart where it was.
func (r *Replica) scrubLoop(ctx context.Context) error {
	var at scrubRecord
	if _, err := r.files.readChecked(scrubFile, &at); err != nil {
		at.Next = 0 // it is only a place to go on from
	}
	timer := time.NewTicker(r.limits.ScrubInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		bundles := r.archive.Bundles()
		if bundles == 0 {
			continue
		}
		if at.Next >= bundles {
			at.Next = 0
		}
		var damage *archive.DamageError
		if err := r.archive.Check(at.Next); errors.As(err, &damage) {
			r.damages.note(damage)
		}
		at.Next++
		r.metrics.scrubbed.Inc()
		if at.Next%scrubSaved == 0 || at.Next >= bundles {
			if err := r.files.replaceChecked(scrubFile, at); err != nil {
				r.noteDisk(err)
			}
		}
	}
}
