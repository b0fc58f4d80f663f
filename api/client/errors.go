package client

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/ledger"
)

// EquivocationError says that two certified heads contradict each other: at
// least a certifying quorum's overlap of replicas signed both. It is evidence
// that anyone can check: both notes verify under the authority chain, and Proof
// shows that the offered head's tree has another prefix of the kept head's
// size (for heads of one size it is empty, the roots differ).
type EquivocationError struct {
	Server        string
	Kept, Offered []byte // notes
	Proof         []ledger.Hash
	PrefixRoot    ledger.Hash // of the offered tree at the kept size
}

func (e *EquivocationError) Error() string {
	return fmt.Sprintf("EQUIVOCATION: %s offers a certified head that contradicts the one verified before; keep both notes as evidence, trust neither, and ask the other operators", e.Server)
}

// RollbackError says that a server offers a head behind the one verified
// before, or lacks what that head covers. One server may merely lag; when all
// do, the ledger was rolled back or the client is being kept from the present.
type RollbackError struct {
	Server        string
	Kept, Offered uint64 // sizes; Offered is 0 when the server only lacks something
}

func (e *RollbackError) Error() string {
	if e.Offered == 0 {
		return fmt.Sprintf("%s lacks entries that are covered by the head of %d entries verified before", e.Server, e.Kept)
	}
	return fmt.Sprintf("%s offers a head of %d entries, behind the %d verified before", e.Server, e.Offered, e.Kept)
}

// UnkeptError says that the newest head could not be written to TrustDir, as on a
// full disk. It was verified and holds for this run; a rollback between this run
// and the next would go unseen.
type UnkeptError struct{ Err error }

func (e *UnkeptError) Error() string { return "the newest verified head is not kept: " + e.Err.Error() }
func (e *UnkeptError) Unwrap() error { return e.Err }

// StaleError says that the newest head that can be had was signed too long ago
// to be called current.
type StaleError struct {
	Signed   time.Time
	Age, Max time.Duration
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("the newest certified head was last signed at %s, %s ago; at most %s is current", e.Signed.UTC().Format(time.RFC3339), e.Age.Round(time.Second), e.Max)
}

// ProofError says that a server's answer does not prove what it says. It
// proves nothing about the ledger: another server may answer well.
type ProofError struct {
	Server string
	What   string
	Err    error
}

func (e *ProofError) Error() string {
	return fmt.Sprintf("%s gives no valid proof of %s: %v", e.Server, e.What, e.Err)
}

func (e *ProofError) Unwrap() error { return e.Err }

// TrustError says that what TrustDir holds can't be used. It is never put
// aside silently: it is what protects from a rollback.
type TrustError struct {
	Dir string
	Err error
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("read trust in %s: %v; if you are sure, remove it to begin again from the genesis hash", e.Dir, e.Err)
}

func (e *TrustError) Unwrap() error { return e.Err }
