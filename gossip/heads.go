package gossip

import (
	"github.com/quorate/quorate/ledger"
)

// CertifiedHead is a head whose cosignatures were checked under an authority of
// this ledger.
type CertifiedHead struct {
	ledger.Head
	Generation uint64
	Signed     uint64 // seconds: when a threshold had signed it
}

// Relation is how somebody's certified head stands to ours.
type Relation uint8

const (
	Same     Relation = iota
	Resigned          // the same head, signed later
	Newer             // it goes on from ours
	Older             // ours goes on from it
	Unproven          // of another size: a consistency proof decides
	Conflict          // no history has both: the replicas that signed both lied
)

// String names the relation as logs do.
func (r Relation) String() string {
	return [...]string{"same", "resigned", "newer", "older", "unproven", "conflict"}[r]
}

// Relate compares two certified heads. consistency is the RFC 6962 proof between
// their sizes, if there is one: a wrong one proves nothing, since anybody can
// make it. A higher generation is newer whatever its size: the council opened it
// by its own signatures, which whoever certified the head has checked.
func Relate(ours, theirs CertifiedHead, consistency []ledger.Hash) Relation {
	switch {
	case theirs.Generation > ours.Generation:
		return Newer
	case theirs.Generation < ours.Generation:
		return Older
	case theirs.Size == ours.Size && theirs.Root != ours.Root:
		return Conflict
	case theirs.Size == ours.Size && theirs.Signed > ours.Signed:
		return Resigned
	case theirs.Size == ours.Size:
		return Same
	}
	small, large, relation := ours, theirs, Newer
	if theirs.Size < ours.Size {
		small, large, relation = theirs, ours, Older
	}
	if ledger.VerifyConsistency(consistency, small.Size, small.Root, large.Size, large.Root) != nil {
		return Unproven
	}
	return relation
}

// Contradict reports whether two certified heads of one generation contradict
// each other, given the root that the larger one's history has at the smaller
// one's size and the RFC 6962 proof of that. Who holds the larger head's history
// can always tell.
func Contradict(a, b CertifiedHead, rootAtSmaller ledger.Hash, consistency []ledger.Hash) bool {
	if a.Generation != b.Generation {
		return false
	}
	if a.Size < b.Size {
		a, b = b, a
	}
	return ledger.Contradict(consistency, rootAtSmaller, a.Head, b.Head) == nil
}

// Fork is the alarm that two certified heads contradict each other. From then on
// an agent trusts neither history to release anybody: see Unite.
type Fork struct {
	Ours, Theirs         CertifiedHead
	OurNote, TheirNote   []byte
	RootAtSmaller        ledger.Hash
	Consistency          []ledger.Hash
	OurLinks, TheirLinks [][]byte // authority chains, where they differ
}

// Worse gives the more severe of two standings. A node that only one history
// knows ("") has that history's.
func Worse(a, b string) string {
	if severity(b) > severity(a) {
		return b
	}
	return a
}

func severity(standing string) int {
	switch standing {
	case "":
		return 0
	case Active:
		return 1
	case Quarantined:
		return 2
	}
	return 3 // excluded, and what a newer format may add
}

// Unite gives, by node, the worse of its standings in two histories: while two
// certified histories contradict each other, whoever one of them quarantined
// stays so, and no release of either is taken.
func Unite(ours, theirs map[string]string) map[string]string {
	united := make(map[string]string, len(ours))
	for name, standing := range ours {
		united[name] = standing
	}
	for name, standing := range theirs {
		united[name] = Worse(united[name], standing)
	}
	return united
}
