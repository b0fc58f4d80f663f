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
		if p := t.checkNode(st, a.node); p != nil {
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

// checkNode checks that a node may speak: it is not quarantined, and its key is
// valid in the epoch that the statement names, or was until the grace epochs.
func (t *transition) checkNode(st *ledger.Statement, n *NodeRecord) *problem {
	switch n.Standing {
	case NodeQuarantined:
		return refuse(Quarantined, "author", n.Reason)
	case NodeExcluded:
		return refuse(NodeIsExcluded, "author", n.Reason)
	}
	if t.protects() && st.Payload.Type != ledger.TypeEvidence && len(st.PayloadBytes()) > ledger.MaxNodePayloadBytes {
		return refuse(TooLarge, "", fmt.Sprintf("a payload of %d bytes; a node's is at most %d", len(st.PayloadBytes()), ledger.MaxNodePayloadBytes))
	}
	epoch := *st.Payload.Epoch
	if epoch < n.ValidFrom || epoch > n.ValidTo+t.policy.GraceEpochs {
		return refuse(KeyExpired, "epoch", fmt.Sprintf("the key of %s is valid from epoch %d to %d", n.Name, n.ValidFrom, n.ValidTo))
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
