package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// restore begins from the state on disk, verified as if a peer had sent it. What
// is missing or damaged is fetched anew, and status says so.
func (a *Agent) restore() {
	saved, err := a.store.state.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = a.restoreFrom(saved)
	}
	if err != nil {
		a.trouble.set(troubleState, fmt.Errorf("the state on disk is not used: %w", err))
		a.logger.Warn("the state on disk is not used; it is fetched anew", "error", err)
		if err := a.store.state.Discard(); err != nil {
			a.trouble.set(troubleDisk, err)
		}
		// It was made a moment ago of the same parts.
		if c, err := a.newChronicle(); err == nil {
			a.chronicle = c
		}
	}
}

func (a *Agent) restoreFrom(saved *Saved) error {
	for _, raw := range saved.Links {
		if err := a.chronicle.addLink(raw); err != nil {
			return err
		}
	}
	h, err := a.chronicle.certified(saved.Note)
	if err != nil {
		return err
	}
	seal, err := ledger.ParseEntry(saved.Seal)
	if err != nil {
		return err
	}
	state, err := fsm.Load(saved.Records, seal)
	if err != nil {
		return err
	}
	if err := a.chronicle.load(h, state, saved.Seal, saved.SealProof, true); err != nil {
		return err
	}
	v := &View{State: state, Size: state.Next(), Root: h.Root, Signed: time.Unix(int64(h.signed), 0), peers: peersOf(state)}
	v.certified = newCertified(v)
	a.view.Store(v)
	return nil
}

// save writes the certified state: soon after a standing changed, and else once a
// saveEvery. When the disk fails, what is in memory stays in force.
func (a *Agent) save(ctx context.Context) error {
	var standings []Dropped
	last := time.Now()
	for {
		changed := a.changed.wait()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		now := quarantineOf(a.view.Load())
		wait := saveEvery
		if !equalStandings(standings, now) {
			wait = saveSoonest
		}
		if err := sleep(ctx, max(wait-time.Since(last), 0)); err != nil {
			return err
		}
		a.saveNow()
		standings, last = now, time.Now()
	}
}

func equalStandings(a, b []Dropped) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Standing != b[i].Standing {
			return false
		}
	}
	return true
}

// saveNow writes the certified state, if there is one.
func (a *Agent) saveNow() {
	a.mu.Lock()
	c := a.chronicle
	if c.head == nil || len(c.seal) == 0 || c.diverged != nil || c.state.Next() != c.head.Size {
		a.mu.Unlock()
		return
	}
	state := c.state
	saved := &Saved{
		Generation: state.Meta().Generation, Size: c.head.Size, Note: c.head.note,
		Links: append([][]byte(nil), c.links...), Seal: c.seal, SealProof: c.sealProof(), Records: recordsOf(state),
	}
	a.mu.Unlock()
	a.out.sweep(state, time.Now()) // first: of what is over by state the outbox alone knows more
	err := a.store.state.Save(saved)
	var rollback *RollbackError
	switch {
	case errors.As(err, &rollback):
		a.logger.Error("the state on disk is newer than ours", "error", err)
		a.trouble.set(troubleState, err)
	case err != nil:
		a.logger.Warn("the state is in memory only", "error", err)
		a.trouble.set(troubleDisk, err)
	default:
		a.trouble.set(troubleDisk, nil)
		a.trouble.set(troubleState, nil)
	}
}

func recordsOf(state *fsm.State) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) { state.Walk("", yield) }
}

// fastStart takes the whole state from a replica when there is much to replay.
func (a *Agent) fastStart(ctx context.Context) {
	got, err := a.client.State(ctx)
	a.beside(err)
	a.unkept(err)
	if got == nil {
		a.logger.Info("no state was fetched; the ledger is replayed", "error", err)
		return
	}
	for _, raw := range a.client.Links() {
		if err := a.offerLink(raw); err != nil {
			a.trouble.set(troubleReplicas, err)
			return
		}
	}
	a.mu.Lock()
	h, err := a.chronicle.verifyHead(got.Head.Note)
	a.mu.Unlock()
	if err == nil {
		err = a.beginAt(h, got.State, got.Seal, got.SealProof, true) // the client compared it
	}
	if err != nil && !errors.Is(err, errBehind) {
		a.logger.Warn("a replica's state is refused", "error", err)
		return
	}
	a.trouble.reached(cutOffAfter)
}
