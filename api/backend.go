package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
)

// Backend is what the API needs of a replica. FromReplica makes one.
type Backend interface {
	// Submit proposes the statements to the ledger, forwarding to the leader. It
	// keeps them. Its errors are those below.
	Submit(ctx context.Context, statements []*ledger.Statement, wait client.Wait) (*Receipt, error)
	// View gives the state of a consistency of package client.
	View(ctx context.Context, consistency string) (*View, error)
	// Checkpoint gives the newest certified head, nil before the first.
	Checkpoint() (note []byte, size uint64)
	// Archive is the history; the API serves nothing at or above the certified size from it.
	Archive() *archive.Archive
	// AuthorityLink gives a link of the authority chain, encoded; AuthorityIndex the newest one's index.
	AuthorityLink(n uint64) ([]byte, error)
	AuthorityIndex() uint64
	// LogVKeys lists the verifier keys that the log has had, up to the newest authority.
	LogVKeys() []ledger.LogVKeys
	// Changed is closed at the next change of the applied or certified size.
	Changed() <-chan struct{}
	// Status is how the replica sees itself.
	Status() client.Status
	// Simulate gives the effect of executing an action now.
	Simulate(ctx context.Context, action string, args canon.Raw, author string) (fsm.Diff, fsm.Verdict, error)
}

// Operations is what only the local socket offers.
type Operations interface {
	Snapshot(ctx context.Context) error
	TransferLeadership(ctx context.Context, name string) error
	Peers() []client.PeerStatus
	NewLogKey() (ledger.LogKeys, error)
	ForkProofs() ([][]byte, error) // files
}

// Receipt is what became of an accepted submission.
type Receipt struct {
	Verdicts    []fsm.Verdict // one a statement
	First, Last uint64        // seqs
	Stamp       uint64        // milliseconds
	Level       client.Wait   // what was waited for, and reached
	Checkpoint  uint64        // size of the certified head that covers it, if one does yet
}

// View is a state to read from.
type View struct {
	State      *fsm.State
	Size       uint64 // entries that it reflects
	Checkpoint []byte // newest certified note
	Certified  bool   // the checkpoint covers the state
	Signed     uint64 // milliseconds: when the threshold last signed the checkpoint
}

// RejectedError says that the rules refuse a submission: nothing of it is on
// the ledger.
type RejectedError struct{ Verdicts []fsm.Verdict }

func (e *RejectedError) Error() string {
	for _, v := range e.Verdicts {
		if v.Code != fsm.OK {
			return fmt.Sprintf("rejected: %s: %s", v.Code, v.Detail)
		}
	}
	return "rejected"
}

// BusyError says that a queue is full.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string { return "too many submissions are waiting" }

// What a Backend fails with, besides *RejectedError, *BusyError, archive's
// errors and the context's.
var (
	ErrNotLeader      = errors.New("this replica is not the leader")
	ErrNoLeader       = errors.New("no leader, or no quorum")
	ErrUnknownOutcome = errors.New("the outcome of the submission is not known")
	ErrDiskFull       = errors.New("the disk is full or failed")
	ErrStopped        = errors.New("the replica is stopping")
	ErrHalted         = errors.New("the replica has halted")
	ErrNotReady       = errors.New("the replica has no such state yet")
	ErrNotFound       = errors.New("not found")
)
