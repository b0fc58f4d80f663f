package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// record is the statement record: a signed note, or a document's digest. It
// changes no state but the author's protection against replay.
func (t *transition) record(st *ledger.Statement, a author) *problem {
	size, err := st.RecordSize()
	if err != nil {
		return fromStatementError(err)
	}
	if p := checkRecord(size); p != nil {
		return p
	}
	byNonce := st.Payload.Nonce != nil
	switch a.role {
	case RoleGovernor:
		if !byNonce {
			return refuse(BadField, "nonce", "a governor's record has a nonce and expires")
		}
	case RoleReplica, RoleNode:
		if byNonce {
			return refuse(BadField, "seq", "a record of a replica or node has epoch and seq")
		}
	default:
		return refuse(WrongRole, "author", fmt.Sprintf("record is not for a %s", a.role))
	}
	if t.meta.Frozen != "" {
		return refuse(Frozen, "", t.meta.Frozen)
	}
	if a.node != nil {
		if p := t.checkNode(st, a); p != nil {
			return p
		}
	}
	if byNonce {
		if p := t.checkNonce(st, a.name); p != nil {
			return p
		}
		t.useNonce(st, a.name, t.append(ledger.KindStatement, st.Envelope))
		return nil
	}
	if p := t.checkSeq(st); p != nil {
		return p
	}
	t.useSeq(st, t.append(ledger.KindStatement, st.Envelope))
	return nil
}

// checkNode checks that a node may speak: it is not quarantined, and the key that it
// speaks with is valid in the epoch that the statement names, or was until the grace
// epochs.
func (t *transition) checkNode(st *ledger.Statement, a author) *problem {
	n := a.node
	switch n.Standing {
	case NodeQuarantined:
		return refuse(Quarantined, "author", n.Reason)
	case NodeExcluded:
		return refuse(NodeIsExcluded, "author", n.Reason)
	}
	if t.protects() && st.Payload.Type != ledger.TypeEvidence {
		if p := checkPayload(st, ledger.MaxNodePayloadBytes); p != nil {
			return p
		}
	}
	epoch := *st.Payload.Epoch
	if epoch < a.from || epoch > a.to+a.grace {
		return refuse(KeyExpired, "epoch", fmt.Sprintf("this key of %s is valid from epoch %d to %d", n.Name, a.from, a.to))
	}
	return nil
}

// checkPayload bounds a payload further than FORMAT.md section 3 does.
func checkPayload(st *ledger.Statement, most int) *problem {
	if n := len(st.PayloadBytes()); n > most {
		return refuse(TooLarge, "", fmt.Sprintf("a payload of %d bytes; at most %d", n, most))
	}
	return nil
}

func checkRecord(r ledger.RecordSize) *problem {
	switch {
	case (r.Digest > 0) == (r.Text > 0):
		return refuse(BadField, "body", "want a digest or a text")
	case r.Digest > 0 && r.Digest != 32:
		return refuse(BadField, "body.digest", "want 32 bytes")
	case r.Text > maxTextBytes:
		return refuse(BadField, "body.text", fmt.Sprintf("at most %d bytes", maxTextBytes))
	case r.Name > maxLabelBytes:
		return refuse(BadField, "body.name", fmt.Sprintf("at most %d bytes", maxLabelBytes))
	case r.Media > maxLabelBytes:
		return refuse(BadField, "body.media", fmt.Sprintf("at most %d bytes", maxLabelBytes))
	}
	return nil
}
