package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// OffenceRecord is the record "offence/HEX" of an offence that was proven, so
// that it is punished once. HEX is SHA-256 of the offence's key.
type OffenceRecord struct {
	Epoch  uint64 `json:"epoch"`
	Key    string `json:"key"`
	Lapses uint64 `json:"lapses"`
	Seq    uint64 `json:"seq"` // of the evidence
}

func offenceOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return tableOffence + hex.EncodeToString(sum[:])
}

// offenceKey is what an offence is known by. Nothing follows from a replica's
// offences but that they are known, so one of a kind is enough of each.
func offenceKey(o *ledger.Offence, role string) string {
	if role == RoleNode {
		return o.Key()
	}
	return fmt.Sprintf("%s/%s", o.KeyID, o.Kind)
}

// offenceLapses is when an offence is so old that no evidence of it is taken.
func (t *transition) offenceLapses(epoch uint64) uint64 {
	left := epoch + evidenceEpochs + 2 - min(t.meta.Epoch, epoch+evidenceEpochs+2)
	return t.meta.EpochStart + left*t.policy.EpochMillis
}

// evidence is the statement evidence: its exhibits prove an offence, whoever
// brings it.
func (t *transition) evidence(st *ledger.Statement, a author) *problem {
	if !t.protects() {
		return refuse(FormatTooLow, "type", fmt.Sprintf("%s is of format %d", st.Payload.Type, protectionFormat))
	}
	body, err := ledger.DecodeBody[ledger.Evidence](st)
	if err != nil {
		return fromStatementError(err)
	}
	if len(body.Public) > 0 && !t.rotates() {
		return refuse(UnknownField, "body.public", fmt.Sprintf("of format %d", ledger.KeysFormat))
	}
	if err := body.Check(); err != nil {
		return fromStatementError(err)
	}
	byNonce := st.Payload.Nonce != nil
	switch {
	case a.role == RoleRecovery:
		return refuse(WrongRole, "author", "evidence is not for a recovery holder")
	case (a.role == RoleGovernor) != byNonce:
		return refuse(BadField, "nonce", "a governor's evidence has a nonce and expires, that of a replica or node epoch and seq")
	case a.node != nil:
		if p := t.checkNode(st, a); p != nil {
			return p
		}
	}
	if p := t.checkReplay(st, a); p != nil {
		return p
	}
	offence, offender, p := t.proven(&body)
	if p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	if byNonce {
		t.useNonce(st, a.name, seq)
	} else {
		t.useSeq(st, seq)
	}
	key := offenceKey(offence, offender.role)
	t.put(offenceOf(key), &OffenceRecord{Epoch: offence.Epoch, Key: key, Lapses: t.offenceLapses(offence.Epoch), Seq: seq})
	t.convict(offence, offender, seq)
	return nil
}

func (t *transition) checkReplay(st *ledger.Statement, a author) *problem {
	if st.Payload.Nonce != nil {
		return t.checkNonce(st, a.name)
	}
	return t.checkSeq(st)
}

// proven verifies the exhibits and says what they prove of whom that is new.
func (t *transition) proven(body *ledger.Evidence) (*ledger.Offence, author, *problem) {
	none := author{}
	exhibits := make([]*ledger.Statement, len(body.Exhibits))
	for i, envelope := range body.Exhibits {
		path := fmt.Sprintf("body.exhibits[%d]", i)
		x, err := ledger.ParseStatement(envelope)
		if err != nil {
			return nil, none, refuse(ProvesNothing, path, fromStatementError(err).detail)
		}
		// A program of before can't read it: replicas of two releases must agree.
		if ledger.IsOfKeys(x.Payload.Type) && !t.rotates() {
			return nil, none, refuse(ProvesNothing, path, fmt.Sprintf("%s is of format %d", x.Payload.Type, ledger.KeysFormat))
		}
		// What was said in a generation before is an offence still.
		if x.Payload.Ledger != t.meta.Ledger || x.Payload.Generation > t.meta.Generation {
			return nil, none, refuse(ProvesNothing, path, "it is for another ledger or generation")
		}
		exhibits[i] = x
	}
	protection, quota := t.policy.Protects(), t.policy.Quota
	if ledger.SeqSpaceOf(exhibits[0].Payload.Type) == ledger.SpaceProbe {
		quota = protection.ProbeQuota
	}
	offence, err := ledger.Judge(body.Kind, exhibits, quota)
	if err != nil {
		return nil, none, refuse(ProvesNothing, "body.exhibits", err.Error())
	}
	if offence.Epoch+evidenceEpochs < t.meta.Epoch || offence.Epoch > t.meta.Epoch+1 {
		return nil, none, refuse(EvidenceTooOld, "body.exhibits", fmt.Sprintf("of epoch %d; it is epoch %d", offence.Epoch, t.meta.Epoch))
	}
	if offence.Kind == ledger.EvidenceFlood && offence.Epoch < t.protection().QuotaSince {
		return nil, none, refuse(ProvesNothing, "body.exhibits", fmt.Sprintf("the quota fell; floods are told from epoch %d on", t.protection().QuotaSince))
	}
	offender, p := t.offender(exhibits, body.Public)
	if p != nil {
		return nil, none, p
	}
	if offender.role != RoleNode && offender.role != RoleReplica {
		return nil, none, refuse(ProvesNothing, "body.exhibits[0]", "only nodes and replicas count their seqs")
	}
	if _, known := lookup[OffenceRecord](&t.view, offenceOf(offenceKey(offence, offender.role))); known {
		return nil, none, refuse(OffenceKnown, "body.exhibits", "this offence is on the ledger")
	}
	if offender.node != nil && offender.node.Standing == NodeExcluded {
		return nil, none, refuse(NodeIsExcluded, "body.exhibits", fmt.Sprintf("%s is excluded already", offender.name))
	}
	for i, x := range exhibits {
		if !t.verify.Verify(x, offender.public) {
			return nil, none, refuse(ProvesNothing, fmt.Sprintf("body.exhibits[%d]", i), "its signature does not verify")
		}
	}
	return offence, offender, nil
}

// offender is whose key the exhibits bear. A key that was rotated out still convicts,
// for the epochs in which it spoke, as long as its own rotations lead to the key in
// force: rotating is no way out. Its public half is in the evidence once the state
// has it no longer.
func (t *transition) offender(exhibits []*ledger.Statement, public []byte) (author, *problem) {
	st := exhibits[0]
	nothing := func(why string) (author, *problem) {
		return author{}, refuse(ProvesNothing, "body.exhibits[0]", why)
	}
	key, known := lookup[KeyRecord](&t.view, keyOf(st.KeyID))
	_, kept := lookup[OldKeyRecord](&t.view, oldKeyOf(st.KeyID))
	gone := known && key.Ended == KeyRotated && !key.Revoked && !kept
	if gone != (len(public) > 0) {
		return author{}, refuse(ProvesNothing, "body.public", "it is there exactly if the state has the key no longer")
	}
	if !gone {
		a, p := t.author(st)
		if p != nil {
			return nothing(p.detail)
		}
		if !kept {
			return a, nil
		}
	}
	if ledger.Hash(sha256.Sum256(public)) != st.KeyID && gone {
		return author{}, refuse(ProvesNothing, "body.public", "it is another key than that of the exhibits")
	}
	for _, x := range exhibits {
		if *x.Payload.Epoch > *key.ValidTo {
			return nothing(fmt.Sprintf("the key's last epoch was %d", *key.ValidTo))
		}
	}
	if key.Holder != st.Payload.Author {
		return nothing(fmt.Sprintf("the key was not %s's", st.Payload.Author))
	}
	a := author{name: key.Holder, role: key.Role, public: public}
	if old, ok := lookup[OldKeyRecord](&t.view, oldKeyOf(st.KeyID)); ok {
		a.public = old.Public
	}
	current := ledger.Hash{}
	if n, ok := lookup[NodeRecord](&t.view, tableNode+a.name); ok && key.Role == RoleNode {
		a.operator, a.node, current = n.Operator, n, n.Key
	} else if r, ok := lookup[ReplicaRecord](&t.view, tableReplica+a.name); ok && key.Role == RoleReplica {
		a.operator, current = r.Operator, r.KeyID()
	}
	if !t.leadsTo(st.KeyID, current) {
		return nothing(fmt.Sprintf("%s got another key by decision since, or is gone", a.name))
	}
	return a, nil
}

// convict does what a proven offence costs. Replicas have no reputation: what
// is proven of one stands on the ledger, for the council to act on.
func (t *transition) convict(o *ledger.Offence, offender author, seq uint64) {
	switch {
	case offender.node == nil:
		t.appendEffect(EffectOffence, &OffenceEffect{Kind: o.Kind, Name: o.Offender}, seq)
	case o.Kind == ledger.EvidenceEquivocation || o.Kind == ledger.EvidenceObservation:
		t.exclude(offender.node, o.Kind, false, seq)
	default:
		t.punish(o.Offender, o.Kind, t.policy.Protects().MinorPoints, false, seq)
	}
}
