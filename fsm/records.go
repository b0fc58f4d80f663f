// Package fsm is the rules of the ledger: Apply takes a state and a command
// and returns the next state, the entries that it appends, and a verdict. It
// is pure and total; fsm/DESIGN.md says what the rules are and why.
package fsm

import (
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The records of the state. Each is stored under a key (its table and name,
// as in "node/edge-7"), its value is its canonical JSON, and it can be proven
// alone against a seal's digest. fsm/DESIGN.md lists the keys.

// Meta is the record "meta": what belongs to the ledger as a whole.
type Meta struct {
	Epoch      uint64            `json:"epoch"`
	EpochStart uint64            `json:"epoch_start"`       // milliseconds
	Exposed    []string          `json:"exposed,omitempty"` // replicas that were removed for cause since the log's keys are what they are; from format 3 on
	Format     uint64            `json:"format"`
	Frozen     string            `json:"frozen,omitempty"` // the reason, while frozen
	FrozenAt   uint64            `json:"frozen_at,omitempty"`
	Generation uint64            `json:"generation"`
	Handover   uint64            `json:"handover"` // index of the last authority
	Ledger     ledger.Hash       `json:"ledger"`
	Origin     string            `json:"origin"`
	Recovered  uint64            `json:"recovered,omitempty"` // seq of the effect that began this generation
	Versions   map[string]uint64 `json:"versions"`            // of the tables that proposals name in base: the seq of the decision that last changed each
}

// Governor is the record "council/NAME".
type Governor struct {
	ledger.Member
	Since uint64 `json:"since"` // seq
}

// OperatorRecord is the record "operator/NAME".
type OperatorRecord struct {
	ledger.Operator
	Since uint64 `json:"since"` // seq
}

// The standings of a replica.
const (
	ReplicaJoining = "joining" // in Raft without a vote, uncounted
	ReplicaActive  = "active"
)

// ReplicaRecord is the record "replica/NAME".
type ReplicaRecord struct {
	ledger.Replica
	Format   uint64       `json:"format"`              // the highest that it stated to run
	KeyEpoch uint64       `json:"key_epoch,omitempty"` // in which it got its key; from format 3 on
	ServerID *ledger.Hash `json:"server,omitempty"`    // once it has rotated: id of the key under which it was seated
	Since    uint64       `json:"since"`               // seq of the decision that added or re-keyed it
	Standing string       `json:"standing"`
}

// Server is who the replica is in Raft: the id of the key under which it was
// seated, which its own rotations leave as it is.
func (r *ReplicaRecord) Server() ledger.Hash {
	if r.ServerID != nil {
		return *r.ServerID
	}
	return r.KeyID()
}

// The standings of a node.
const (
	NodeActive      = "active"
	NodeQuarantined = "quarantined"
	NodeExcluded    = "excluded" // from format 2 on
)

// NodeRecord is the record "node/NAME".
type NodeRecord struct {
	Admitted  uint64      `json:"admitted"`          // epoch
	Elector   bool        `json:"elector,omitempty"` // may be drawn to watch; from format 2 on
	Key       ledger.Hash `json:"key"`
	Name      string      `json:"name"`
	Next      *NextKey    `json:"next,omitempty"` // that it has announced; from format 3 on
	Operator  string      `json:"operator"`
	Ordinal   uint64      `json:"ordinal,omitempty"` // from 1; by which attestations name it, from format 2 on
	Peer      []byte      `json:"peer"`              // Ed25519 public key
	Public    []byte      `json:"public"`            // ML-DSA-65
	Reason    string      `json:"reason,omitempty"`  // of the quarantine
	Revoked   bool        `json:"revoked,omitempty"` // its key is, and no other came yet; from format 3 on
	Since     uint64      `json:"since"`             // seq of the last change
	Standing  string      `json:"standing"`
	ValidFrom uint64      `json:"valid_from"` // epoch, inclusive
	ValidTo   uint64      `json:"valid_to"`   // epoch, inclusive
	Version   uint64      `json:"version"`    // seq of the last change by decision
}

// The roles of a key.
const (
	RoleGovernor = "governor"
	RoleRecovery = "recovery"
	RoleReplica  = "replica"
	RoleNode     = "node"
)

// KeyRecord is the record "key/HEX": a key id appears once, in one role, for
// ever, so this record stays when its holder goes. What is left out is unknown, as
// of keys that came or ended before format 3.
type KeyRecord struct {
	Destroyed   uint64       `json:"destroyed,omitempty"` // seq of the key.destroy
	Ended       string       `json:"ended,omitempty"`     // how: rotated, rekeyed, revoked, removed; expiry follows from the range
	Holder      string       `json:"holder"`
	How         string       `json:"how,omitempty"`      // it came: genesis, admitted, seated, rotated, rekeyed
	Last        uint64       `json:"last,omitempty"`     // seq of the last statement accepted under it, once it ended
	Next        *ledger.Hash `json:"next,omitempty"`     // its successor
	Previous    *ledger.Hash `json:"previous,omitempty"` // its predecessor
	Revoked     bool         `json:"revoked,omitempty"`  // no longer its holder's key
	RevokedFrom *uint64      `json:"revoked_from,omitempty"`
	Role        string       `json:"role"`
	Said        uint64       `json:"said,omitempty"` // of a rotation: the epoch in which it was accepted
	Since       uint64       `json:"since"`          // seq
	ValidFrom   uint64       `json:"valid_from,omitempty"`
	ValidTo     *uint64      `json:"valid_to,omitempty"` // once it ended; of a node's current key its record says it
}

// JoinRecord is the record "join/HEX": a node that asks to be admitted.
type JoinRecord struct {
	Expires uint64      `json:"expires"`
	ID      ledger.Hash `json:"id"` // statement id
	Join    ledger.Join `json:"join"`
	Seq     uint64      `json:"seq"`
}

// The standings of a proposal.
const (
	ProposalOpen      = "open"
	ProposalDecided   = "decided" // waits for its delay
	ProposalExecuted  = "executed"
	ProposalFailed    = "failed"
	ProposalRejected  = "rejected" // the threshold can no longer be met
	ProposalWithdrawn = "withdrawn"
	ProposalVetoed    = "vetoed"
	ProposalExpired   = "expired"
)

// Vote is one governor's word on a proposal.
type Vote struct {
	Author   string      `json:"author"`
	ID       ledger.Hash `json:"id"` // statement id
	Operator string      `json:"operator"`
	Seq      uint64      `json:"seq"`
}

// Proposal is the record "proposal/HEX".
type Proposal struct {
	Action     string            `json:"action"`
	Approvals  []Vote            `json:"approvals"` // by seq; the proposer's own first
	Args       canon.Raw         `json:"args"`
	Author     string            `json:"author"`
	Base       map[string]uint64 `json:"base"`
	Closed     uint64            `json:"closed,omitempty"`  // stamp
	Decided    uint64            `json:"decided,omitempty"` // stamp
	DueAt      uint64            `json:"due_at,omitempty"`  // stamp of execution
	Expires    uint64            `json:"expires"`
	ID         ledger.Hash       `json:"id"`
	Leaves     uint64            `json:"leaves,omitempty"` // stamp at which the closed proposal leaves the state
	Memo       string            `json:"memo,omitempty"`
	Proposed   uint64            `json:"proposed"`             // stamp
	Reason     string            `json:"reason,omitempty"`     // why it failed, was rejected or vetoed
	Rejections []Vote            `json:"rejections,omitempty"` // by seq
	Seq        uint64            `json:"seq"`
	Standing   string            `json:"standing"`
	Vetoes     []Vote            `json:"vetoes,omitempty"` // of a reseat, until they reach the council's threshold
	Withdrawn  *Vote             `json:"withdrawn,omitempty"`
}

// NonceRecord is the record "nonce/AUTHOR/HEX": a live nonce, and what was
// said under it.
type NonceRecord struct {
	Expires uint64      `json:"expires"`
	ID      ledger.Hash `json:"id"` // statement id
	Seq     uint64      `json:"seq"`
}

// WindowRecord is the record "window/NAME": which seqs of an epoch a node or
// replica has used.
type WindowRecord struct {
	Bits     []byte        `json:"bits"` // 128 bytes: bit i stands for seq Top-i
	Count    uint64        `json:"count"`
	Epoch    uint64        `json:"epoch"`
	Last     ledger.Hash   `json:"last"`               // statement id of the last accepted
	LastSeq  uint64        `json:"last_seq"`           // entry seq of it
	Previous *WindowRecord `json:"previous,omitempty"` // of the epoch before
	Top      uint64        `json:"top"`
}

// The effects. Each is the body of an effect entry of that type.
const (
	EffectDecision  = "decision"
	EffectExecuted  = "executed"
	EffectFailed    = "failed"
	EffectRejected  = "rejected"
	EffectExpired   = "expired"
	EffectWithdrawn = "withdrawn"
	EffectVetoed    = "vetoed"
	EffectEpoch     = "epoch"
	EffectTick      = "tick"
	EffectActive    = "replica.active"

	// From format 2 on.
	EffectBreaker     = "breaker"
	EffectExcluded    = "excluded"
	EffectLink        = "link"
	EffectOffence     = "offence"
	EffectPartition   = "partition"
	EffectQuarantined = "quarantined"
	EffectReleased    = "released"
	EffectVerdict     = "verdict"

	// From format 3 on.
	EffectAlarm   = "alarm"
	EffectRotated = "replica.rotated"
)

// KnownEffect says whether an effect of that type exists.
func KnownEffect(typ string) bool {
	switch typ {
	case EffectDecision, EffectExecuted, EffectFailed, EffectRejected, EffectExpired, EffectWithdrawn,
		EffectVetoed, EffectEpoch, EffectTick, EffectActive,
		EffectBreaker, EffectExcluded, EffectLink, EffectOffence, EffectPartition, EffectQuarantined, EffectReleased, EffectVerdict,
		EffectAlarm, EffectRotated:
		return true
	}
	return false
}

// ProposalEffect is the body of decision, executed, failed, rejected, expired,
// withdrawn and vetoed.
type ProposalEffect struct {
	Action   string      `json:"action"`
	Proposal ledger.Hash `json:"proposal"`
	DueAt    uint64      `json:"due_at,omitempty"`
	Reason   string      `json:"reason,omitempty"`
}

// EpochEffect is the body of epoch.
type EpochEffect struct {
	Count   uint64      `json:"count,omitempty"` // keys in that digest; from format 3 on
	Epoch   uint64      `json:"epoch"`
	Keys    ledger.Hash `json:"keys"`              // digest of the active key set
	Rotated uint64      `json:"rotated,omitempty"` // node keys that took effect now
	Start   uint64      `json:"start"`             // milliseconds
}

// AlarmEffect is the body of alarm.
type AlarmEffect struct {
	Count uint64   `json:"count"` // 0: it is over
	Kind  string   `json:"kind"`
	Names []string `json:"names"` // the first 32, sorted
}

// RotatedEffect is the body of replica.rotated.
type RotatedEffect struct {
	Key  ledger.Hash `json:"key"`
	Name string      `json:"name"`
	Old  ledger.Hash `json:"old"`
}

// TickEffect is the body of tick, which a new leader asks for so that a fresh
// seal can follow.
type TickEffect struct {
	Tick uint64 `json:"tick"` // stamp / tick_millis
}

// ReplicaEffect is the body of replica.active.
type ReplicaEffect struct {
	Key  ledger.Hash `json:"key"`
	Name string      `json:"name"`
}
