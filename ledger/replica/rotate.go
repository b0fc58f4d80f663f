package replica

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// How a replica rotates its own key, step by step (DESIGN.md, "Its own rotation").

// Rotation is what a replica's own rotation needs; its zero value rotates, and
// keeps the keys in plain files.
type Rotation struct {
	Off        bool                   // make no new key; what has begun is ended
	Passphrase func() ([]byte, error) // of the key files; nil: they are not encrypted
	WorkFactor int                    // scrypt's, of the key files; 0: the default of package keys
}

func (r Rotation) passphrase() ([]byte, error) {
	if r.Passphrase == nil {
		return nil, errors.New("the key file is encrypted, and no passphrase is given")
	}
	return r.Passphrase()
}

// rotateLoop takes the next step whenever there is one.
func (r *Replica) rotateLoop(ctx context.Context) error {
	var showAt time.Time // when the new certificate is shown first; zero: it is, or there is none
	failures := 0        // in a row
	for ctx.Err() == nil {
		changed := r.changed.wait()
		was := r.ring.Load().record.Active
		wait, err := r.rotateStep(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("rotate key", "error", err)
			wait, changed = afterFailures(failures), nil
			failures++
		} else {
			failures = 0
		}
		if r.ring.Load().record.Active != was {
			showAt = time.Now().Add(r.limits.PinLinger / 2)
		}
		if !showAt.IsZero() {
			if left := time.Until(showAt); left > 0 {
				wait = min(wait, left)
			} else {
				showAt = time.Time{}
				r.showCertificate()
			}
		}
		timer := time.NewTimer(jitter(max(wait, rotateLook)))
		select {
		case <-ctx.Done():
		case <-timer.C:
			timer.Stop()
			continue
		case <-changed:
		}
		timer.Stop()
		if !pause(ctx, rotateLook) { // more than one look in that time is of no use
			return nil
		}
	}
	return nil
}

// afterFailures is how long a step waits that failed, and so often before, whatever
// changes: a disk that refuses is not asked all the time.
func afterFailures(before int) time.Duration {
	return min(rotateRetry<<min(before, 8), rotateRetryMost)
}

// showCertificate shows the active key's certificate from now on. Peers take the
// one before for PinLinger after they applied the rotation, and this one since.
func (r *Replica) showCertificate() {
	r.wire.show(r.ring.Load().certificates())
	r.peers.client.CloseIdleConnections()
	r.log.Info("TLS key in use", "pin", r.ring.Load().active().pin.String())
}

// Certificate is what this replica shows its peers: also its API, unless that has
// one of its own. It changes with the key, so ask at each handshake.
func (r *Replica) Certificate() *tls.Certificate { return r.wire.own.Load().use }

// rotateStep takes one step, and says when to look again if nothing changes.
func (r *Replica) rotateStep(ctx context.Context) (time.Duration, error) {
	if r.halted() != nil || !r.caughtUp.Load() {
		return time.Minute, nil
	}
	if err := r.settleRing(); err != nil {
		return rotateRetry, err
	}
	g := r.ring.Load()
	state := r.shell.now.Load().state
	me, ok := state.Replica(r.cfg.Name)
	if !ok || me.Server() != r.id || me.Standing != fsm.ReplicaActive {
		return time.Minute, nil
	}
	next, key := g.next(), me.KeyID()
	switch {
	case !g.knows(key):
		r.halt(fmt.Sprintf("the ledger knows this replica under key %s, which is none of its own: older data, or its key is in other hands; re-key it (replica.rekey)", key))
		return time.Minute, nil
	case next != nil && key == next.id:
		return time.Minute, r.takeOver(state)
	case next != nil && key == g.record.Active && state.PendingHandover():
		return rotateRetry, nil // another's: ours would be refused
	case next != nil && key == g.record.Active:
		return rotateRetry, r.announce(ctx, state)
	case key != g.record.Active:
		return time.Minute, r.takeBack(key)
	}
	failed := errors.Join(r.sweepKeys(), r.retireKeys())
	switch {
	case !r.cfg.Rotation.Off && r.inUse(g) && r.rotationDue(state, me):
		return rotateLook, r.prepareKey(state) // also with files that can't be destroyed
	case failed != nil:
		return rotateRetry, failed
	case !r.swept:
		return time.Minute, nil
	}
	return time.Minute, r.sayDestroyed(ctx, state)
}

// rotationDue says whether this replica makes a new key now: its key is due, and
// no handover is on its way, so that one replica rotates at a time.
func (r *Replica) rotationDue(state *fsm.State, me fsm.ReplicaRecord) bool {
	policy := state.Policy()
	period := policy.KeyRules().ReplicaKeyEpochs
	return state.Meta().Format >= ledger.KeysFormat && period > 0 && !state.PendingHandover() &&
		state.Epoch() >= replicaRotation(r.genesis, me, period)
}

// replicaRotation is the epoch in which a replica rotates a key: in the last eighth
// of the period that the policy gives it, at a place that is drawn by its name, so
// that replicas whose keys are of one age do not crowd.
func replicaRotation(genesis ledger.Hash, me fsm.ReplicaRecord, period uint64) uint64 {
	slots := max(1, period/8)
	drawn := sha256.New()
	drawn.Write([]byte("quorate/rotation/v1\n\x00"))
	drawn.Write(genesis[:])
	drawn.Write([]byte(me.Name))
	drawn.Write([]byte{0})
	drawn.Write(binary.BigEndian.AppendUint64(nil, me.KeyEpoch))
	slot := binary.BigEndian.Uint64(drawn.Sum(nil)) % slots
	return max(me.KeyEpoch+1, me.KeyEpoch+period-slots+slot) // never again in the epoch in which it rotated
}

// prepareKey makes the next key, and the statement that announces it, durable. What
// fails on the way leaves no secret behind, since it is tried again and again.
func (r *Replica) prepareKey(state *fsm.State) error {
	seq, err := r.reserveSeq(state.Epoch())
	if err != nil {
		return err
	}
	made, file, err := r.newKey()
	if err != nil {
		return err
	}
	g := r.ring.Load()
	record := g.record
	key := made.public()
	key.File = file
	record.Keys = append(slices.Clone(record.Keys), key)
	if drop := len(record.Keys) - maxRing; drop > 0 {
		record.Keys = slices.DeleteFunc(record.Keys, func(k ringKey) bool {
			if drop > 0 && k.Ended != nil && k.File == "" && k.id() != record.Line {
				drop--
				return true
			}
			return false
		})
	}
	record.Next = &made.id
	if record.Said, err = r.announcement(state, seq, g.active(), made); err != nil {
		return errors.Join(err, r.dropFile(file))
	}
	if err := r.changeRing(g.with(record, made)); err != nil {
		return errors.Join(err, r.dropUnnamed(made.id, file))
	}
	// Crash here: the statement is sent at the next start.
	r.log.Info("next key made", "key", made.id.String())
	return r.cfg.Hooks.rotation("ring")
}

// announcement is the key.rotate statement: the old key signs, the new one proves
// that it is here. The seq is reserved in the state's epoch.
func (r *Replica) announcement(state *fsm.State, seq uint64, old, made *identity) ([]byte, error) {
	body := ledger.Rotate{Cosigner: made.c44.Public(), Public: made.key.Public().Bytes(), TLSPin: made.pin}
	body.Proof = made.key.Sign(ledger.RotationMessage(ledger.Branch(r.genesis, state.Meta().Generation), old.id, r.cfg.Name, body))
	return r.sign(old, state, seq, ledger.TypeRotate, body)
}

// sign makes a statement of this replica, under a seq that is reserved in the state's
// epoch.
func (r *Replica) sign(as *identity, state *fsm.State, seq uint64, kind string, body any) ([]byte, error) {
	epoch := state.Epoch()
	payload := ledger.Payload{Author: r.cfg.Name, Epoch: &epoch, Seq: &seq, Generation: state.Meta().Generation, Ledger: r.genesis, Type: kind}
	return ledger.Sign(as.key, payload, body)
}

// announce brings the statement to the ledger: the very bytes that are kept, or a
// new one for the same key once those can't be accepted any more.
func (r *Replica) announce(ctx context.Context, state *fsm.State) error {
	g := r.ring.Load()
	if r.staleAnnouncement(state, g.record.Said) {
		if by := r.pinTaken(state, g.next()); by != "" {
			return r.giveUp("its TLS pin is that of " + by)
		}
		seq, err := r.reserveSeq(state.Epoch())
		if err != nil {
			return err
		}
		record := g.record
		if record.Said, err = r.announcement(state, seq, g.active(), g.next()); err != nil {
			return err
		}
		if err := r.changeRing(g.with(record)); err != nil {
			return err
		}
		g = r.ring.Load()
	}
	if err := r.cfg.Hooks.rotation("said"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	receipt, err := r.Submit(ctx, [][]byte{g.record.Said}, WaitCommitted)
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		return r.refusedRotation(rejected.Verdicts[0])
	}
	if err != nil {
		return err
	}
	r.log.Info("key rotated", "key", g.next().id.String(), "seq", receipt.Last)
	if err := r.cfg.Hooks.rotation("accepted"); err != nil {
		return err
	}
	return r.WaitApplied(ctx, receipt.Last)
}

// staleAnnouncement says whether a statement is of an epoch or a generation that
// is over.
func (r *Replica) staleAnnouncement(state *fsm.State, said []byte) bool {
	st, err := ledger.ParseStatement(said)
	return err != nil || st.Payload.Generation != state.Meta().Generation || *st.Payload.Epoch+1 < state.Epoch()
}

// refusedRotation goes by the reason of a refusal: a statement that came too late is
// made anew, and for the rest it waits. A key is given up only if our own state has
// it as another's: a leader may say anything, and accept the statement after all.
func (r *Replica) refusedRotation(v fsm.Verdict) error {
	g := r.ring.Load()
	record := g.record
	switch v.Code {
	case fsm.KeyTaken:
		state := r.shell.now.Load().state
		if _, taken := state.Record(keyTable + record.Next.String()); !taken {
			break
		}
		if me, ok := state.Replica(r.cfg.Name); ok && me.KeyID() == *record.Next {
			return nil // it is accepted
		}
		return r.giveUp(fmt.Sprintf("%s: %s", v.Code, v.Detail))
	case fsm.WrongEpoch, fsm.SeqUsed, fsm.SeqTooOld, fsm.QuotaExceeded, fsm.WrongGeneration:
		record.Said = nil
		return r.changeRing(g.with(record))
	}
	return fmt.Errorf("%s: %s", v.Code, v.Detail)
}

// pinTaken says who has the TLS pin of a key that we announced: a liar that read it in
// the statement and rotated to it, since nobody proves that it has a TLS key. It says so
// once none of our statements that named the pin can be taken any more, should the liar
// leave it again.
func (r *Replica) pinTaken(state *fsm.State, next *identity) (by string) {
	for _, one := range state.Replicas() {
		if one.Name != r.cfg.Name && one.TLSPin == next.pin && one.KeyEpoch+1 < state.Epoch() {
			return one.Name
		}
	}
	return ""
}

// giveUp forgets the next key, which the ledger will never take.
func (r *Replica) giveUp(why string) error {
	g := r.ring.Load()
	record := g.record
	at := slices.IndexFunc(record.Keys, func(k ringKey) bool { return k.id() == *record.Next })
	file := record.Keys[at].File
	record.Keys = slices.Delete(slices.Clone(record.Keys), at, at+1)
	record.Next, record.Said = nil, nil
	if err := r.changeRing(g.with(record)); err != nil {
		return err
	}
	// Crash here: after the next start the file is destroyed.
	r.log.Warn("the ledger does not take the next key; another is made", "why", why)
	return r.dropFile(file)
}

// takeOver makes the next key the active one, once the rotation is certified: until
// then the handover needs the signatures of both.
func (r *Replica) takeOver(state *fsm.State) error {
	sealed := r.shell.certified.Load()
	g := r.ring.Load()
	if sealed == nil {
		return nil
	}
	if me, ok := sealed.state.Replica(r.cfg.Name); !ok || me.KeyID() != *g.record.Next {
		return nil
	}
	record := g.record
	epoch := state.Epoch()
	record.Keys = slices.Clone(record.Keys)
	for i := range record.Keys {
		if record.Keys[i].id() == record.Active {
			record.Keys[i].Ended = &epoch
		}
	}
	record.Active, record.Next, record.Said = *record.Next, nil, nil
	if err := r.changeRing(g.with(record)); err != nil {
		return err
	}
	// Crash here: the next start shows the new certificate at once, which the peers
	// that certified the rotation take.
	r.log.Info("key in use", "key", record.Active.String())
	return r.cfg.Hooks.rotation("active")
}

// takeBack makes a former key the active one again, if the newest certified state
// names it: a recovery went on from a head before the rotation.
func (r *Replica) takeBack(key ledger.Hash) error {
	sealed, g := r.shell.certified.Load(), r.ring.Load()
	if sealed == nil {
		return nil
	}
	if me, ok := sealed.state.Replica(r.cfg.Name); !ok || me.KeyID() != key {
		return nil
	}
	if g.identity(key) == nil {
		r.halt(fmt.Sprintf("the ledger knows this replica under key %s, whose secret is destroyed; re-key it (replica.rekey)", key))
		return nil
	}
	record := g.record
	record.Keys = slices.Clone(record.Keys)
	ended := sealed.state.Epoch()
	for i := range record.Keys {
		switch record.Keys[i].id() {
		case key:
			record.Keys[i].Ended = nil
		case record.Active:
			record.Keys[i].Ended = &ended
		}
	}
	record.Active, record.Next, record.Said = key, nil, nil
	return r.changeRing(g.with(record))
}
