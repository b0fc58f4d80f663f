package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Rotation is when a key is to be rotated. The parts of an epoch are in basis
// points of it.
type Rotation struct {
	Epoch  uint64
	At     uint64 // in Epoch: when to say so
	Change uint64 // in the epoch in which the new key takes effect: when the peer key follows
}

// The parts of an epoch in which rotations are said and peer keys changed: not
// while it begins, when others may not have heard of it, nor while it ends.
const (
	rotationFirst  = 500
	rotationSpread = 8_500
	changeSpread   = 5_500
)

// goldenRatio, times any range of ordinals modulo 2^64, gives points that lie
// evenly, where hashes would clump.
const goldenRatio = 0x9E37_79B9_7F4A_7C15

// RotationDue says when the key of a node, or of a replica, that ends with epoch
// validTo is to be rotated. rotate is how many epochs before its end it may be,
// late in how many of these it would be late. All who share them are spread over
// the epochs between by a hash, and over each epoch by their ordinal, so that no
// moment carries many.
func RotationDue(of ledger.Hash, name string, ordinal, validTo, rotate, late uint64) Rotation {
	b := append(keys.PurposePrefix("rotation"), of[:]...)
	b = append(append(b, name...), 0)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, validTo))
	slots := uint64(1)
	if rotate > late+1 {
		slots = rotate - late
	}
	first := validTo + 1 - min(validTo+1, rotate)
	return Rotation{
		Epoch:  first + binary.BigEndian.Uint64(sum[:])%slots,
		At:     rotationFirst + shareOf(rotationSpread, ordinal*goldenRatio),
		Change: rotationFirst + shareOf(changeSpread, ordinal*goldenRatio),
	}
}

// shareOf is spread times point / 2^64.
func shareOf(spread, point uint64) uint64 {
	high, _ := bits.Mul64(spread, point)
	return high
}
