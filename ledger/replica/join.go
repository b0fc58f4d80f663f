package replica

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// seqRecord is the file seq: the next seq of this replica's own statements in
// an epoch. It is durable before a seq is used, so that none is used twice.
type seqRecord struct {
	Epoch uint64 `json:"epoch"`
	Next  uint64 `json:"next"`
}

// reserveSeq gives a seq of an epoch that no statement had before.
func (r *Replica) reserveSeq(epoch uint64) (uint64, error) {
	r.seqMu.Lock()
	defer r.seqMu.Unlock()
	var record seqRecord
	known, err := r.files.readChecked(seqFile, &record)
	if err != nil {
		return 0, err
	}
	if !known {
		after, err := r.seqAfterLoss(epoch)
		if err != nil {
			return 0, err
		}
		record = seqRecord{Epoch: epoch, Next: after}
	}
	if record.Epoch > epoch {
		return 0, fmt.Errorf("reserve seq: epoch %d is before %d, in which seqs are reserved", epoch, record.Epoch)
	}
	if record.Epoch < epoch {
		record = seqRecord{Epoch: epoch}
	}
	seq := record.Next
	record.Next++
	// Crash here: nothing; after it, one seq that stays unused.
	return seq, r.files.replaceChecked(seqFile, record)
}

// seqAfterLoss is where seqs begin for a replica without the file seq: above what
// the ledger has seen of it, and above what may be on its way, if the file was lost.
// A new replica, of which the ledger has seen nothing, begins at 0.
func (r *Replica) seqAfterLoss(epoch uint64) (uint64, error) {
	value, said := r.shell.now.Load().state.Record(windowTable + r.cfg.Name)
	if !said {
		return 0, nil
	}
	var window fsm.WindowRecord
	if err := canon.Unmarshal(value, &window); err != nil {
		return 0, fmt.Errorf("read what this replica said: %w", err)
	}
	if window.Epoch < epoch {
		return lostSeqs, nil
	}
	return window.Top + lostSeqs, nil
}

// joinLoop states ready once a joining replica's history is whole and it has
// caught up; the ledger then makes it active. An active one states so what format
// its program runs.
func (r *Replica) joinLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := r.changed.wait()
		if r.mayStateReady() {
			if err := r.stateReady(ctx); err != nil && ctx.Err() == nil {
				r.log.Info("state ready", "error", err)
			}
			if !pause(ctx, jitter(500*time.Millisecond)) {
				return nil
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// mayStateReady: the ledger lists this replica as joining, or as one that runs an
// older format than this program does; the history is whole, and a certified head
// from after the decision is in it.
func (r *Replica) mayStateReady() bool {
	if !r.caughtUp.Load() || r.halted() != nil {
		return false
	}
	if _, _, gap := r.archive.Gap(); gap {
		return false
	}
	state := r.shell.now.Load().state
	me, ok := state.Replica(r.cfg.Name)
	sealed := r.shell.certified.Load()
	if !ok || me.Server() != r.id || sealed == nil || sealed.head.Size <= me.Since || state.Meta().Frozen != "" {
		return false // while it is frozen, it would be refused, each time with another seq
	}
	if me.Standing == fsm.ReplicaJoining {
		return !state.PendingHandover()
	}
	return me.Format < fsm.Format // so that the council may raise the ledger's
}

func (r *Replica) stateReady(ctx context.Context) error {
	sealed := r.shell.certified.Load()
	state := r.shell.now.Load().state
	epoch := state.Epoch()
	seq, err := r.reserveSeq(epoch)
	if err != nil {
		return err
	}
	payload := ledger.Payload{Author: r.cfg.Name, Epoch: &epoch, Seq: &seq, Generation: state.Meta().Generation,
		Ledger: r.genesis, Type: ledger.TypeReady}
	me, _ := state.Replica(r.cfg.Name)
	by := r.ring.Load().identity(me.KeyID())
	if by == nil {
		return errors.New("the key that the ledger names is not here")
	}
	envelope, err := ledger.Sign(by.key, payload, ledger.Ready{Format: fsm.Format, Root: sealed.head.Root, Size: sealed.head.Size})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	receipt, err := r.Submit(ctx, [][]byte{envelope}, WaitCommitted)
	if err != nil {
		return err
	}
	r.log.Info("stated ready", "size", sealed.head.Size, "seq", receipt.Last)
	return r.WaitApplied(ctx, receipt.Last)
}

// checkAge asks the peers for the newest head that carries our own
// cosignature, before Raft may vote. One above what we know to have signed
// means that this data is older than the replica: it was restored from a copy
// or wiped. It waits for so many answers that Raft could not have had a quorum
// without one of them, which costs nothing: without them there is none either.
func (r *Replica) checkAge(ctx, live context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(live, cancel)()
	answered := map[ledger.Hash]bool{}
	for {
		others := r.pins.voters(r.id)
		need := (len(others) + 1) / 2
		var older error
		r.peers.askAll(ctx, r.askMine(), maxPeerNotes, func(from *peer, answer []byte) {
			answered[from.id] = true
			if len(answer) == 0 || older != nil {
				return
			}
			if older = r.compareAge(answer); older == nil && !r.recognises(answer) {
				older = r.compareKey(ctx, from)
			}
		})
		if older != nil {
			r.halt(older.Error())
			return older
		}
		count := 0
		for _, p := range others {
			if answered[p.id] {
				count++
			}
		}
		if count >= need {
			return nil
		}
		if !pause(ctx, jitter(150*time.Millisecond)) {
			return errors.Join(ErrStopped, ctx.Err())
		}
	}
}

// recognises says whether an answer is a signature of ours, as far as we know.
func (r *Replica) recognises(answer []byte) bool {
	s, err := parseCosigned(r.origin, answer)
	return err == nil && r.ownSignature(s)
}

// compareKey errs when a peer proves that the ledger knows this replica under a key
// that it has not: its disk is from before a rotation, so it can't recognise what it
// signed since.
func (r *Replica) compareKey(ctx context.Context, from *peer) error {
	b, err := r.peers.get(ctx, from, pathSet, r.limits.PeerBody)
	if err != nil {
		return nil // it proves nothing
	}
	found, _, err := r.takeSet(b)
	if err != nil {
		r.log.Warn("ask for the replica set", "peer", from.Name, "error", err)
		return nil
	}
	for _, one := range found {
		if one.id == r.id && !r.ring.Load().knows(one.KeyID()) {
			return fmt.Errorf("older data: the ledger knows this replica under key %s, to which it rotated, its disk does not; re-key it (replica.rekey)", one.KeyID())
		}
	}
	return nil
}

// askMine asks for the newest head under any of our newest keys. A program that
// knows no keys here answers for the one under which it knows us.
func (r *Replica) askMine() string {
	all := r.ring.Load().record.Keys
	query := url.Values{}
	for _, one := range all[max(len(all)-maxOwnKeys, 0):] {
		query.Add("key", one.id().String())
	}
	return pathMine + "?" + query.Encode()
}

// compareAge errs when our own signature is on a head that we don't know of. It
// believes nobody: the signature is ours.
func (r *Replica) compareAge(answer []byte) error {
	s, err := parseCosigned(r.origin, answer)
	if err != nil {
		return nil
	}
	if !r.ownSignature(s) {
		return nil
	}
	head := r.cosigner.head
	switch {
	case s.head.Size > head.Size:
		return fmt.Errorf("older data: this replica signed size %d, its disk knows of %d; re-key it (replica.rekey)", s.head.Size, head.Size)
	case s.head.Size == head.Size && s.head.Root != head.Root:
		return fmt.Errorf("this replica signed another root at size %d than its disk knows of; re-key it (replica.rekey)", head.Size)
	}
	return nil
}
