package fsm

import "fmt"

type freezeArgs struct {
	Reason string `json:"reason"`
}

// freeze is ledger.freeze. What it leaves open is in openWhileFrozen; ticks,
// epochs, seals, expiries and whatever stops a proposal go on too.
func (t *transition) freeze(args freezeArgs, _ occasion) *problem {
	if p := checkReason(args.Reason); p != nil {
		return p
	}
	if t.meta.Frozen != "" {
		return refuse(Frozen, "", fmt.Sprintf("frozen since %d: %s", t.meta.FrozenAt, t.meta.Frozen))
	}
	t.changeMeta(func(m *Meta) {
		m.Frozen, m.FrozenAt = args.Reason, t.stamp
		m.Versions["freeze"] = t.next
	})
	return nil
}

// unfreeze is ledger.unfreeze. What was decided and held back is then due.
func (t *transition) unfreeze(_ noArgs, _ occasion) *problem {
	if t.meta.Frozen == "" {
		return refuse(NotFrozen, "", "the ledger is not frozen")
	}
	t.changeMeta(func(m *Meta) {
		m.Frozen, m.FrozenAt = "", 0
		m.Versions["freeze"] = t.next
	})
	return nil
}
