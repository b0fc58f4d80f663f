package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// What becomes of a replica's keys that ended: their secrets are destroyed, and the
// ledger has a record of it (DESIGN.md, "Its own rotation").

// retireKeys destroys the secrets of keys that ended retireEpochs ago: nothing that
// they signed is accepted or needed any more. It goes by the certified epoch, so that no
// recovery goes back to before a key ended. The configuration's own key file is people's,
// and holds the age identity.
func (r *Replica) retireKeys() error {
	g, sealed := r.ring.Load(), r.shell.certified.Load()
	if sealed == nil {
		return nil
	}
	epoch := sealed.state.Epoch()
	for i, one := range g.record.Keys {
		if one.File == "" || one.Ended == nil || epoch < *one.Ended+retireEpochs {
			continue
		}
		record := g.record
		record.Keys = slices.Clone(record.Keys)
		record.Keys[i].File = ""
		if err := r.changeRing(g.with(record)); err != nil {
			return err
		}
		// Crash here: a file that no ring names; after the next start it is destroyed.
		if err := r.cfg.Hooks.rotation("retired"); err != nil {
			return err
		}
		if err := r.dropFile(one.File); err != nil {
			return err
		}
		r.log.Info("former key destroyed", "key", one.id().String())
		return nil
	}
	return nil
}

// sayDestroyed has the ledger record that the secret of a former key is destroyed: one
// a step, once no file is left that the ring does not name. The ledger's own record says
// whether it was said, so a crash, or an answer that got lost, repeats nothing.
func (r *Replica) sayDestroyed(ctx context.Context, state *fsm.State) error {
	g := r.ring.Load()
	id, found := g.unsaid(state)
	if !found {
		return nil
	}
	seq, err := r.reserveSeq(state.Epoch())
	if err != nil {
		return err
	}
	said, err := r.sign(g.active(), state, seq, ledger.TypeDestroy, ledger.Destroy{Key: id})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	receipt, err := r.Submit(ctx, [][]byte{said}, WaitCommitted)
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		v := rejected.Verdicts[0]
		return fmt.Errorf("say that key %s is destroyed: %s: %s", id, v.Code, v.Detail)
	}
	if err != nil {
		return fmt.Errorf("say that key %s is destroyed: %w", id, err)
	}
	if err := r.cfg.Hooks.rotation("destroyed"); err != nil {
		return err
	}
	return r.WaitApplied(ctx, receipt.Last)
}

// unsaid gives a key whose secret is destroyed, of which the ledger does not know that.
func (g *ring) unsaid(state *fsm.State) (id ledger.Hash, found bool) {
	for _, one := range g.record.Keys {
		if one.Ended == nil || one.File != "" || one.id() == g.record.Line {
			continue
		}
		if _, heard := state.OldKey(one.id()); heard {
			continue
		}
		if record, known := state.Key(one.id()); known && record.Destroyed == 0 {
			return one.id(), true
		}
	}
	return id, false
}
