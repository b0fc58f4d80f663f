package fsm

import "github.com/quorate/quorate/ledger"

// What happens by itself once its time has come. The order is that of due
// time, at one time the epoch first, then proposals by id, then what leaves
// the state; so a decision that was due before a join expired admits it, even
// if both are found due by one late command.

// dueItem is work that appends an entry.
type dueItem struct {
	at    uint64
	epoch bool   // the epoch, else
	key   string // the proposal
}

// nextDue returns the first work due by the transition's stamp that nothing
// holds back.
func (t *transition) nextDue() (dueItem, bool) {
	first, found := dueItem{}, false
	if at := t.meta.EpochStart + t.policy.EpochMillis; at <= t.stamp {
		first, found = dueItem{at: at, epoch: true}, true
	}
	if earliest, _, ok := t.due.Root().Minimum(); !ok || timeOf(earliest) > t.stamp {
		return first, found
	}
	it := t.due.Root().Iterator()
	for {
		key, name, ok := it.Next()
		if !ok || timeOf(key) > t.stamp || found && timeOf(key) >= first.at {
			return first, found
		}
		p, ok := lookup[Proposal](&t.view, name)
		invariant(ok, "what is due is a proposal")
		if p.Standing == ProposalOpen || !t.held(p.Action) {
			return dueItem{at: timeOf(key), key: name}, true
		}
	}
}

// held reports whether the execution of an action must wait: for the thaw, or,
// since a handover hands over one change, for the next seal.
func (t *transition) held(action string) bool {
	return t.meta.Frozen != "" && !openWhileFrozen(action) || t.pending && handsOver(action)
}

// openWhileFrozen reports whether an action is proposed, approved and executed
// while the ledger is frozen.
func openWhileFrozen(action string) bool {
	switch action {
	case "council.reseat", "epoch.advance", ledger.ActionRevoke, "ledger.unfreeze", "node.quarantine", ledger.TypeRecover:
		return true
	}
	return false
}

// handsOver reports whether an action can change the record authority.
func handsOver(action string) bool {
	switch action {
	case "council.change", "council.reseat", "format.upgrade", "log.rekey", "policy.change",
		"replica.add", "replica.rekey", "replica.remove", ledger.TypeRecover:
		return true
	}
	return false
}

// runDue does all that is due by the transition's stamp. Each round consumes
// what it does, and the tables are bounded, so it ends.
func (t *transition) runDue() {
	if t.followsRecovery() {
		return
	}
	for {
		due, ok := t.nextDue()
		if !ok {
			t.lapse(t.stamp)
			return
		}
		t.lapse(due.at - 1)
		if due.epoch {
			t.advanceBySchedule()
			continue
		}
		p, ok := lookup[Proposal](&t.view, due.key)
		invariant(ok, "what is due is a proposal")
		if p.Standing == ProposalOpen {
			t.expire(p)
		} else {
			t.execute(p)
		}
	}
}

// lapse removes the records whose time ended by limit: nonces, joins and
// closed proposals.
func (t *transition) lapse(limit uint64) {
	for {
		key, name, ok := t.lapses.Root().Minimum()
		if !ok || timeOf(key) > limit {
			return
		}
		t.remove(name)
	}
}

// advanceBySchedule enters the epoch of the transition's stamp. Epochs in which
// nothing was said, because no command came, are passed over in one effect.
func (t *transition) advanceBySchedule() {
	elapsed := (t.stamp - t.meta.EpochStart) / t.policy.EpochMillis
	t.extendPassedOver(t.meta.Epoch, elapsed)
	t.changeMeta(func(m *Meta) {
		m.Epoch += elapsed
		m.EpochStart += elapsed * t.policy.EpochMillis
	})
	t.announceEpoch()
}

// announceEpoch appends the effect of the epoch just entered.
func (t *transition) announceEpoch(causes ...uint64) {
	rotated := t.takeEffect()
	if t.protects() {
		t.seedEpoch()
	}
	effect := &EpochEffect{Epoch: t.meta.Epoch, Rotated: rotated, Start: t.meta.EpochStart}
	count := uint64(0)
	if effect.Keys, count = t.activeKeys(); t.rotates() {
		effect.Count = count
	}
	seq := t.appendEffect(EffectEpoch, effect, causes...)
	if t.protects() {
		t.beginEpoch(seq)
	}
	t.raiseAlarms(seq)
}

// appendSeal appends the seal. A handover first refreshes the record
// authority, so that the digest that it seals proves the new one.
func (t *transition) appendSeal() {
	seal := &ledger.Seal{Epoch: t.meta.Epoch, Reason: ledger.SealRoutine}
	if t.urgent {
		seal.Reason = ledger.SealUrgent
	}
	if t.pending {
		t.handOver()
		seal.Reason, seal.Handover = ledger.SealHandover, t.meta.Handover
	}
	t.flush()
	seal.Digest = t.trie.Root()
	t.digest = seal.Digest
	t.sealSeq = t.append(ledger.KindSeal, encode(seal))
	t.seal = seal
	t.sealed = t.next
	t.urgent, t.pending, t.causes = false, false, nil
}
