package keys

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// Secret is memory for what nobody else may see: seeds, share values, file
// keys, passphrases. It has pages of its own, which are kept out of the swap
// where the system allows it, and prints as "secret", whatever the verb.
//
// Go copies values freely, and strings cannot be wiped: DESIGN.md lists what
// stays in memory all the same.
type Secret struct {
	bytes []byte
	pages []byte // what bytes is the beginning of, whole pages; nil after Wipe
}

// NewSecret makes a secret of size zero bytes.
func NewSecret(size int) *Secret {
	page := os.Getpagesize()
	whole := (max(size, 1) + page - 1) / page * page
	// Aligned, so that locking and unlocking its pages concerns nothing else.
	room := make([]byte, whole+page-1)
	skip := (page - int(uintptr(unsafe.Pointer(&room[0]))%uintptr(page))) % page
	s := &Secret{pages: room[skip : skip+whole : skip+whole]}
	s.bytes = s.pages[:size:size]
	lockMemory(s.pages)
	return s
}

// SecretOf takes b into a secret, and wipes b.
func SecretOf(b []byte) *Secret {
	s := NewSecret(len(b))
	copy(s.bytes, b)
	WipeBytes(b)
	return s
}

// Bytes gives the secret itself, not a copy: nil after Wipe.
func (s *Secret) Bytes() []byte {
	if s == nil {
		return nil
	}
	return s.bytes
}

// Wipe writes zeros over the secret. It may be called again, and of nil.
func (s *Secret) Wipe() {
	if s == nil || s.pages == nil {
		return
	}
	WipeBytes(s.pages)
	unlockMemory(s.pages)
	s.bytes, s.pages = nil, nil
}

// Format prints no secret, whatever the verb.
func (s *Secret) Format(state fmt.State, _ rune) { fmt.Fprint(state, "secret") }

// WipeBytes writes zeros over b.
func WipeBytes(b []byte) {
	clear(b)
	// Otherwise the compiler may leave out what nobody reads again.
	runtime.KeepAlive(b)
}
