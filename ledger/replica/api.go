package replica

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// Wait says which word Submit returns on.
type Wait int

// The levels of an answer to a write.
const (
	WaitCommitted Wait = iota // Raft's majority holds it
	WaitCertified             // a certified checkpoint covers it
)

// The values of Receipt.Level.
const (
	LevelCommitted = "committed"
	LevelCertified = "certified"
)

// Receipt is the answer to an accepted submission.
type Receipt struct {
	Verdicts    []fsm.Verdict // one a statement, in order
	First, Last uint64        // least and greatest seq of its entries
	Stamp       uint64        // milliseconds, of the command; 0 when every statement is a duplicate
	Level       string        // committed or certified
	Checkpoint  uint64        // certified size that covers Last, when certified
}

// Consistency says which state a read sees.
type Consistency int

// The consistencies of a read.
const (
	Certified    Consistency = iota // the state at the newest certified head
	Stale                           // whatever this replica has applied
	Linearizable                    // at least all that was acknowledged before the call
)

// View is one immutable state, and what vouches for it.
type View struct {
	State      *fsm.State
	Size       uint64 // entries that State has applied
	Checkpoint []byte // the newest certified checkpoint; it covers State only if Certified
	Certified  bool
	Signed     uint64 // milliseconds: when the threshold-th newest cosignature was made
}

// The roles of a replica.
const (
	RoleLeader    = "leader"
	RoleFollower  = "follower"
	RoleCandidate = "candidate"
	RoleJoining   = "joining" // not in the ledger's active set
	RoleStopped   = "stopped"
	RoleHalted    = "halted"
)

// Status is what a replica says of itself.
type Status struct {
	Name       string
	ID         ledger.Hash
	Ledger     ledger.Hash
	Role       string
	Leader     string // its name; "" when unknown
	Term       uint64
	Applied    uint64 // size of the applied history
	Certified  uint64 // size of the newest certified head
	Signed     uint64 // milliseconds, see View
	RaftIndex  uint64 // last applied
	CommitLag  uint64 // Raft entries committed and not yet applied
	CertifyLag uint64 // applied entries that no certified head covers
	Authority  uint64 // index of the newest certified authority
	Generation uint64
	Standing   string // of this replica on the ledger: joining, active or ""
	Ready      bool   // caught up: reads and writes are answered
	Quorum     int    // Raft's
	Threshold  int    // cosigners that certify
	Faults     int    // replicas that may lie
	GapFrom    uint64 // the missing part of the history, empty when equal
	GapTo      uint64
	Key        *KeyStatus // nil while the ledger does not name this replica
	Peers      []PeerStatus
	Alarms     []Alarm
	Forks      []Fork    // who cosigned heads that are not ours
	Refusals   []Refusal // what the guard refused of peers, the newest first
}

// KeyStatus is the key of this replica that the newest applied state names. A
// replica's key never expires.
type KeyStatus struct {
	ID    ledger.Hash
	Since uint64       // the epoch in which it came
	Age   uint64       // epochs since
	Due   uint64       // the epoch in which it is to be rotated; 0: never
	Late  uint64       // the epoch from which on the ledger raises an alarm; 0: never
	Next  *ledger.Hash // made already, and not certified yet
	Off   bool         // this replica rotates by hand only (Rotation.Off)
}

// PeerStatus is a replica as this one sees it.
type PeerStatus struct {
	Name        string
	ID          ledger.Hash
	Address     string
	Operator    string
	Standing    string // on the ledger
	Suffrage    string // in Raft: voter, nonvoter or ""
	Leader      bool
	Self        bool
	Cosigned    uint64 // size of its newest cosignature seen here
	CosignedAt  uint64 // milliseconds
	Reachable   bool   // the last request to it was answered
	LastContact uint64 // milliseconds, of the last answer
}

// Alarm is a condition that needs an operator.
type Alarm struct {
	Code   string // disk_full, halted, gap, uncertified, fork, no_log_key, former_council
	Detail string
	Since  uint64 // milliseconds
}
