package audit

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/quorate/quorate/ledger/archive"
)

// The steps of Verify, in their order. DESIGN.md says what each one proves.
const (
	StepFiles     = "files"
	StepHead      = "head"
	StepTree      = "tree"
	StepEntry     = "entry"
	StepSignature = "signature"
	StepReplay    = "replay"
	StepProof     = "proof"
	StepView      = "view"
)

// BadError names the first thing in an export that is wrong. Any other error
// of this package is about the machine or the call, not about the export.
type BadError struct {
	Seq    uint64 // the entry; meaningful when HasSeq
	HasSeq bool
	File   string // its path within the export
	Step   string
	Reason error
}

func (e *BadError) Error() string {
	where := e.File + ": "
	if e.HasSeq {
		where += fmt.Sprintf("entry %d: ", e.Seq)
	}
	return e.Step + ": " + where + e.Reason.Error()
}

func (e *BadError) Unwrap() error { return e.Reason }

func badFile(step, file string, reason error) *BadError {
	return &BadError{Step: step, File: file, Reason: reason}
}

// badEntry blames an entry of a ledger of the given size, and the bundle that
// holds it.
func badEntry(step string, seq, size uint64, reason error) *BadError {
	n := seq / archive.TileWidth
	return &BadError{Step: step, Seq: seq, HasSeq: true, Reason: reason, File: archive.BundlePath(n, bundleWidth(n, size))}
}

// bundleWidth is the number of entries in bundle n of a ledger.
func bundleWidth(n, size uint64) int {
	return int(min(size-min(size, n*archive.TileWidth), archive.TileWidth))
}

// What can be wrong with a file before its content is looked at.
var (
	errTooLarge = errors.New("the file is too large")
	errOddFile  = errors.New("it does not belong in an export")
)

// readError judges why a file could not be read: that it is missing, too large
// or no file is the export's fault, the rest is the disk's or the network's.
func readError(step, path string, err error) error {
	for _, fault := range []error{fs.ErrNotExist, errTooLarge, errOddFile} {
		if errors.Is(err, fault) {
			return badFile(step, path, fault)
		}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
