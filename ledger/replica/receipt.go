package replica

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// EntryReceipt is this replica's COSE Receipt (RFC 9942) of entry seq in the
// newest certified tree. It errs with archive.ErrNotFound when that tree does
// not hold the entry, and with ErrCatchingUp when this replica is not among
// those who certify.
func (r *Replica) EntryReceipt(seq uint64) ([]byte, error) {
	if err := r.serving(); err != nil {
		return nil, err
	}
	now := r.certifier.now.Load()
	if now == nil || seq >= now.checkpoint.Head.Size {
		return nil, fmt.Errorf("receipt of entry %d: %w", seq, archive.ErrNotFound)
	}
	by := r.ring.Load().in(now.authority)
	if by == nil {
		return nil, fmt.Errorf("receipt of entry %d: %w: this replica does not certify", seq, ErrCatchingUp)
	}
	head := now.checkpoint.Head
	path, err := r.archive.ProveInclusion(seq, head.Size)
	if err != nil {
		return nil, fmt.Errorf("receipt of entry %d: %w", seq, err)
	}
	proof := make([]ledger.Hash, len(path))
	for i, h := range path {
		proof[i] = ledger.Hash(h)
	}
	return ledger.SignReceipt(by.key, seq, head.Size, head.Root, proof).Encode(), nil
}
