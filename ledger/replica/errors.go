package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
)

// What callers branch on, by errors.Is.
var (
	// ErrNotLeader: only the leader can do this; Status names it.
	ErrNotLeader = errors.New("this replica is not the leader")
	// ErrNoLeader: no leader was found in time, or it is out of reach. Nothing
	// was acknowledged.
	ErrNoLeader = errors.New("no leader")
	// ErrUnknownOutcome: the statement may or may not have been committed.
	// Submit the same bytes again: what was accepted gives its first result.
	ErrUnknownOutcome = errors.New("unknown outcome: submit the same bytes again")
	// ErrDiskFull: the disk refused a write; reads go on.
	ErrDiskFull = errors.New("disk full or failed: writes are refused")
	// ErrStopped: the replica is not running.
	ErrStopped = errors.New("replica stopped")
	// ErrHalted: the replica found that its history is not the ledger's, and
	// neither votes, signs nor serves. Status says why.
	ErrHalted = errors.New("replica halted")
	// ErrCatchingUp: the replica has not yet the state that was asked for.
	ErrCatchingUp = errors.New("replica is catching up")
)

// BusyError: the queue is full. Nothing was looked at.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string {
	return fmt.Sprintf("busy: try again in %s", e.RetryAfter)
}

// RejectedError: the rules reject the submission, whole. One verdict a
// statement, in order.
type RejectedError struct{ Verdicts []fsm.Verdict }

func (e *RejectedError) Error() string {
	for _, v := range e.Verdicts {
		if v.Code != 0 {
			return fmt.Sprintf("rejected: %s: %s", v.Code, v.Detail)
		}
	}
	return "rejected"
}

// HaltedError wraps ErrHalted with the reason.
type HaltedError struct{ Reason string }

func (e *HaltedError) Error() string { return "replica halted: " + e.Reason }

// Is makes errors.Is(err, ErrHalted) hold.
func (e *HaltedError) Is(target error) bool { return target == ErrHalted }
