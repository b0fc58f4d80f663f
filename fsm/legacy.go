package fsm

// LegacyRecord is the record "legacy/OPERATOR": what a node with strikes leaves
// to those that its operator brings after its removal. A new name and key would
// else wash it white: it would vote again after age_epochs.
type LegacyRecord struct {
	Lapses uint64 `json:"lapses"` // stamp
	Until  uint64 `json:"until"`  // epoch before which the word of a new node of the operator does not count
}

// leave takes note of a node that is removed with strikes: each doubles the age
// that the operator's next nodes need, and who is excluded had all but the last.
func (t *transition) leave(n *NodeRecord, r *ReputationRecord) {
	p, strikes := t.policy.Protects(), r.Strikes
	if n.Standing == NodeExcluded {
		strikes = max(strikes, p.ExcludeStrikes-1)
	}
	if strikes == 0 {
		return
	}
	epochs := min(p.AgeEpochs<<strikes, maxLegacyEpochs)
	next := &LegacyRecord{Lapses: t.stamp + epochs*t.policy.EpochMillis, Until: t.meta.Epoch + epochs}
	if old, ok := lookup[LegacyRecord](&t.view, tableLegacy+n.Operator); ok {
		next.Lapses, next.Until = max(next.Lapses, old.Lapses), max(next.Until, old.Until)
	}
	t.put(tableLegacy+n.Operator, next)
}

// inherit gives a node that is admitted what its operator's nodes left.
func (t *transition) inherit(n *NodeRecord, r *ReputationRecord) {
	if old, ok := lookup[LegacyRecord](&t.view, tableLegacy+n.Operator); ok && old.Until > t.meta.Epoch {
		r.Legacy = old.Until
	}
}
