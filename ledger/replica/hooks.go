package replica

import (
	"net/http"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// Hooks alter one replica, so that simulations, liars and planted bugs can show
// what the others do about it. Every program leaves Config.Hooks nil, and
// test/floors holds them to it. A nil field changes nothing.
type Hooks struct {
	// Clock is the wall clock, in milliseconds of Unix time. Intervals and
	// deadlines stay the process's own.
	Clock func() uint64
	// Archive is the file system beneath the history. It may hang too; an error of
	// Sync or SyncDir is final for the archive, and so is any other but ENOSPC and
	// EDQUOT.
	Archive archive.FS
	// Log wraps what Raft appends its log to. A write may hang: the watchdog times
	// it. ENOSPC and EDQUOT mean that nothing was written; any other error is
	// final, and ends Run with ErrDiskFailed.
	Log func(raft.LogStore) raft.LogStore
	// LogFiles wraps the file system beneath raft-wal's segments; its list of them
	// and Raft's votes are in a bolt file beside, which it does not see.
	LogFiles func(types.VFS) types.VFS
	// Stable wraps what Raft keeps its term and its votes in; likewise.
	Stable func(raft.StableStore) raft.StableStore
	// Transport wraps what Raft sends through, outside the guard.
	Transport func(GuardedTransport) GuardedTransport
	// Order sees each command that this replica orders as leader, stamped, and may
	// change it.
	Order func(*ledger.Command)
	// Service wraps the peer service that this replica offers to others.
	Service func(http.Handler) http.Handler
	// Requests wraps what this replica's requests to the peer service of others go
	// through: cosignatures and forwarded statements among them.
	Requests func(http.RoundTripper) http.RoundTripper
	// Apply stands for fsm.Apply on Raft's goroutine: it may look at each state, or
	// be wrong. What a leader asks the rules beforehand goes past it.
	Apply func(*fsm.State, *ledger.Command, fsm.Verifier) (*fsm.State, fsm.Result)
	// Verify may overrule what the check of a statement's signature found.
	Verify func(st *ledger.Statement, good bool) bool
	// Members may change what this replica, as leader, takes for the certified
	// replica set that Raft's configuration follows.
	Members func([]fsm.ReplicaRecord) []fsm.ReplicaRecord
	// Record may change an entry on its way into the history.
	Record func(seq uint64, entry []byte) []byte
	// Signed hears of each head once it is cosigned.
	Signed func(ledger.Head)
	// Rotation is called after each step of the own rotation, and may end it there:
	// "file", "ring", "said", "accepted", "active"; of a key that ended "retired", once
	// the ring names its file no more, and "destroyed", once the ledger was told.
	Rotation func(step string) error
	// Point is called around what a crash may fall between: "snapshot" and
	// "snapshotted", when a snapshot gets its name.
	Point func(point string)
}

// GuardedTransport is all that Raft wants of a transport, and asks it for.
type GuardedTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

var _ GuardedTransport = (*guard)(nil)

// now is the wall clock in milliseconds of Unix time.
func (r *Replica) now() uint64 {
	if h := r.cfg.Hooks; h != nil && h.Clock != nil {
		return h.Clock()
	}
	return uint64(time.Now().UnixMilli())
}

func (h *Hooks) archive() archive.FS {
	if h == nil || h.Archive == nil {
		return archive.OS()
	}
	return h.Archive
}

func (h *Hooks) log(inner raft.LogStore) raft.LogStore {
	if h == nil || h.Log == nil {
		return inner
	}
	return h.Log(inner)
}

func (h *Hooks) stable(inner raft.StableStore) raft.StableStore {
	if h == nil || h.Stable == nil {
		return inner
	}
	return h.Stable(inner)
}

func (h *Hooks) transport(inner GuardedTransport) GuardedTransport {
	if h == nil || h.Transport == nil {
		return inner
	}
	return h.Transport(inner)
}

func (h *Hooks) orders() bool { return h != nil && h.Order != nil }

func (h *Hooks) order(c *ledger.Command) {
	if h != nil && h.Order != nil {
		h.Order(c)
	}
}

func (h *Hooks) service(inner http.Handler) http.Handler {
	if h == nil || h.Service == nil {
		return inner
	}
	return h.Service(inner)
}

func (h *Hooks) requests(inner http.RoundTripper) http.RoundTripper {
	if h == nil || h.Requests == nil {
		return inner
	}
	return h.Requests(inner)
}

func (h *Hooks) apply(s *fsm.State, c *ledger.Command, v fsm.Verifier) (*fsm.State, fsm.Result) {
	if h == nil || h.Apply == nil {
		return fsm.Apply(s, c, v)
	}
	next, result := h.Apply(s, c, v)
	result.Leaves = nil // of whatever the entries are now
	for _, entry := range result.Entries {
		result.Leaves = append(result.Leaves, ledger.LeafHash(entry))
	}
	return next, result
}

func (h *Hooks) members(set []fsm.ReplicaRecord) []fsm.ReplicaRecord {
	if h == nil || h.Members == nil {
		return set
	}
	return h.Members(set)
}

func (h *Hooks) records() bool { return h != nil && h.Record != nil }

func (h *Hooks) record(seq uint64, entry []byte) []byte {
	if h == nil || h.Record == nil {
		return entry
	}
	return h.Record(seq, entry)
}

func (h *Hooks) signed(head ledger.Head) {
	if h != nil && h.Signed != nil {
		h.Signed(head)
	}
}

func (h *Hooks) verify(st *ledger.Statement, good bool) bool {
	if h == nil || h.Verify == nil {
		return good
	}
	return h.Verify(st, good)
}

func (h *Hooks) rotation(step string) error {
	if h == nil || h.Rotation == nil {
		return nil
	}
	return h.Rotation(step)
}

func (h *Hooks) point(point string) {
	if h != nil && h.Point != nil {
		h.Point(point)
	}
}
