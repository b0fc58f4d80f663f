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

// PartitionEffect is the body of partition: so many are down at once that it
// is a cut and nobody's fault, or, with Healed, no longer.
type PartitionEffect struct {
	Down   uint64 `json:"down"`
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
		t.exclude(n, reason, causes...)
		return
	}
	t.holdSubjective(&next, subjective)
	t.put(tableReputation+n.Name, &next)
	t.stand(n, NodeQuarantined, reason)
	t.appendEffect(EffectQuarantined, &StandingEffect{
		Name: n.Name, Reason: reason, Reputation: next.Reputation, Stay: next.Stay, Strikes: next.Strikes,
	}, causes...)
}

// exclude ends a node's part in the fleet for good. Another key does not bring
// it back; only its removal and a new admission do.
func (t *transition) exclude(n *NodeRecord, reason string, causes ...uint64) {
	r := t.reputation(n.Name)
	r.Reputation = 0
	t.holdSubjective(r, false)
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

// stand changes a node's standing by rule; by decision it is restand.
func (t *transition) stand(n *NodeRecord, standing, reason string) {
	next := *n
	next.Standing, next.Reason, next.Since = standing, reason, t.next
	t.put(tableNode+n.Name, &next)
}

// breakerHolds reports whether one more quarantine by the word of others would
// be too many, and says so once.
func (t *transition) breakerHolds(name string, causes ...uint64) bool {
	p := t.policy.Protects()
	held, fleet := t.protection().Subjective, t.count(countNodes)
	if (held+1)*10_000 <= fleet*p.BreakerBasisPoints {
		return false
	}
	if !t.protection().Breaker {
		t.changeProtection(func(r *ProtectionRecord) { r.Breaker = true })
		t.appendEffect(EffectBreaker, &BreakerEffect{Fleet: fleet, Held: held, Name: name}, causes...)
	}
	return true
}

// setDown takes note of a node.down or node.up verdict, and of the partition
// that many of them are.
func (t *transition) setDown(name string, down bool, causes ...uint64) {
	r := t.reputation(name)
	invariant(r.Down != down, "a verdict changes what it is about")
	r.Down = down
	t.put(tableReputation+name, r)
	t.changeProtection(func(p *ProtectionRecord) {
		if down {
			p.Down++
		} else {
			p.Down--
		}
	})
	t.watchPartition(causes...)
}

func (t *transition) watchPartition(causes ...uint64) {
	p, fleet := t.protection(), t.count(countNodes)
	cut := p.Down*10_000 > fleet*t.policy.Protects().PartitionBasisPoints && p.Down >= ledger.MinAccusers
	if cut == p.Partition {
		return
	}
	t.changeProtection(func(r *ProtectionRecord) { r.Partition = cut })
	t.appendEffect(EffectPartition, &PartitionEffect{Down: p.Down, Fleet: fleet, Healed: !cut}, causes...)
}

// settleStandings, at the beginning of an epoch, ends what is over: quarantines
// of those who have regained their reputation, and the breaker.
func (t *transition) settleStandings() {
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
		t.appendEffect(EffectReleased, &StandingEffect{Name: n.Name, Reason: "reputation", Reputation: r.Reputation, Strikes: r.Strikes})
	}
	record, fleet := t.protection(), t.count(countNodes)
	if record.Breaker && (record.Subjective+1)*10_000 <= fleet*p.BreakerBasisPoints {
		t.changeProtection(func(r *ProtectionRecord) { r.Breaker = false })
		t.appendEffect(EffectBreaker, &BreakerEffect{Closed: true, Fleet: fleet, Held: record.Subjective})
	}
}
