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
		if p := t.checkNode(st, a.node); p != nil {
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
	offender, p := t.author(exhibits[0])
	if p != nil {
		return nil, none, refuse(ProvesNothing, "body.exhibits[0]", p.detail)
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
