// Package gossip is what a node makes of the statements that it hears and of
// the neighbours that it watches, before and beside the ledger: which
// statements are fit to use and relay, what proves an offence, whom to probe
// and when, what to say of it, and in what order to say it. It is pure: what
// the ledger certified comes in as a View, time as ticks and epochs, and
// nothing here signs, sends or stores. It keeps no locks; gossip/agent does.
// gossip/DESIGN.md says why it is so.
package gossip

import (
	"iter"

	"github.com/quorate/quorate/ledger"
)

// The standings of a node, as its record has them.
const (
	Active      = "active"
	Quarantined = "quarantined"
	Excluded    = "excluded"
)

// The roles of an author, as its key's record has them.
const (
	RoleNode     = "node"
	RoleReplica  = "replica"
	RoleGovernor = "governor"
)

// A View is what the ledger certified, as of one moment: it never changes.
// Package fsm's State has all of it; the agent wraps one.
type View interface {
	Rules() Rules
	// Author gives who holds a key, also a key that is revoked.
	Author(key ledger.Hash) (Author, bool)
	Node(name string) (Node, bool)
	// Nodes gives all nodes, by name.
	Nodes() iter.Seq[Node]
	// LinkDown reports whether two nodes' link is down by what its ends said.
	LinkDown(a, b string) bool
	// Seed gives the seed of an epoch's draws, if the state still has it.
	Seed(epoch uint64) (ledger.Hash, bool)
	// Electorate gives who may be drawn, by operator, and whether that is only
	// because too few are eligible: then nobody's word makes a verdict.
	Electorate() (stables []ledger.Stable, bootstrap bool)
	// AttestWindow gives the first epoch of the window that may be attested now,
	// and whether a node is drawn to attest it.
	AttestWindow(name string) (first uint64, drawn bool)
}

// Rules is what a View says of the ledger as a whole.
type Rules struct {
	Ledger     ledger.Hash // genesis hash
	Generation uint64
	Format     uint64
	Epoch      uint64
	Quota      uint64 // statements of one author in one epoch, probes and acks aside

	EpochMillis, TickMillis uint64
	Protection              ledger.Protection
}

// QuotaOf is what a seq of a space must stay below.
func (r *Rules) QuotaOf(space ledger.SeqSpace) uint64 {
	if space == ledger.SpaceProbe {
		return r.Protection.ProbeQuota
	}
	return r.Quota
}

// EpochTicks is how many ticks an epoch has, at least 1.
func (r *Rules) EpochTicks() uint64 { return max(r.EpochMillis/max(r.TickMillis, 1), 1) }

// Author is who holds a key.
type Author struct {
	Name, Operator, Role string
	Standing             string // of a node
	Public               []byte // ML-DSA-65
	Revoked              bool   // no longer its holder's key; Public may be missing
	ValidFrom, ValidTo   uint64 // epochs, of a node
	Grace                uint64 // epochs after ValidTo in which it is still heard, if no other key followed it

	// Former: it was rotated out, and its rotations lead to the key in force. It convicts
	// of what it signed up to ValidTo, though Public may be gone: then evidence brings it.
	Former bool
}

// validIn reports whether the ledger takes what a node's key signs in an epoch.
func (a *Author) validIn(epoch uint64) bool {
	return a.ValidFrom <= epoch && (epoch <= a.ValidTo || epoch-a.ValidTo <= a.Grace)
}

// Node is a node of the ledger.
type Node struct {
	Name, Operator, Standing string
	Ordinal                  uint64
	Down                     bool // by verdict
}
