package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// What is split is the file key of an age file: 16 bytes, as the low half of a
// scalar of Ristretto255 (little endian, the upper half is zero). Shamir's
// scheme over that field: any k of n values give it, fewer tell nothing of it.

// fileKeySize is the size of an age file key.
const fileKeySize = 16

// ShareSize is the size of a share's value, a scalar in canonical form.
const ShareSize = 32

// SetSize is the size of what names a set of shares that belong together.
const SetSize = 16

// Share is one of the n values that a file key was split into. Its index is
// from 1 to n. Printing it shows no value.
type Share struct {
	Set   [SetSize]byte
	Index byte
	Value [ShareSize]byte
}

// sharePurpose begins what Share.Hash hashes.
const sharePurpose = "share"

// Hash is what the ledger records of a share:
// SHA-256("quorate/share/v1\n\0" || set || index || value). The value is
// uniform in 2^252, so that nobody finds it from the hash.
func (s *Share) Hash() [sha256.Size]byte {
	h := sha256.New()
	h.Write(PurposePrefix(sharePurpose))
	h.Write(s.Set[:])
	h.Write([]byte{s.Index})
	h.Write(s.Value[:])
	return [sha256.Size]byte(h.Sum(nil))
}

// Wipe writes zeros over the value.
func (s *Share) Wipe() { WipeBytes(s.Value[:]) }

// Format prints no value, whatever the verb.
func (s Share) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "share %d of set %x", s.Index, s.Set)
}

// Split is a file key in shares: any K of the N give it.
type Split struct {
	Set    [SetSize]byte
	K      int
	Shares []Share // of index 1 to N
}

// Wipe writes zeros over all values.
func (s *Split) Wipe() {
	for i := range s.Shares {
		s.Shares[i].Wipe()
	}
}

// splitFileKey splits a file key into n shares of a new set.
func splitFileKey(fileKey []byte, k, n int) (*Split, error) {
	if k < MinThreshold || k > n || n > MaxShares {
		return nil, fmt.Errorf("split: %d of %d shares, want %d <= k <= n <= %d", k, n, MinThreshold, MaxShares)
	}
	invariant(len(fileKey) == fileKeySize, "an age file key has 16 bytes")
	split := &Split{K: k, Shares: make([]Share, n)}
	// crypto/rand.Read never fails (Go 1.24 and later).
	_, _ = rand.Read(split.Set[:])
	var padded [ShareSize]byte
	defer WipeBytes(padded[:])
	copy(padded[:], fileKey)
	secret := group.Ristretto255.NewScalar()
	defer wipeScalar(secret)
	if err := secret.UnmarshalBinary(padded[:]); err != nil {
		return nil, fmt.Errorf("split: %w", err)
	}
	// The library counts those who may be corrupted: one fewer than it takes.
	// It reads crypto/rand itself.
	for i, s := range secretsharing.New(rand.Reader, uint(k-1), secret).Share(uint(n)) {
		value, err := s.Value.MarshalBinary()
		wipeScalar(s.Value)
		if err != nil {
			return nil, fmt.Errorf("split: %w", err)
		}
		split.Shares[i] = Share{Set: split.Set, Index: byte(i + 1), Value: [ShareSize]byte(value)}
		WipeBytes(value)
	}
	return split, nil
}

// wipeScalar writes zeros over a scalar.
func wipeScalar(s group.Scalar) { s.SetUint64(0) }

var (
	// ErrTooFewShares says that fewer shares are there than it takes.
	ErrTooFewShares = errors.New("too few shares")
	// ErrShares says that shares do not fit together.
	ErrShares = errors.New("the shares do not fit together")
)

// Combine gives the file key that k or more shares of one set stand for. Those
// beyond k are checked against the polynomial of the first k. That the key is
// the right one only the file's own MAC shows: a foreign share gives ErrShares
// nearly always, because the upper half of the scalar is then not zero, but one
// that was changed on purpose can aim at another key. Which share it was Combine
// never says: Share.Hash does.
func Combine(k int, shares []Share) (fileKey [fileKeySize]byte, err error) {
	err = combine(k, shares, fileKey[:])
	return fileKey, err
}

// combine is Combine into room that the caller wipes: fileKeySize bytes, which are left
// as they are if it fails.
func combine(k int, shares []Share, into []byte) error {
	if k < MinThreshold || k > MaxShares {
		return fmt.Errorf("combine: a threshold of %d, want %d to %d", k, MinThreshold, MaxShares)
	}
	if len(shares) < k {
		return fmt.Errorf("combine: %d of %d: %w", len(shares), k, ErrTooFewShares)
	}
	if len(shares) > MaxShares {
		return fmt.Errorf("combine: %d shares, at most %d", len(shares), MaxShares)
	}
	points := make([]secretsharing.Share, len(shares))
	defer func() {
		for _, p := range points {
			if p.Value != nil {
				wipeScalar(p.Value)
			}
		}
	}()
	var seen [256]bool
	for i := range shares {
		s := &shares[i]
		switch {
		case s.Set != shares[0].Set:
			return fmt.Errorf("combine: shares of two sets: %w", ErrShares)
		case s.Index == 0 || seen[s.Index]:
			return fmt.Errorf("combine: index %d is there twice or is zero: %w", s.Index, ErrShares)
		}
		seen[s.Index] = true
		points[i] = secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(s.Index)), Value: group.Ristretto255.NewScalar()}
		if err := points[i].Value.UnmarshalBinary(s.Value[:]); err != nil {
			return fmt.Errorf("combine: the value of share %d is no scalar: %w", s.Index, ErrShares)
		}
	}
	for extra := k; extra < len(points); extra++ {
		if !onPolynomial(points[:k], points[extra]) {
			return fmt.Errorf("combine: share %d is not on the polynomial of the others: %w", shares[extra].Index, ErrShares)
		}
	}
	return fileKeyOf(points[:k], into)
}

// fileKeyOf interpolates at zero, and demands a scalar that can be a file key.
func fileKeyOf(points []secretsharing.Share, into []byte) error {
	secret, err := secretsharing.Recover(uint(len(points)-1), points)
	if err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	defer wipeScalar(secret)
	padded, err := secret.MarshalBinary()
	if err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	defer WipeBytes(padded)
	var zero [ShareSize - fileKeySize]byte
	if subtle.ConstantTimeCompare(padded[fileKeySize:], zero[:]) != 1 {
		return fmt.Errorf("combine: they give no file key: %w", ErrShares)
	}
	copy(into, padded[:fileKeySize])
	return nil
}

// onPolynomial says whether a further point lies on the polynomial that the
// points determine: interpolated at its index it has the point's value. The
// library interpolates at zero only, so everything is moved there.
func onPolynomial(points []secretsharing.Share, further secretsharing.Share) bool {
	moved := make([]secretsharing.Share, len(points))
	for i, p := range points {
		moved[i] = secretsharing.Share{ID: group.Ristretto255.NewScalar().Sub(p.ID, further.ID), Value: p.Value}
	}
	at, err := secretsharing.Recover(uint(len(points)-1), moved)
	if err != nil {
		return false
	}
	defer wipeScalar(at)
	return at.IsEqual(further.Value)
}
