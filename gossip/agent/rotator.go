package agent

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// rotator rotates this node's key ahead of its end, by the plan of the ring, and takes
// into use what people and the ledger decided about it. One goroutine runs it.
type rotator struct {
	agent   *Agent
	backups *backups
	again   time.Time     // when backups are looked after again, after a failure
	step    keyStep       // that was done last
	pause   time.Duration // after a failure or an answer that did not come
	resume  time.Time     // when step may be done again
	from    time.Time     // when it may rotate that could not when it was due
	sweep   time.Time     // when files may be destroyed again, after one could not
	due     uint64        // one more than valid_to of the key that from is of; 0: of none
}

func newRotator(a *Agent) *rotator { return &rotator{agent: a, backups: newBackups(a)} }

// run does the next step whenever the view changes, time comes, or a pause is over.
func (r *rotator) run(ctx context.Context) error {
	for {
		changed := r.agent.changed.wait()
		wait := r.next(ctx, time.Now())
		if wait == 0 && ctx.Err() == nil {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next does what is to be done now and says when to look again; 0: at once.
func (r *rotator) next(ctx context.Context, now time.Time) time.Duration {
	view := r.agent.view.Load().certified
	if view == nil {
		return keysEvery
	}
	me, ok := view.State.Node(r.agent.config.Name)
	if !ok {
		return keysEvery
	}
	f, wait := r.facts(view, &me, now)
	step := r.agent.keyring.ring.plan(f)
	if step != r.step {
		r.step, r.pause, r.resume = step, 0, time.Time{}
	}
	if step == keyRest || step == keyAnnounce {
		// R3: a successor has its backup before anybody hears of it, unless none can be had.
		if did, failed := r.keep(view, &me, now); did && !failed {
			return 0
		} else if step == keyRest {
			return wait
		}
	}
	if now.Before(r.resume) {
		return r.resume.Sub(now)
	}
	again, err := r.act(ctx, step, view, &me, f)
	if err != nil {
		r.agent.logger.Warn("the node's key was not taken care of", "step", step.String(), "error", err)
		r.agent.metrics.rotated("failed")
		err = fmt.Errorf("%s: %w", step, err)
	}
	r.agent.trouble.set(troubleRotation, err)
	if again && err == nil {
		r.step = keyRest
		return 0
	}
	r.pause = min(max(2*r.pause, retryFirst), retryMost)
	wait = r.pause/2 + rand.N(r.pause)
	r.resume = now.Add(wait)
	return wait
}

// keep does what is next about backups, if a backup can be recorded at all.
func (r *rotator) keep(view *certified, me *fsm.NodeRecord, now time.Time) (did, failed bool) {
	a := r.agent
	if view.State.Meta().Format < ledger.KeysFormat || view.State.Meta().Frozen != "" || me.Standing != fsm.NodeActive || me.Revoked ||
		a.stale(now) || now.Before(r.again) || a.identity.Load().seqs.Trouble(view.State.Epoch()) != nil {
		return false, false
	}
	did, err := r.backups.next(view.State, me, now)
	if err != nil {
		r.again = now.Add(retryMost)
		a.logger.Warn("a backup of the node's key was not taken care of", "error", err)
		a.trouble.set(troubleBackup, err)
	}
	return did, err != nil
}

// act does a step, and reports whether another may follow at once.
func (r *rotator) act(ctx context.Context, step keyStep, view *certified, me *fsm.NodeRecord, f *keyFacts) (again bool, err error) {
	ring := r.agent.keyring
	defer r.use()
	switch step {
	case keyMake:
		known := func(id ledger.Hash) bool { _, known := view.State.Key(id); return known }
		err := ring.make(r.fresh, known)
		if err == nil {
			r.agent.logger.Info("a successor to the node's key was made", "key", ring.ring.Next.String())
		}
		return true, err
	case keyAnnounce:
		err := ring.announce(func(next *keys.File) ([]byte, error) { return r.announcement(view, me, next) })
		if err == nil {
			r.agent.logger.Info("the node's key is announced", "key", ring.ring.Next.String(), "epoch", f.Epoch)
		}
		return true, err
	case keySend:
		return r.send(ctx)
	case keyTurn:
		err := ring.turn(me.Key, me.ValidFrom, f.Generation)
		if err == nil {
			r.agent.metrics.rotated("done")
			r.agent.logger.Info("the node's key changed", "key", me.Key.String(), "from", me.ValidFrom, "to", me.ValidTo)
		}
		return true, err
	case keyDrop:
		return true, errors.Join(fmt.Errorf("the ledger will not have %s follow the node's key: another is made", ring.ring.Next), ring.drop(f.Epoch))
	case keyAdopt:
		return r.adopt(me, f.Generation)
	case keyForeign:
		return r.foreign(me, f.Epoch)
	case keyDestroy:
		gone, err := ring.destroy(f.Lapsed)
		for _, id := range gone {
			r.agent.logger.Info("the file of a key that ended was destroyed", "key", id.String())
		}
		if err != nil {
			r.sweep = time.Now().Add(keysEvery)
		}
		return true, err
	case keyNote:
		return true, ring.write(ring.ring.noted(f.Generation))
	case keyBack:
		return r.back(me, f)
	}
	return false, nil
}

// back takes a former key into use again, since the ledger went on from a head at which it
// was in force.
func (r *rotator) back(me *fsm.NodeRecord, f *keyFacts) (again bool, err error) {
	left := r.agent.keyring.ring.Active
	done, err := r.agent.keyring.back(me.Key, f.Next, f.Epoch, f.Generation)
	if done && err == nil {
		r.agent.logger.Warn("the ledger went on from before the node's key changed: the former one is in use again",
			"key", me.Key.String(), "left", left.String(), "generation", f.Generation)
	}
	return true, err
}

// use gives the agent the keys that the ring has now.
func (r *rotator) use() {
	a := r.agent
	a.identity.Store(newIdentity(a.keyring, a.identity.Load().seqs))
}

// facts is what the certified view says of our key, and when to look again if that
// leaves nothing to do.
func (r *rotator) facts(view *certified, me *fsm.NodeRecord, now time.Time) (*keyFacts, time.Duration) {
	a := r.agent
	meta := view.State.Meta()
	f := &keyFacts{Epoch: meta.Epoch, Generation: meta.Generation, Current: me.Key, ValidFrom: me.ValidFrom}
	if me.Next != nil {
		f.Next = &me.Next.Key
	}
	policy := view.State.Policy()
	rules := policy.KeyRules()
	stale := a.stale(now)
	f.Lapsed = func(k *ringKey) bool { return !stale && !now.Before(r.sweep) && lapsed(view.State, &rules, k) }
	if next := a.keyring.ring.Next; next != nil && !stale && (me.Next == nil || me.Next.Key != *next) && me.Key != *next {
		_, f.Taken = view.State.Key(*next)
	}
	a.trouble.set(troubleKey, cmp.Or(r.lost(&meta, me, stale), r.ends(&meta, &rules, me)))
	if meta.Format < ledger.KeysFormat || a.config.Rotation.Off {
		return f, keysEvery
	}
	f.Able = me.Standing != fsm.NodeExcluded && !me.Revoked && me.ValidFrom <= f.Epoch && f.Epoch <= me.ValidTo &&
		!stale && a.identity.Load().seqs.Trouble(f.Epoch) == nil
	if said := a.keyring.ring.Said; said != nil {
		st, err := ledger.ParseStatement(said)
		f.Said = err == nil && st.KeyID == me.Key && st.Payload.Generation == f.Generation && *st.Payload.Epoch+1 >= f.Epoch
	}
	at := r.time(view, me, &rules)
	f.Due = f.Epoch+rules.RotateEpochs > me.ValidTo && f.Next == nil && !now.Before(at)
	if f.Due && f.Able && a.keyring.ring.Next == nil && r.behind(me, &meta, policy.EpochMillis, at, now) {
		f.Due = false
		return f, max(r.from.Sub(now), time.Millisecond)
	}
	wait := keysEvery
	if now.Before(at) {
		wait = min(wait, at.Sub(now))
	}
	return f, wait
}

// time is when our key is due to be rotated; far away as long as its epoch has not begun.
func (r *rotator) time(view *certified, me *fsm.NodeRecord, rules *ledger.Keys) time.Time {
	meta := view.State.Meta()
	due := gossip.RotationDue(r.agent.genesis, me.Name, me.Ordinal, me.ValidTo, rules.RotateEpochs, rules.LateEpochs)
	switch {
	case meta.Epoch > due.Epoch:
		return time.Time{}
	case meta.Epoch < due.Epoch:
		return time.Now().Add(keysEvery)
	}
	return time.UnixMilli(int64(meta.EpochStart + view.State.Policy().EpochMillis*due.At/10_000))
}

// behind reports whether to wait still: who could not rotate at its time does so at a
// random one soon after it can, since others could not either.
func (r *rotator) behind(me *fsm.NodeRecord, meta *fsm.Meta, epochMillis uint64, at, now time.Time) bool {
	if r.due == me.ValidTo+1 {
		return now.Before(r.from)
	}
	r.due, r.from = me.ValidTo+1, now
	begun := time.UnixMilli(int64(meta.EpochStart))
	if at.IsZero() || at.Before(begun) {
		r.from = now.Add(rand.N(min(behindDelay, time.Duration(epochMillis)*time.Millisecond/8)))
	}
	return now.Before(r.from)
}

// lost says why this node cannot sign under the key that is in force, or nil. What is stale
// may be old, and no cause for alarm.
func (r *rotator) lost(meta *fsm.Meta, me *fsm.NodeRecord, stale bool) error {
	k, ring := r.agent.keyring, r.agent.keyring.ring
	const help = "restore it from its backup, or have the node re-keyed by decision: quorate agent rekey"
	left, known := ring.left(meta.Generation), ring.find(me.Key) != nil
	switch {
	case !stale && ring.Generation != nil && meta.Generation < *ring.Generation:
		return fmt.Errorf("what is shown of the ledger is of generation %d, and this node's key was in force in generation %d: ask other servers", meta.Generation, *ring.Generation)
	case left && known && ring.index(me.Key) < ring.index(ring.Line):
		return fmt.Errorf("the ledger went on from an earlier head, as generation %d, and has the key %s in force, which people had replaced: have the node re-keyed by decision again: quorate agent rekey", meta.Generation, me.Key)
	case left && known && !k.has(me.Key, meta.Generation):
		return fmt.Errorf("the ledger went on from an earlier head, as generation %d, and has the node's former key %s in force, whose file is not here any more: %s", meta.Generation, me.Key, help)
	case !k.has(me.Key, meta.Generation):
		return fmt.Errorf("the ledger has the key %s in force, whose file is not here: %s", me.Key, help)
	case !stale && ring.Generation == nil && meta.Generation > 0 && ring.former(me.Key):
		return fmt.Errorf("the ledger, which went on from an earlier head as generation %d, has the node's former key %s in force, and nothing here tells since when: if that stays so, have the node re-keyed by decision: quorate agent rekey", meta.Generation, me.Key)
	}
	return nil
}

// gone reports whether a key was this node's, and its file is not here any more.
func (r *rotator) gone(id ledger.Hash) bool {
	of := r.agent.keyring.ring.find(id)
	return of != nil && of.Gone
}

// ends says what is wrong with a key that is in force, or nil.
func (r *rotator) ends(meta *fsm.Meta, rules *ledger.Keys, me *fsm.NodeRecord) error {
	next := r.agent.keyring.ring.Next
	switch {
	case me.Revoked:
		return errors.New("the node's key is revoked: have the node re-keyed by decision: quorate agent rekey")
	case me.Next != nil && r.gone(me.Next.Key):
		return fmt.Errorf("the ledger has %s follow the node's key, whose file is not here any more: have the node re-keyed by decision: quorate agent rekey", me.Next.Key)
	case me.Next != nil && (next == nil || *next != me.Next.Key):
		return fmt.Errorf("somebody else announced %s as the key that follows the node's: whoever did holds its key; have the council revoke it", me.Next.Key)
	case meta.Epoch > me.ValidTo:
		return fmt.Errorf("the node's key ended with epoch %d: have the node re-keyed by decision: quorate agent rekey", me.ValidTo)
	case meta.Format >= ledger.KeysFormat && me.Next == nil && me.ValidTo-meta.Epoch < rules.LateEpochs:
		return fmt.Errorf("the node's key ends with epoch %d and has no successor on the ledger yet", me.ValidTo)
	}
	return nil
}

// lapsed reports whether a key that ended is of no more use here: nobody may need what
// it could open or sign, or its backup has it. One that the ledger does not know may
// still be announced by others, for as long as what announced it is taken.
func lapsed(s *fsm.State, rules *ledger.Keys, k *ringKey) bool {
	record, known := s.Key(k.ID)
	if !known {
		return s.Epoch() > *k.Ended+s.Policy().GraceEpochs+1
	}
	if record.Ended == "" && !record.Revoked {
		return false // the ledger has it in force, whatever we thought
	}
	epoch, ended := s.Epoch(), *k.Ended
	if record.ValidTo != nil {
		ended = *record.ValidTo
	}
	if epoch <= ended+s.Policy().GraceEpochs+1 {
		return false
	}
	backup, kept := s.Backup(k.ID)
	return kept && k.Backup != nil && backup.Ciphertext == *k.Backup ||
		record.RevokedFrom != nil || // a key that was stolen is not kept
		epoch > ended+rules.RetentionEpochs
}

// fresh makes a new key, in the manner of the one in force.
func (r *rotator) fresh() (*keys.File, error) {
	key, err := keys.Generate()
	if err != nil {
		return nil, err
	}
	f := &keys.File{Name: r.agent.config.Name, Role: fsm.RoleNode, Created: time.Now().UnixMilli(), Key: key}
	if old := r.agent.keyring.held[r.agent.keyring.ring.Active]; old != nil {
		f.Operator, f.Identity = old.Operator, old.Identity
	}
	return f, nil
}

// errMoved says that the ledger went on while a statement was signed: it is signed anew.
var errMoved = errors.New("the ledger went on meanwhile")

// announcement signs what announces the successor: with the key in force, and with
// proofs that its keys are at hand.
func (r *rotator) announcement(view *certified, me *fsm.NodeRecord, next *keys.File) ([]byte, error) {
	meta := view.State.Meta()
	peer := next.Key.PeerKey()
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Public: next.Key.Public().Bytes()}
	m := ledger.RotationMessage(ledger.Branch(r.agent.genesis, meta.Generation), me.Key, me.Name, body)
	body.Proof, body.PeerProof = next.Key.Sign(m), ed25519.Sign(peer, m)
	st, err := r.agent.out.sign(ledger.TypeRotate, func(uint64) any { return body })
	if err != nil {
		return nil, err
	}
	if st.KeyID != me.Key || st.Payload.Generation != meta.Generation {
		return nil, errMoved
	}
	return st.Envelope, nil
}

// send brings the announcement to the ledger, and to others, who relay it for a node
// that reaches no replica. The view shows when it was taken.
func (r *rotator) send(ctx context.Context) (again bool, err error) {
	a := r.agent
	st, err := ledger.ParseStatement(a.keyring.ring.Said)
	if err != nil {
		return false, err
	}
	a.judge.own(st, nil)
	a.out.gossip(st)
	if a.client == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	_, err = a.client.Submit(ctx, [][]byte{st.Envelope}, client.WaitCommitted)
	var problem *client.Problem
	switch {
	case err == nil:
		a.metrics.submitted(ledger.TypeRotate, "accepted")
		return false, nil
	case !errors.As(err, &problem) || problem.Status >= http.StatusInternalServerError || problem.Status == http.StatusTooManyRequests:
		return false, nil // it is tried again, and others bring it
	}
	// A refusal is one replica's word: the successor is kept until the certified view says
	// that it cannot follow, since others may have brought the announcement.
	a.metrics.submitted(ledger.TypeRotate, problem.Code)
	return false, fmt.Errorf("a replica refused the rotation for now: %s", problem.Code)
}

// adopt takes into use a key that people made and the ledger put in force.
func (r *rotator) adopt(me *fsm.NodeRecord, generation uint64) (again bool, err error) {
	a := r.agent
	f, name, err := a.keyring.waiting(me.Key)
	if f == nil {
		return false, err
	}
	// The record first: a key of one line never takes a seq of another.
	seqs, err := a.openSeqs(me.Key)
	if err != nil {
		return false, err
	}
	if err := a.keyring.adopt(f, name, me.ValidFrom, generation); err != nil {
		return false, err
	}
	a.identity.Store(newIdentity(a.keyring, seqs))
	a.out.fresh()
	a.logger.Info("the node's key is another by decision", "key", me.Key.String(), "from", me.ValidFrom)
	return true, nil
}

// foreign looks whether the successor that the ledger has is ours after all: the ring
// may have been lost. If not, somebody else holds our key, and trouble says so.
func (r *rotator) foreign(me *fsm.NodeRecord, epoch uint64) (again bool, err error) {
	return r.agent.keyring.recall(me.Next.Key, epoch)
}
