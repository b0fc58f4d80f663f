package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// protectionFormat is the format from which nodes observe, attest and bring
// evidence.
const protectionFormat = 2

// ProtectionRecord is the record "protection": what the protection of the
// fleet remembers as a whole.
type ProtectionRecord struct {
	Breaker    bool        `json:"breaker,omitempty"` // subjective verdicts are withheld
	Down       uint64      `json:"down,omitempty"`    // nodes that are down by verdict
	Ordinals   uint64      `json:"ordinals"`          // the last one given
	Partition  bool        `json:"partition,omitempty"`
	Seeds      []EpochSeed `json:"seeds"`                // of the newest epochs, ascending
	Settled    uint64      `json:"settled,omitempty"`    // windows of attestation before this one are settled
	Subjective uint64      `json:"subjective,omitempty"` // nodes in quarantine by the word of others
}

// EpochSeed is the seed of an epoch's draws: the digest that the last seal
// before the epoch sealed.
type EpochSeed struct {
	Epoch uint64      `json:"epoch"`
	Seed  ledger.Hash `json:"seed"`
}

// OrdinalRecord is the record "ordinal/HEX", by which attestations name nodes.
type OrdinalRecord struct {
	Name string `json:"name"`
}

func ordinalOf(n uint64) string { return fmt.Sprintf("%s%06x", tableOrdinal, n) }

// protects reports whether the rules of observation and evidence hold.
func (v *view) protects() bool { return v.meta.Format >= protectionFormat }

func (v *view) protection() *ProtectionRecord {
	p, ok := lookup[ProtectionRecord](v, keyProtection)
	invariant(ok, "a ledger of format 2 has the record protection")
	return p
}

func (t *transition) changeProtection(change func(*ProtectionRecord)) {
	p := *t.protection()
	change(&p)
	t.put(keyProtection, &p)
}

// beginProtection turns the rules on: at genesis, or when the format becomes 2.
// Nodes that are there count as admitted before the first epoch.
func (t *transition) beginProtection() {
	seed := t.digest
	if seed.IsZero() {
		seed = t.meta.Ledger // before the first seal
	}
	t.put(keyProtection, &ProtectionRecord{
		Seeds:   []EpochSeed{{Epoch: t.meta.Epoch, Seed: seed}},
		Settled: t.meta.Epoch / t.policy.Protects().AttestEpochs,
	})
	var nodes []*NodeRecord
	each(&t.view, tableNode, func(_ string, n *NodeRecord) bool {
		nodes = append(nodes, n)
		return true
	})
	for _, n := range nodes {
		next := *n
		t.enrol(&next, true)
		t.put(tableNode+n.Name, &next)
	}
}

// enrol gives a node its ordinal and its first reputation.
func (t *transition) enrol(n *NodeRecord, founder bool) {
	policy := t.policy.Protects()
	t.changeProtection(func(p *ProtectionRecord) {
		p.Ordinals++
		n.Ordinal = p.Ordinals
	})
	t.put(ordinalOf(n.Ordinal), &OrdinalRecord{Name: n.Name})
	r := &ReputationRecord{Reputation: policy.StartReputation}
	if founder {
		r.Founder, r.Reputation = true, max(policy.VoteReputation, policy.StartReputation)
	}
	if n.Standing == NodeQuarantined {
		r.Decided = true
	}
	t.put(tableReputation+n.Name, r)
}

// dismiss forgets a node that is removed.
func (t *transition) dismiss(n *NodeRecord) {
	r, ok := lookup[ReputationRecord](&t.view, tableReputation+n.Name)
	if !ok {
		return
	}
	t.changeProtection(func(p *ProtectionRecord) {
		if r.Down {
			p.Down--
		}
		if r.Subjective {
			p.Subjective--
		}
	})
	t.remove(tableReputation + n.Name)
	t.remove(ordinalOf(n.Ordinal))
}

// reputation returns a copy of a node's record for the caller to change.
func (v *view) reputation(name string) *ReputationRecord {
	r, ok := lookup[ReputationRecord](v, tableReputation+name)
	invariant(ok, "a node of a ledger of format 2 has a reputation")
	c := *r
	return &c
}

// Eligible reports whether a node's word counts: it is active, not down, has the
// reputation and the age, and its key is valid.
func (v *view) eligible(n *NodeRecord, p *ledger.Protection) bool {
	if !v.mayWatch(n) {
		return false
	}
	r, ok := lookup[ReputationRecord](v, tableReputation+n.Name)
	return ok && !r.Down && r.Reputation >= p.VoteReputation &&
		(r.Founder || v.meta.Epoch >= n.Admitted+p.AgeEpochs)
}

// mayWatch is what is asked of a node as long as too few are eligible.
func (v *view) mayWatch(n *NodeRecord) bool {
	return n.Standing == NodeActive && n.ValidFrom <= v.meta.Epoch && v.meta.Epoch <= n.ValidTo
}

// Electorate is who may be drawn: the operators with eligible nodes, or, in
// the beginning, with any active ones.
type Electorate struct {
	Stables   []ledger.Stable // by operator
	Bootstrap bool            // fewer than three operators are eligible: verdicts by quorum are off
}

// Electorate returns who may be drawn now.
func (v *view) Electorate() Electorate {
	p := v.policy.Protects()
	eligible, active := newStables(), newStables()
	each(v, tableNode, func(_ string, n *NodeRecord) bool {
		if v.mayWatch(n) {
			active.add(n)
			if v.eligible(n, &p) {
				eligible.add(n)
			}
		}
		return true
	})
	if len(eligible.byOperator) < ledger.MinAccusers {
		return Electorate{Stables: active.sorted(), Bootstrap: true}
	}
	return Electorate{Stables: eligible.sorted()}
}

// Seed returns the seed of an epoch's draws, if the state still has it.
func (v *view) Seed(epoch uint64) (ledger.Hash, bool) {
	for _, s := range v.protection().Seeds {
		if s.Epoch == epoch {
			return s.Seed, true
		}
	}
	return ledger.Hash{}, false
}

// Monitors returns who watches a node in an epoch, as far as the state knows
// that epoch's seed.
func (v *view) Monitors(n *NodeRecord, epoch uint64, electorate Electorate) []ledger.Monitor {
	seed, ok := v.Seed(epoch)
	if !ok {
		return nil
	}
	p := v.policy.Protects()
	return ledger.Draw(seed, n.Name, n.Operator, electorate.Stables, int(p.Monitors))
}

// seedEpoch takes note of the seed of the epoch that begins.
func (t *transition) seedEpoch() {
	keep := 2*t.policy.Protects().AttestEpochs + 2
	t.changeProtection(func(p *ProtectionRecord) {
		seeds := make([]EpochSeed, 0, len(p.Seeds)+1)
		for _, s := range p.Seeds {
			if s.Epoch+keep > t.meta.Epoch {
				seeds = append(seeds, s)
			}
		}
		p.Seeds = append(seeds, EpochSeed{Epoch: t.meta.Epoch, Seed: t.digest})
	})
}
