package fsm

import "github.com/quorate/quorate/ledger"

// How a node's standing follows from what was proven, attested or said of it.

// StandingEffect is the body of quarantined, released and excluded.
type StandingEffect struct {
	Name       string `json:"name"`
	Reason     string `json:"reason"`
	Reputation uint64 `json:"reputation"`
	Stay       uint64 `json:"stay,omitempty"` // epoch before which it does not end
	Strikes    uint64 `json:"strikes,omitempty"`
}

// OffenceEffect is the body of offence: what a node lost, and for what.
type OffenceEffect struct {
	Heat       uint64 `json:"heat"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Reputation uint64 `json:"reputation"` // after it
	Taken      uint64 `json:"taken"`
}

// BreakerEffect is the body of breaker: a verdict that was withheld because
// too many are in quarantine by the word of others already, or, with Closed,
// that there is room again.
type BreakerEffect struct {
	Closed bool   `json:"closed,omitempty"`
	Fleet  uint64 `json:"fleet"`
	Held   uint64 `json:"held"`
	Name   string `json:"name,omitempty"`
}

// PartitionEffect is the body of partition: so many are down, or cut off by links
// both of whose ends say so, that it is a cut and nobody's fault; or, with Healed,
// no longer.
type PartitionEffect struct {
	Cut    uint64 `json:"cut"`  // nodes that are not down, at an end of such links
	Down   uint64 `json:"down"` // nodes
	Fleet  uint64 `json:"fleet"`
	Healed bool   `json:"healed,omitempty"`
}

// punish takes points from a node for a proven offence, and quarantines or
// excludes it if that is what follows. subjective: by the word of others.
func (t *transition) punish(name, kind string, points uint64, subjective bool, causes ...uint64) {
	p := t.policy.Protects()
	n, ok := lookup[NodeRecord](&t.view, tableNode+name)
	invariant(ok, "who is punished is a node")
	r := t.reputation(name)
	taken := r.offend(&p, points, t.meta.Epoch)
	t.put(tableReputation+name, r)
	t.appendEffect(EffectOffence, &OffenceEffect{
		Heat: r.Heat, Kind: kind, Name: name, Reputation: r.Reputation, Taken: taken,
	}, causes...)
	switch {
	case n.Standing == NodeExcluded:
	case n.Standing == NodeQuarantined:
		t.quarantine(n, r, kind, r.Subjective && subjective, causes...) // an offence inside it is a strike
	case r.Reputation < p.QuarantineBelow:
		t.quarantine(n, r, kind, subjective, causes...)
	}
}

// quarantine is a strike; too many exclude.
func (t *transition) quarantine(n *NodeRecord, r *ReputationRecord, reason string, subjective bool, causes ...uint64) {
	p := t.policy.Protects()
	next := *r
	next.strike(&p, t.meta.Epoch)
	if next.Strikes >= p.ExcludeStrikes {
		t.put(tableReputation+n.Name, &next)
		t.exclude(n, reason, subjective, causes...)
		return
	}
	t.holdSubjective(&next, subjective)
	t.put(tableReputation+n.Name, &next)
	if next.Decided {
		reason = n.Reason // what was decided stands
	}
	t.stand(n, NodeQuarantined, reason)
	t.appendEffect(EffectQuarantined, &StandingEffect{
		Name: n.Name, Reason: reason, Reputation: next.Reputation, Stay: next.Stay, Strikes: next.Strikes,
	}, causes...)
}

// exclude ends a node's part in the fleet for good. Another key does not bring
// it back; only its removal and a new admission do.
func (t *transition) exclude(n *NodeRecord, reason string, subjective bool, causes ...uint64) {
	r := t.reputation(n.Name)
	r.Reputation, r.Charge = 0, 0
	// Who was excluded by the word of others counts on among those whom it holds.
	t.holdSubjective(r, subjective)
	t.put(tableReputation+n.Name, r)
	t.stand(n, NodeExcluded, reason)
	t.appendEffect(EffectExcluded, &StandingEffect{Name: n.Name, Reason: reason, Strikes: r.Strikes}, causes...)
}

// holdSubjective keeps count of those who are in quarantine by others' word.
func (t *transition) holdSubjective(r *ReputationRecord, subjective bool) {
	if r.Subjective == subjective {
		return
	}
	r.Subjective = subjective
	t.changeProtection(func(p *ProtectionRecord) {
		if subjective {
			p.Subjective++
		} else {
			p.Subjective--
		}
	})
}

// stand changes a node's standing by rule; by decision it is restand. Who loses
// its standing is drawn no more; who regains it may be from the next epoch on.
func (t *transition) stand(n *NodeRecord, standing, reason string) {
	next := *n
	if standing != n.Standing {
		next.Elector = false
	}
	next.Standing, next.Reason, next.Since = standing, reason, t.next
	t.put(tableNode+n.Name, &next)
}

// breakerHolds reports whether points by the word of others would put one more
// node into quarantine, or out, when there are too many already, and says so once.
func (t *transition) breakerHolds(n *NodeRecord, points uint64, causes ...uint64) bool {
	p, r := t.policy.Protects(), t.reputation(n.Name)
	strikesOut := r.Strikes+1 >= p.ExcludeStrikes
	switch {
	case r.Subjective:
		return false // it is among those
	case n.Standing == NodeQuarantined && !strikesOut:
		return false // it stays there for what it was put there for
	case n.Standing == NodeActive:
		if r.offend(&p, points, t.meta.Epoch); r.Reputation >= p.QuarantineBelow {
			return false
		}
	}
	held, fleet := t.protection().Subjective, t.count(countNodes)
	if (held+1)*10_000 <= fleet*p.BreakerBasisPoints {
		return false
	}
	if !t.protection().Breaker {
		t.changeProtection(func(r *ProtectionRecord) { r.Breaker = true })
		t.appendEffect(EffectBreaker, &BreakerEffect{Fleet: fleet, Held: held, Name: n.Name}, causes...)
	}
	return true
}

// setDown takes note of a node.down verdict, whose seq it is, or, with 0, of a
// node.up, and of the partition that many of them are.
func (t *transition) setDown(name string, verdict uint64, causes ...uint64) {
	r := t.reputation(name)
	invariant(r.Down != (verdict > 0), "a verdict changes what it is about")
	r.Down = verdict > 0
	if r.Down && t.policy.Protects().DownPoints > 0 {
		r.Charge = verdict
	}
	t.put(tableReputation+name, r)
	n, ok := lookup[NodeRecord](&t.view, tableNode+name)
	invariant(ok, "a verdict is about a node")
	if r.Down && n.Elector {
		next := *n
		next.Elector = false
		t.put(tableNode+name, &next)
	}
	t.changeProtection(func(p *ProtectionRecord) {
		if r.Down {
			p.Down++
		} else {
			p.Down--
		}
	})
	t.watchPartition(causes...)
}

func (t *transition) watchPartition(causes ...uint64) {
	p, fleet := t.protection(), t.count(countNodes)
	limit := fleet * t.policy.Protects().PartitionBasisPoints / 10_000
	cut := t.cutNodes()
	touched := p.Down + cut
	partition := touched > limit && touched >= ledger.MinAccusers
	if partition == p.Partition {
		return
	}
	t.changeProtection(func(r *ProtectionRecord) { r.Partition = partition })
	t.appendEffect(EffectPartition, &PartitionEffect{Cut: cut, Down: p.Down, Fleet: fleet, Healed: !partition}, causes...)
}

// cutNodes counts the nodes that are not down and have a link both of whose ends
// say that it is.
func (t *transition) cutNodes() uint64 {
	count := uint64(0)
	t.counts.Root().WalkPrefix([]byte(tableCountCut), func(key []byte, _ uint64) bool {
		r, ok := lookup[ReputationRecord](&t.view, tableReputation+string(key[len(tableCountCut):]))
		if ok && !r.Down {
			count++
		}
		return false
	})
	return count
}

// beginEpoch does what the rules of protection do when an epoch begins, which
// the effect with this seq says.
func (t *transition) beginEpoch(seq uint64) {
	t.settleAttestations()
	t.watchPartition(seq)
	t.chargeDown()
	if t.meta.Frozen == "" { // a freeze lets nobody back in
		t.releaseRestored(seq)
	}
	t.closeBreaker(seq)
	t.elect()
}

// chargeDown takes the points of the node.down verdicts of the epoch before,
// unless they were part of a partition.
func (t *transition) chargeDown() {
	points := t.policy.Protects().DownPoints
	var charged []string
	each(&t.view, tableReputation, func(name string, r *ReputationRecord) bool {
		if r.Charge > 0 {
			charged = append(charged, name)
		}
		return true
	})
	for _, name := range charged {
		r := t.reputation(name)
		verdict := r.Charge
		r.Charge = 0
		t.put(tableReputation+name, r)
		n, ok := lookup[NodeRecord](&t.view, tableNode+name)
		invariant(ok, "who has a reputation is a node")
		if points > 0 && !t.protection().Partition && n.Standing != NodeExcluded && !t.breakerHolds(n, points, verdict) {
			t.punish(name, ledger.NodeDown, points, true, verdict)
		}
	}
}

// releaseRestored ends the quarantines of those who have regained their
// reputation.
func (t *transition) releaseRestored(seq uint64) {
	p := t.policy.Protects()
	var released []*NodeRecord
	each(&t.view, tableNode, func(name string, n *NodeRecord) bool {
		if n.Standing == NodeQuarantined {
			r, ok := lookup[ReputationRecord](&t.view, tableReputation+name)
			if ok && !r.Decided && t.meta.Epoch >= r.Stay && r.Reputation >= p.LeaveReputation {
				released = append(released, n)
			}
		}
		return true
	})
	for _, n := range released {
		r := t.reputation(n.Name)
		t.holdSubjective(r, false)
		r.Stay = 0
		t.put(tableReputation+n.Name, r)
		t.stand(n, NodeActive, "")
		t.appendEffect(EffectReleased, &StandingEffect{Name: n.Name, Reason: "reputation", Reputation: r.Reputation, Strikes: r.Strikes}, seq)
	}
}

func (t *transition) closeBreaker(seq uint64) {
	r, fleet := t.protection(), t.count(countNodes)
	if r.Breaker && (r.Subjective+1)*10_000 <= fleet*t.policy.Protects().BreakerBasisPoints {
		t.changeProtection(func(r *ProtectionRecord) { r.Breaker = false })
		t.appendEffect(EffectBreaker, &BreakerEffect{Closed: true, Fleet: fleet, Held: r.Subjective}, seq)
	}
}
