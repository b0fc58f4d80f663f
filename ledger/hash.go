// Package ledger holds the bytes of the ledger: statements, entries, the state
// trie, checkpoints and the authority chain, as FORMAT.md settles them. It is
// pure: it reads no clock, disk or network.
package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256 value: an entry's leaf hash, a statement id, a key id or a
// tree root. In JSON it is bytes (unpadded base64url), in text lower-case hex.
type Hash [32]byte

// String returns h as 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is 32 zero bytes.
func (h Hash) IsZero() bool { return h == Hash{} }

// ParseHash reads 64 lower-case hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return h, fmt.Errorf("parse hash: want 64 hex digits, got %d characters", len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return h, fmt.Errorf("parse hash: %w", err)
	}
	if h.String() != s {
		return h, fmt.Errorf("parse hash: want lower-case hex digits")
	}
	return h, nil
}

// LeafHash is the RFC 6962 leaf hash of an entry, which is also its chain hash.
func LeafHash(entry []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(entry)
	var out Hash
	h.Sum(out[:0])
	return out
}
