package archive

import (
	"errors"
	"fmt"
	"syscall"
)

// What callers branch on, by errors.Is. ConflictError and GapError carry the numbers, by errors.As.
var (
	ErrConflict = errors.New("archive: different bytes for one seq")
	ErrGap      = errors.New("archive: gap in the history")
	ErrNotFound = errors.New("archive: not found")
	ErrClosed   = errors.New("archive: closed")

	// ErrFailed is final for this handle: a write or an fsync failed, so that what the disk holds is not
	// known. Reads go on; only opening the archive anew, which rewrites what was not in a full bundle,
	// makes it writable. The error also wraps its cause (syscall.ENOSPC, say).
	ErrFailed = errors.New("archive: failed for writes")

	// ErrFull is not final: a write found no space. What it left is not trusted; the entries stay in
	// memory, and the next Sync writes all of them anew, to new files.
	ErrFull = errors.New("archive: no space to write")
)

// fsyncError is what an fsync gave. The kernel may have dropped what it could not write, and call it
// clean: whatever the errno, it is final.
type fsyncError struct {
	name string
	err  error
}

func (e *fsyncError) Error() string { return fmt.Sprintf("fsync %s: %v", e.name, e.err) }
func (e *fsyncError) Unwrap() error { return e.err }

// noSpace says whether a write was refused for want of space, before any fsync.
func noSpace(err error) bool {
	var synced *fsyncError
	return (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.As(err, &synced)
}

// ConflictError says that other bytes than ours were offered for entry Seq or, from Backfill, that the
// entries from Seq on do not hash to what the island's frontier demands.
type ConflictError struct{ Seq uint64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("archive: different bytes for entry %d", e.Seq)
}

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// GapError says that the entries [From, To) are not here.
type GapError struct{ From, To uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("archive: entries %d to %d (exclusive) are missing", e.From, e.To)
}

// Is makes errors.Is(err, ErrGap) hold.
func (e *GapError) Is(target error) bool { return target == ErrGap }

// DamageError says that bytes on the disk are not those that were written. File is relative to the
// archive's folder. Offset is where the damaged record, entry or hash begins.
type DamageError struct {
	File   string
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("archive: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

func notFound(what string, n, size uint64) error {
	return fmt.Errorf("%w: %s %d of a history of %d entries", ErrNotFound, what, n, size)
}
