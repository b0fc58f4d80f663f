package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"
)

// ID names a key: SHA-256 of the ML-DSA-65 public key's 1,952 bytes. It appears
// once on a ledger, in one role, for ever.
type ID [sha256.Size]byte

// String gives 64 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Words gives the twelve words of the first 128 bits, which people compare
// aloud.
func (id ID) Words() string { return Words([16]byte(id[:16])) }

// ParseID reads what String gives, and nothing else: one id has one text.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != 2*len(id) || strings.ToLower(text) != text {
		return ID{}, fmt.Errorf("parse key id: want %d lower-case hex digits", 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return ID{}, fmt.Errorf("parse key id: %w", err)
	}
	return id, nil
}

// Words gives the BIP-39 English mnemonic of 128 bits, its checksum of 4 bits
// included: 12 words with single spaces. It serves to compare key ids, genesis
// hashes and statement ids by voice; it is never a secret.
func Words(b [16]byte) string {
	words, err := bip39.NewMnemonic(b[:])
	invariant(err == nil, "BIP-39 takes 128 bits")
	return words
}

// ErrWords says that a text is not twelve words that belong together.
var ErrWords = errors.New("not twelve words of the BIP-39 English list with a right checksum")

// ParseWords reads what Words gives, as people type it: in any case, with any
// white space. An error wraps ErrWords.
func ParseWords(text string) ([16]byte, error) {
	if len(text) > maxWordsText {
		return [16]byte{}, fmt.Errorf("parse words: %w", ErrWords)
	}
	words := strings.Fields(strings.ToLower(text))
	if len(words) != 12 {
		return [16]byte{}, fmt.Errorf("parse words: there are %d: %w", len(words), ErrWords)
	}
	b, err := bip39.EntropyFromMnemonic(strings.Join(words, " "))
	if err != nil {
		return [16]byte{}, fmt.Errorf("parse words: %w", ErrWords)
	}
	return [16]byte(b), nil
}

// invariant stops the program on a mistake of our own. Bad input never gets
// here.
func invariant(holds bool, message string) {
	if !holds {
		panic("keys: invariant broken: " + message)
	}
}
