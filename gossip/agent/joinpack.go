package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// ReadJoinPack reads a join pack file (FORMAT.md section 18). It verifies
// nothing.
func ReadJoinPack(path string) (*ledger.JoinPack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read join pack: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, ledger.MaxProofFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read join pack: %w", err)
	}
	pack, err := ledger.ParseJoinPack(data)
	if err != nil {
		return nil, fmt.Errorf("read join pack %s: %w", path, err)
	}
	return pack, nil
}

// PackError says why an agent does not start from its join pack.
type PackError struct {
	Path string
	Err  error // a *ledger.PackAgeError, *ledger.NotEndorsedError, *ledger.EndorsementError or another
}

func (e *PackError) Error() string { return fmt.Sprintf("join pack %s: %v", e.Path, e.Err) }
func (e *PackError) Unwrap() error { return e.Err }

// begin is what an agent begins with: the chain that its join pack proves, and
// the head that the ledger must contain. Its zero value is the genesis hash alone.
type begin struct {
	note  []byte
	head  *ledger.Head
	links [][]byte
}

// openPack verifies the join pack. Its age counts as long as nothing that the
// agent verified is on its disk: afterwards it is never led back behind that.
func (a *Agent) openPack(now time.Time) error {
	path := a.config.JoinPack
	if path == "" {
		return nil
	}
	pack, err := ReadJoinPack(path)
	if err != nil {
		return &PackError{path, err}
	}
	report, err := pack.Verify(a.genesis)
	if err != nil {
		return &PackError{path, err}
	}
	if !a.store.begun(a.genesis) {
		limit := a.config.MaxPackAge
		if limit == 0 {
			limit = ledger.MaxEndorsedAgeMillis * time.Millisecond
		}
		if err := report.Recent(uint64(now.UnixMilli()), uint64(limit.Milliseconds())); err != nil {
			return &PackError{path, err}
		}
	}
	a.pack = begin{note: []byte(pack.Checkpoint), head: &report.Head}
	for _, link := range pack.Authority {
		raw, err := link.Encode()
		if err != nil {
			return &PackError{path, err}
		}
		a.pack.links = append(a.pack.links, raw)
	}
	return nil
}

// errNotInHistory says that what is shown as the ledger does not contain the join
// pack's head.
var errNotInHistory = errors.New("the history that is shown does not contain the head that the join pack's governors endorsed")

// beside says, as long as the ledger was not seen to contain the pack's head, that
// an error of those who show it is about that.
func (a *Agent) beside(err error) {
	a.mu.Lock()
	reached := a.chronicle.reached
	a.mu.Unlock()
	if reached || a.pack.head == nil {
		a.trouble.set(troublePack, nil)
		return
	}
	if disproves(err) {
		a.trouble.set(troublePack, fmt.Errorf("%w (size %d): %w", errNotInHistory, a.pack.head.Size, err))
	}
}

// disproves reports whether an error is of what was shown, not of showing it.
func disproves(err error) bool {
	var proof *client.ProofError
	var rollback *client.RollbackError
	var equivocation *client.EquivocationError
	var lie *lieError
	return errors.As(err, &proof) || errors.As(err, &rollback) || errors.As(err, &equivocation) || errors.As(err, &lie)
}
