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
	Bootstrap  bool        `json:"bootstrap,omitempty"` // in this epoch fewer than three operators are eligible
	Breaker    bool        `json:"breaker,omitempty"`   // subjective verdicts are withheld
	Down       uint64      `json:"down,omitempty"`      // nodes that are down by verdict
	Ordinals   uint64      `json:"ordinals"`            // the last one given
	Partition  bool        `json:"partition,omitempty"`
	QuotaSince uint64      `json:"quota_since,omitempty"` // epoch from which a flood is told by the quotas of now
	Seeds      []EpochSeed `json:"seeds"`                 // of the newest epochs, ascending
	Settled    uint64      `json:"settled,omitempty"`     // attestations of windows that begin before this epoch are settled
	Subjective uint64      `json:"subjective,omitempty"`  // nodes in quarantine by the word of others
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
	t.put(keyProtection, &ProtectionRecord{Seeds: []EpochSeed{{Epoch: t.meta.Epoch, Seed: t.seed()}}})
	t.voidAttestations()
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
	t.elect()
}

// seed is that of an epoch that begins now.
func (t *transition) seed() ledger.Hash {
	if t.digest.IsZero() {
		return t.meta.Ledger // before the first seal
	}
	return t.digest
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
	t.inherit(n, r)
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
	t.leave(n, r)
	t.remove(tableReputation + n.Name)
	t.remove(ordinalOf(n.Ordinal))
	// A node of the same name, if one comes, begins anew.
	for _, epoch := range [...]uint64{t.meta.Epoch, t.meta.Epoch - min(t.meta.Epoch, 1)} {
		t.remove(tallyOf(epoch, "node", n.Name))
		t.remove(tallyOf(epoch, "bad", n.Name))
	}
}

// changeProtectionPolicy does what a policy's change means for what is under way.
func (t *transition) changeProtectionPolicy(old *ledger.Policy) {
	if !t.protects() {
		return
	}
	before, after := old.Protects(), t.policy.Protects()
	if before.AttestEpochs != after.AttestEpochs {
		t.voidAttestations()
	}
	if t.policy.Quota < old.Quota || after.ProbeQuota < before.ProbeQuota {
		// Who has not heard of it yet is no flooder.
		t.changeProtection(func(p *ProtectionRecord) { p.QuotaSince = t.meta.Epoch + 2 })
	}
	if t.policy.EpochMillis == old.EpochMillis {
		return
	}
	t.moveOldKeys()
	var offences []*OffenceRecord
	each(&t.view, tableOffence, func(_ string, o *OffenceRecord) bool {
		offences = append(offences, o)
		return true
	})
	for _, o := range offences {
		next := *o
		next.Lapses = t.offenceLapses(o.Epoch)
		t.put(offenceOf(o.Key), &next)
	}
}

// reputation returns a copy of a node's record for the caller to change.
func (v *view) reputation(name string) *ReputationRecord {
	r, ok := lookup[ReputationRecord](v, tableReputation+name)
	invariant(ok, "a node of a ledger of format 2 has a reputation")
	c := *r
	return &c
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
		p.Seeds = append(seeds, EpochSeed{Epoch: t.meta.Epoch, Seed: t.seed()})
	})
}
