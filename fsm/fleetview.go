package fsm

import "strings"

// What readers ask of the fleet, besides its nodes.

// rememberLast keeps, in a node's record, where the newest effect about it
// stands: from there its story is found without a walk over the history.
func (t *transition) rememberLast(effect any, seq uint64) {
	name := ""
	switch e := effect.(type) {
	case *VerdictEffect:
		name = e.Name
	case *OffenceEffect:
		name = e.Name
	case *StandingEffect:
		name = e.Name
	default:
		return
	}
	r, ok := lookup[ReputationRecord](&t.view, tableReputation+name)
	if !ok {
		return // a replica
	}
	next := *r
	next.Last = seq
	t.put(tableReputation+name, &next)
}

// Reputation returns a node's reputation; none in a ledger of format 1. Its
// lists are not the caller's to change.
func (v *view) Reputation(name string) (ReputationRecord, bool) {
	return one[ReputationRecord](v, tableReputation+name)
}

// Protection returns what the protection of the fleet remembers; nothing in a
// ledger of format 1. Its lists are not the caller's to change.
func (v *view) Protection() (ProtectionRecord, bool) {
	return one[ProtectionRecord](v, keyProtection)
}

// HeatIn returns the heat that a reputation's offences still have in an epoch.
func (r *ReputationRecord) HeatIn(epoch uint64) uint64 { return r.heat(epoch) }

// Probation says why an active node's word does not count yet, and until when:
// it is too young or its reputation is below the voting one. Both are derived,
// so that no entry is needed for what time alone changes.
type Probation struct {
	Young        bool
	Until        uint64 // epoch from which it is old enough
	Disreputable bool
}

// Probation returns nil for a node that is not on probation: whose word counts,
// or who is not active at all.
func (v *view) Probation(n *NodeRecord) *Probation {
	r, ok := v.Reputation(n.Name)
	if !ok || n.Standing != NodeActive {
		return nil
	}
	p := v.policy.Protects()
	out := &Probation{Disreputable: r.Reputation < p.VoteReputation, Until: r.Legacy}
	if !r.Founder {
		out.Until = max(out.Until, n.Admitted+p.AgeEpochs)
	}
	out.Young = v.meta.Epoch < out.Until
	if !out.Young && !out.Disreputable {
		return nil
	}
	return out
}

// Link is a link that its ends have spoken of.
type Link struct {
	Ends [2]string // sorted
	LinkRecord
}

// Links returns up to limit links after the one whose ends, joined by a slash,
// are after. Their words are not the caller's to change.
func (v *view) Links(after string, limit int) []Link {
	links := []Link{}
	it := v.source.Root().Iterator()
	it.SeekLowerBound([]byte(tableLink + after))
	for len(links) < limit {
		key, value, ok := it.Next()
		name, of := strings.CutPrefix(string(key), tableLink)
		if !ok || !of {
			break
		}
		if name == after {
			continue
		}
		record, ok := value.(*LinkRecord)
		invariant(ok, "a table holds records of one type")
		a, b, _ := strings.Cut(name, "/")
		links = append(links, Link{Ends: [2]string{a, b}, LinkRecord: *record})
	}
	return links
}

// KeysOf returns the seqs at which a node got its keys, ascending: the
// admission and each rekey. What became of it begins at the first.
func (v *view) KeysOf(name string) []uint64 {
	var seqs []uint64
	each(v, tableKey, func(_ string, k *KeyRecord) bool {
		if k.Role == RoleNode && k.Holder == name {
			seqs = append(seqs, k.Since)
		}
		return true
	})
	return seqs
}
