package keys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"unsafe"

	"github.com/quorate/quorate/ledger/canon"
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

// errTooLong says that a secret has more bytes than one of its kind has.
var errTooLong = errors.New("it is longer than anything of its kind")

// readSecret reads what is left of r, at most so many bytes, and leaves no copy of it
// behind, as growing a slice would.
func readSecret(r io.Reader, most int) (*Secret, error) {
	s := NewSecret(most + 1)
	n, err := readAll(r, s.bytes)
	if err != nil {
		s.Wipe()
		return nil, err
	}
	s.bytes = s.bytes[:n]
	return s, nil
}

// readAll reads r to its end into room, which is larger than that may be. It is not
// io.ReadFull: age says io.ErrUnexpectedEOF itself, of a file that was cut.
func readAll(r io.Reader, room []byte) (n int, err error) {
	for n < len(room) {
		got, err := r.Read(room[n:])
		n += got
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, errTooLong
}

// secretJSON encodes v, whose canonical JSON has fewer than so many bytes, and an end.
func secretJSON(v any, below int, end string) (*Secret, error) {
	s := NewSecret(below)
	line, err := canon.Append(s.bytes[:0], v)
	if err == nil && len(line)+len(end) > below {
		WipeBytes(line) // it grew out of its place
		err = errTooLong
	}
	if err != nil {
		s.Wipe()
		return nil, err
	}
	s.bytes = append(line, end...)
	return s, nil
}

// Format prints no secret, whatever the verb.
func (s *Secret) Format(state fmt.State, _ rune) { fmt.Fprint(state, "secret") }

// WipeBytes writes zeros over b.
func WipeBytes(b []byte) {
	clear(b)
	// Otherwise the compiler may leave out what nobody reads again.
	runtime.KeepAlive(b)
}
