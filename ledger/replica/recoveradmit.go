package replica

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// Whether a recovery is one for this replica: the statements, the head, and the
// history up to it.

// admit checks everything but the history itself: the signatures, that this
// replica stays, and that the head is the last certified one, as far as this
// replica knows.
func (d *data) admit(o RecoverOptions, folder string, statements []*ledger.Statement) (ledger.Recover, error) {
	for i, raw := range o.Links {
		if uint64(i)+1 < d.chain.Len() {
			continue
		}
		if err := d.extend(raw); err != nil {
			return ledger.Recover{}, refuseRecovery("authority link %d: %v", i+1, err)
		}
	}
	if named := statements[0].Payload.Ledger; named != d.genesis {
		return ledger.Recover{}, refuseRecovery("the statements are for ledger %s, this is %s", named, d.genesis)
	}
	body, err := ledger.DecodeBody[ledger.Recover](statements[0])
	if err != nil {
		return body, refuseRecovery("%v", err)
	}
	if body.Generation <= d.chain.Latest.Generation {
		return body, refuseRecovery("already recovered: the ledger is at generation %d here, and the statements open %d", d.chain.Latest.Generation, body.Generation)
	}
	if m := d.marker; m != nil && m.Generation == body.Generation && filepath.Base(m.Folder) != o.Instead {
		return body, refuseRecovery("other statements than these (%s) opened generation %d here: %s. Give every replica the same ones; only if those are given up on all of them, say that these take their place",
			filepath.Base(folder), m.Generation, filepath.Base(m.Folder))
	}
	if _, _, err := d.chain.Latest.Recovered(statements); err != nil {
		return body, refuseRecovery("%v", err)
	}
	if err := inWindow(body, o.Now(), maxPolicySkew); err != nil {
		return body, err
	}
	head := body.Head
	if d.certified != nil && d.certified.Head.Size > head.Size {
		return body, refuseRecovery("size %d is certified here, and the recovery goes on from %d: make a new plan from this replica", d.certified.Head.Size, head.Size)
	}
	if handover := d.handover(); handover.Size > head.Size {
		return body, refuseRecovery("authority link %d is of size %d, and the recovery goes on from %d: make a new plan", d.chain.Latest.Index, handover.Size, head.Size)
	}
	if whole := d.archive.Whole(); whole < head.Size {
		return body, refuseRecovery("short of the head: %d entries are here, it has %d. Let this replica start empty, as a new one", whole, head.Size)
	}
	if root, err := d.archive.TreeHash(head.Size); err != nil || ledger.Hash(root) != head.Root {
		return body, refuseRecovery("the root of size %d is %x here, the recovery names %s", head.Size, root, head.Root)
	}
	if d.certified == nil || d.certified.Head.Size < head.Size {
		checkpoint, err := d.chain.VerifyCheckpoint(o.Checkpoint)
		if err != nil {
			return body, refuseRecovery("the head of size %d is not known to be certified here: %v", head.Size, err)
		}
		d.certified, d.note = checkpoint, o.Checkpoint
	}
	if d.certified.Head.Size != head.Size || d.certified.Head.Root != head.Root {
		return body, refuseRecovery("the checkpoint is of size %d, the recovery goes on from %d", d.certified.Head.Size, head.Size)
	}
	return body, nil
}

// inWindow checks that now, by this machine's clock, is in the time in which the
// council wants the recovery applied: the ledger's own time stands still.
func inWindow(body ledger.Recover, now time.Time, skew uint64) error {
	at := uint64(now.UnixMilli())
	switch {
	case body.Until == 0:
		return refuseRecovery("it does not say until when it may be applied: make a new plan")
	case body.At > at+skew:
		return refuseRecovery("it is dated %d s ahead of this clock: set the clock", (body.At-at)/1000)
	case at > body.Until+skew:
		return refuseRecovery("it expired %d s ago by this clock: make a new plan", (at-body.Until)/1000)
	}
	return nil
}

// verify derives the state at the head from the history, checking every
// signature again, and applies the recovery to it. It gives the seal that the
// snapshot stands on, and the state after.
func (d *data) verify(ctx context.Context, o RecoverOptions, body ledger.Recover, statements []*ledger.Statement) (*sealedState, *fsm.State, error) {
	size := body.Head.Size
	state, old, verifier, err := d.replay(ctx, size, o.Progress)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	if err := inWindow(body, o.Now(), state.Policy().MaxSkewMillis); err != nil {
		return nil, nil, err
	}
	me, ok := state.Replica(o.Name)
	if !ok || me.Server() != ledger.Hash(o.Key.ID()) {
		return nil, nil, refuseRecovery("the ledger does not know %s with this key", o.Name)
	}
	if !slices.Contains(body.Keep, o.Name) {
		return nil, nil, refuseRecovery("the recovery does not keep %s", o.Name)
	}
	if err := d.holdsKey(me); err != nil {
		return nil, nil, err
	}
	next, result := fsm.Apply(state, recoveryCommand(body, statements), verifier)
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return nil, nil, refuseRecovery("the %s of %s: %s: %s", statements[i].Payload.Type, statements[i].Payload.Author, v.Code, v.Detail)
		}
	}
	if next.Meta().Generation != body.Generation {
		return nil, nil, refuseRecovery("the statements do not open generation %d", body.Generation)
	}
	return d.sealedAt(state, old, size, next)
}

// holdsKey checks that the secret of the key under which the head knows this replica
// is still here, if it rotated to that: without it, the replica would halt at once.
func (d *data) holdsKey(me fsm.ReplicaRecord) error {
	key := me.KeyID()
	if key == me.Server() {
		return nil // the configured one
	}
	var record ringRecord
	if _, err := d.files.readChecked(ringName(me.Server()), &record); err != nil {
		return err
	}
	held := func(k ringKey) bool { return k.id() == key && k.File != "" && d.files.has(k.File) }
	if slices.ContainsFunc(record.Keys, held) {
		return nil
	}
	return refuseRecovery("the head knows %s under key %s, to which it rotated, and whose secret is not here (any more). Let this replica start empty, as a new one", me.Name, key)
}

func (d *data) sealedAt(state *fsm.State, old ledger.Authority, size uint64, next *fsm.State) (*sealedState, *fsm.State, error) {
	raw, err := d.archive.Entry(size - 1)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	before, err := d.archive.Frontier(size - 1)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	return &sealedState{head: d.certified.Head, state: state, entry: raw, stamp: state.Stamp(), before: before,
		old: old, authority: state.Authority(), note: d.note}, next, nil
}

func recoveryCommand(body ledger.Recover, statements []*ledger.Statement) *ledger.Command {
	c := &ledger.Command{Kind: ledger.CommandStatements, Stamp: body.At}
	for _, s := range statements {
		c.Statements = append(c.Statements, s.Envelope)
	}
	return c
}
