package fsm

import (
	"bytes"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The record authority (FORMAT.md section 10) shows who decides and who
// certifies since the last handover. It is refreshed by the handover seal
// alone; until then the change that awaits it is pending.

// drawAuthority makes the authority of the records as they are, with the index
// and causes of the last one.
func (v *view) drawAuthority() ledger.Authority {
	a := ledger.Authority{
		Causes:     v.authority.Causes,
		Council:    []ledger.AuthorityMember{},
		Format:     v.meta.Format,
		Generation: v.meta.Generation,
		Index:      v.authority.Index,
		Ledger:     v.meta.Ledger,
		Log:        *v.log,
		Origin:     v.meta.Origin,
		Recovery:   v.recovery,
		Replicas:   []ledger.AuthorityReplica{},
		Thresholds: make(map[string]uint64, len(v.policy.Rules)),
	}
	each(v, tableCouncil, func(_ string, g *Governor) bool {
		a.Council = append(a.Council, ledger.AuthorityMember{Name: g.Name, Operator: g.Operator, Public: g.Public})
		return true
	})
	each(v, tableReplica, func(_ string, r *ReplicaRecord) bool {
		a.Replicas = append(a.Replicas, ledger.AuthorityReplica{
			Cosigner: r.Cosigner,
			Joining:  r.Standing != ReplicaActive,
			Name:     r.Name,
			Operator: r.Operator,
			Public:   r.Public,
		})
		return true
	})
	a.CosignThreshold = uint64(ledger.CosignThreshold(len(a.Active())))
	for action, rule := range v.policy.Rules {
		a.Thresholds[action] = rule.Threshold
	}
	return a
}

// noteAuthority makes the next seal a handover if the authority has changed.
// causes are the statements that made the change.
func (t *transition) noteAuthority(causes []uint64) {
	drawn := t.drawAuthority()
	if bytes.Equal(encode(&drawn), encode(t.authority)) {
		return
	}
	invariant(!t.pending, "at most one authority change a handover")
	t.pending, t.causes = true, causes
}

// handOver refreshes the record authority with the pending change.
func (t *transition) handOver() {
	a := t.drawAuthority()
	a.Index++
	a.Causes = t.causes
	t.put(keyAuthority, &a)
	t.changeMeta(func(m *Meta) { m.Handover = a.Index })
}

// activeKeys is the digest of the active key set, which an epoch's effect
// carries: SHA-256 of one line for each key that may speak in this epoch, in
// the order governors, recovery holders, replicas, nodes and by name in each:
// role, space, name, space, key id in hex, line feed. It says too how many they are.
func (v *view) activeKeys() (ledger.Hash, uint64) {
	h := newKeyDigest()
	each(v, tableCouncil, func(name string, g *Governor) bool {
		h.add(RoleGovernor, name, g.KeyID())
		return true
	})
	if v.recovery != nil {
		for _, holder := range v.recovery.Holders {
			h.add(RoleRecovery, holder.Name, holder.KeyID())
		}
	}
	each(v, tableReplica, func(name string, r *ReplicaRecord) bool {
		h.add(RoleReplica, name, r.KeyID())
		return true
	})
	each(v, tableNode, func(name string, n *NodeRecord) bool {
		if v.mayWatch(n) {
			h.add(RoleNode, name, n.Key)
		}
		return true
	})
	return h.sum(), h.count
}

// decodeArgs reads an action's args.
func decodeArgs[A any](raw canon.Raw) (A, *problem) {
	args, err := ledger.DecodeArgs[A](raw)
	if err != nil {
		return args, fromStatementError(err)
	}
	return args, nil
}
