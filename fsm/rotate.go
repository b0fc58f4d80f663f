package fsm

import (
	"crypto/ed25519"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// rotate is the statement key.rotate: the key that speaks announces its successor.
func (t *transition) rotate(st *ledger.Statement, a author) *problem {
	body, err := ledger.DecodeBody[ledger.Rotate](st)
	if err != nil {
		return fromStatementError(err)
	}
	switch a.role {
	case RoleNode:
		return t.rotateNode(st, a.node, &body)
	case RoleReplica:
		return t.rotateReplica(st, a, &body)
	}
	return refuse(WrongRole, "author", fmt.Sprintf("key.rotate is for a node or replica, %s is a %s", a.name, a.role))
}

// rotateNode takes a node's next key. A quarantined node may rotate: its quarantine
// is not to turn into an expiry. A freeze leaves it open.
func (t *transition) rotateNode(st *ledger.Statement, n *NodeRecord, body *ledger.Rotate) *problem {
	if n.Standing == NodeExcluded {
		return refuse(NodeIsExcluded, "author", n.Reason)
	}
	if p := checkPayload(st, ledger.MaxRotateBytes); p != nil {
		return p
	}
	// No grace: whoever missed the end of its key is re-keyed by decision.
	epoch, now := *st.Payload.Epoch, t.meta.Epoch
	if st.KeyID != n.Key || epoch < n.ValidFrom || max(epoch, now) > n.ValidTo {
		return refuse(KeyExpired, "epoch", fmt.Sprintf("the key of %s that rotates is valid from epoch %d to %d", n.Name, n.ValidFrom, n.ValidTo))
	}
	if p := t.checkSeq(st); p != nil {
		return p
	}
	if n.Next != nil {
		return refuse(RotationPending, "", fmt.Sprintf("the next key of %s speaks from epoch %d on", n.Name, n.Next.From))
	}
	if rules := t.policy.KeyRules(); now+rules.RotateEpochs <= n.ValidTo {
		return refuse(RotationEarly, "", fmt.Sprintf("the key of %s may be rotated from epoch %d on", n.Name, n.ValidTo+1-rules.RotateEpochs))
	}
	if err := body.Check(false); err != nil {
		return fromStatementError(err)
	}
	if p := t.checkNext(st, n.Name, body); p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	next := *n
	next.Next = &NextKey{From: min(now+2, n.ValidTo+1), Key: body.KeyID(), Peer: body.Peer, Public: body.Public, Seq: seq}
	t.put(tableNode+n.Name, &next)
	t.succeed(n.Key, next.Next.Key, RoleNode, next.Next.From, seq)
	return nil
}

// checkNext checks a key that is to follow, and that whoever announces it has it.
func (t *transition) checkNext(st *ledger.Statement, name string, body *ledger.Rotate) *problem {
	if _, taken := t.Key(body.KeyID()); taken {
		return refuse(KeyTaken, "body.public", "the key has or had a role")
	}
	message := ledger.RotationMessage(ledger.Branch(t.meta.Ledger, t.meta.Generation), st.KeyID, name, *body)
	if !t.possesses(body.Public, message, body.Proof) {
		return refuse(BadProof, "body.proof", "it does not verify under the new key")
	}
	if len(body.Peer) > 0 && !ed25519.Verify(body.Peer, message, body.PeerProof) {
		return refuse(BadProof, "body.peer_proof", "it does not verify under the new peer key")
	}
	return nil
}

// possesses verifies a proof of possession, unless a shell has done so.
func (t *transition) possesses(public, message, proof []byte) bool {
	if p, ok := t.verify.(Possessor); ok {
		return p.Possesses(public, message, proof)
	}
	key, err := keys.ParsePublicKey(public)
	return err == nil && key.Verify(message, proof)
}

// succeed writes a rotation into the records of both keys.
func (t *transition) succeed(old, next ledger.Hash, role string, from, seq uint64) {
	t.changeKey(old, func(k *KeyRecord) { k.Next = &next })
	holder, _ := t.Key(old)
	t.put(keyOf(next), &KeyRecord{
		Holder: holder.Holder, How: KeyRotated, Previous: &old, Role: role, Said: t.meta.Epoch, Since: seq, ValidFrom: from,
	})
}

// takeEffect puts the next keys of nodes into force whose epoch has come, and says
// how many. It comes before the epoch's digest of keys.
func (t *transition) takeEffect() (rotated uint64) {
	if !t.rotates() {
		return 0
	}
	var due []*NodeRecord
	each(&t.view, tableNode, func(_ string, n *NodeRecord) bool {
		if n.Next != nil && n.Next.From <= t.meta.Epoch {
			due = append(due, n)
		}
		return true
	})
	for _, n := range due {
		last := n.Next.From - 1
		t.changeKey(n.Key, func(k *KeyRecord) {
			if !k.Revoked { // else nothing under it is taken
				t.endKey(k, n.Key, KeyRotated, last)
				t.keepOld(n.Key, &OldKeyRecord{From: n.ValidFrom, Holder: n.Name, Peer: n.Peer, Public: n.Public, Role: RoleNode, To: last})
			}
		})
		next := *n
		next.Key, next.Peer, next.Public = n.Next.Key, n.Next.Peer, n.Next.Public
		next.ValidFrom, next.ValidTo = n.Next.From, t.meta.Epoch+t.policy.KeyEpochs
		next.Next, next.Revoked = nil, false
		t.put(tableNode+n.Name, &next)
	}
	return uint64(len(due))
}

// extendPassedOver lengthens the keys of nodes that were in force in the last epoch
// by the epochs that nobody could speak in, after elapsed of them: or a ledger that
// had no quorum for long would wake to a fleet whose keys have all expired.
func (t *transition) extendPassedOver(last, elapsed uint64) {
	if !t.rotates() || elapsed < 2 {
		return
	}
	var valid []*NodeRecord
	each(&t.view, tableNode, func(_ string, n *NodeRecord) bool {
		if n.ValidFrom <= last && last <= n.ValidTo {
			valid = append(valid, n)
		}
		return true
	})
	for _, n := range valid {
		next := *n
		next.ValidTo += elapsed - 1
		t.put(tableNode+n.Name, &next)
	}
}

// rotateReplica takes an active replica's next keys, which are in force at once; the
// next seal is a handover. A replica's key does not expire, or a ledger that nobody
// looked after for long could certify nothing any more.
func (t *transition) rotateReplica(st *ledger.Statement, a author, body *ledger.Rotate) *problem {
	r, ok := lookup[ReplicaRecord](&t.view, tableReplica+a.name)
	invariant(ok, "a replica's key has its replica")
	if r.Standing != ReplicaActive {
		return refuse(WrongRole, "author", fmt.Sprintf("%s is %s", r.Name, r.Standing))
	}
	if p := checkPayload(st, ledger.MaxReplicaRotateBytes); p != nil {
		return p
	}
	old := r.KeyID()
	if st.KeyID != old {
		return refuse(KeyExpired, "author", fmt.Sprintf("this key of %s was rotated out", r.Name))
	}
	if p := t.checkSeq(st); p != nil {
		return p
	}
	if t.pending {
		return refuse(HandoverPending, "", "a handover waits for its seal")
	}
	// Or one replica that rotates at every seal would keep handovers from all else: so
	// at most once an epoch, whatever the policy.
	if rules := t.policy.KeyRules(); rules.ReplicaKeyEpochs == 0 || t.meta.Epoch < r.KeyEpoch+(rules.ReplicaKeyEpochs+1)/2 {
		return refuse(RotationEarly, "", fmt.Sprintf("%s got its key in epoch %d", r.Name, r.KeyEpoch))
	}
	if err := body.Check(true); err != nil {
		return fromStatementError(err)
	}
	for _, other := range t.Replicas() {
		if other.TLSPin == body.TLSPin {
			return refuse(PeerTaken, "body.tls_pin", fmt.Sprintf("%s has this TLS pin", other.Name))
		}
	}
	if p := t.checkNext(st, r.Name, body); p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	epoch := t.meta.Epoch
	t.succeed(old, body.KeyID(), RoleReplica, epoch, seq)
	t.changeKey(old, func(k *KeyRecord) { t.endKey(k, old, KeyRotated, epoch) })
	t.keepOld(old, &OldKeyRecord{From: r.KeyEpoch, Holder: r.Name, Public: r.Public, Role: RoleReplica, To: epoch})
	next, server := *r, r.Server()
	next.ServerID, next.KeyEpoch = &server, epoch
	next.Public, next.Cosigner, next.TLSPin = body.Public, body.Cosigner, body.TLSPin
	t.put(tableReplica+r.Name, &next)
	t.appendEffect(EffectRotated, &RotatedEffect{Key: body.KeyID(), Name: r.Name, Old: old}, seq)
	t.noteAuthority([]uint64{seq})
	return nil
}

// ofKeys are the statements of keys, from format 3 on.
func (t *transition) ofKeys(st *ledger.Statement, a author) *problem {
	if !t.rotates() {
		return refuse(FormatTooLow, "type", fmt.Sprintf("%s is of format %d", st.Payload.Type, ledger.KeysFormat))
	}
	switch st.Payload.Type {
	case ledger.TypeBackup:
		return t.backup(st, a)
	case ledger.TypeRestoreTest:
		return t.restoreTest(st, a)
	case ledger.TypeDestroy:
		return t.destroy(st, a)
	}
	return t.rotate(st, a)
}
