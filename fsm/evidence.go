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
	Key    string `json:"key"`
	Lapses uint64 `json:"lapses"`
	Seq    uint64 `json:"seq"` // of the evidence
}

func offenceOf(o *ledger.Offence) string {
	sum := sha256.Sum256([]byte(o.Key()))
	return tableOffence + hex.EncodeToString(sum[:])
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
	case a.role == RoleGovernor != byNonce:
		return refuse(BadField, "nonce", "a governor's evidence has a nonce and expires, that of a replica or node epoch and seq")
	case a.role == RoleRecovery:
		return refuse(WrongRole, "author", "evidence is not for a recovery holder")
	case a.node != nil:
		if p := t.checkNode(st, a.node); p != nil {
			return p
		}
	}
	if p := t.checkReplay(st, a); p != nil {
		return p
	}
	offence, p := t.proven(&body)
	if p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	if byNonce {
		t.useNonce(st, a.name, seq)
	} else {
		t.useSeq(st, seq)
	}
	t.put(offenceOf(offence), &OffenceRecord{
		Key: offence.Key(), Lapses: t.stamp + (evidenceEpochs+2)*t.policy.EpochMillis, Seq: seq,
	})
	t.convict(offence, seq)
	return nil
}

func (t *transition) checkReplay(st *ledger.Statement, a author) *problem {
	if st.Payload.Nonce != nil {
		return t.checkNonce(st, a.name)
	}
	return t.checkSeq(st)
}

// proven verifies the exhibits and says what they prove that is new.
func (t *transition) proven(body *ledger.Evidence) (*ledger.Offence, *problem) {
	exhibits := make([]*ledger.Statement, len(body.Exhibits))
	for i, envelope := range body.Exhibits {
		path := fmt.Sprintf("body.exhibits[%d]", i)
		x, err := ledger.ParseStatement(envelope)
		if err != nil {
			p := fromStatementError(err)
			return nil, refuse(ProvesNothing, path, p.detail)
		}
		if p := t.addressed(x); p != nil {
			return nil, refuse(ProvesNothing, path, p.detail)
		}
		exhibits[i] = x
	}
	quota := t.policy.Quota
	if ledger.SeqSpaceOf(exhibits[0].Payload.Type) == ledger.SpaceProbe {
		quota = t.policy.Protects().ProbeQuota
	}
	offence, err := ledger.Judge(body.Kind, exhibits, quota)
	if err != nil {
		return nil, refuse(ProvesNothing, "body.exhibits", err.Error())
	}
	if offence.Epoch+evidenceEpochs < t.meta.Epoch || offence.Epoch > t.meta.Epoch+1 {
		return nil, refuse(EvidenceTooOld, "body.exhibits", fmt.Sprintf("of epoch %d; it is epoch %d", offence.Epoch, t.meta.Epoch))
	}
	if _, known := lookup[OffenceRecord](&t.view, offenceOf(offence)); known {
		return nil, refuse(OffenceKnown, "body.exhibits", "this offence is on the ledger")
	}
	for i, x := range exhibits {
		offender, p := t.author(x)
		if p != nil {
			return nil, refuse(ProvesNothing, fmt.Sprintf("body.exhibits[%d]", i), p.detail)
		}
		if !t.verify.Verify(x, offender.public) {
			return nil, refuse(ProvesNothing, fmt.Sprintf("body.exhibits[%d]", i), "its signature does not verify")
		}
		if offender.node != nil && offender.node.Standing == NodeExcluded {
			return nil, refuse(NodeIsExcluded, "body.exhibits", fmt.Sprintf("%s is excluded already", offender.name))
		}
	}
	return offence, nil
}

// convict does what a proven offence costs. Replicas have no reputation: what
// is proven of one stands on the ledger, for the council to act on.
func (t *transition) convict(o *ledger.Offence, seq uint64) {
	n, ok := lookup[NodeRecord](&t.view, tableNode+o.Offender)
	if !ok {
		t.appendEffect(EffectOffence, &OffenceEffect{Kind: o.Kind, Name: o.Offender}, seq)
		return
	}
	switch o.Kind {
	case ledger.EvidenceEquivocation, ledger.EvidenceObservation:
		t.exclude(n, o.Kind, seq)
	default:
		t.punish(o.Offender, o.Kind, t.policy.Protects().MinorPoints, false, seq)
	}
}
