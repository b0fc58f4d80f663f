// Package secretscan searches everything that a run wrote for the secrets that it
// used: raw and reversed bytes, hexadecimal, base64 at every alignment, and the
// decimal lists that Go and JSON print of bytes; in files, and in the archives and
// compressed streams that files are. Half of a secret is enough to be found, so
// that no cut hides one, and everything is looked at a second time without its white
// space, so that no line break does.
package secretscan

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Secret is something that may stand nowhere but in its own files.
type Secret struct {
	Name  string
	Bytes []byte // at least minSecret of them
	// Own are the files that may hold it as it is, relative to the scanned folder.
	Own []string
}

// Found is a secret where it stands. At is the place of the bytes in the file, or
// in what was unpacked of it.
type Found struct {
	Secret, Encoding, Path string
	At                     int64
}

func (f Found) String() string {
	return fmt.Sprintf("%s stands in %s at %d, as %s", f.Secret, f.Path, f.At, f.Encoding)
}

// Scanner knows what it looks for. It is safe for use by several goroutines.
type Scanner struct {
	secrets []Secret
	needles map[uint64][]needle // by their first eight bytes
	first   [1 << 16]bool       // by their first two bytes
	longest int
}

type needle struct {
	secret   int
	encoding string
	bytes    []byte
}

// New makes a scanner. It refuses secrets that are so short that they would be
// found everywhere.
func New(secrets []Secret) (*Scanner, error) {
	if len(secrets) == 0 {
		return nil, fmt.Errorf("there is nothing to look for")
	}
	s := &Scanner{secrets: slices.Clone(secrets), needles: map[uint64][]needle{}}
	for i, secret := range secrets {
		if len(secret.Bytes) < minSecret {
			return nil, fmt.Errorf("%s has %d bytes, and %d would stand anywhere by chance", secret.Name, len(secret.Bytes), len(secret.Bytes))
		}
		for _, part := range parts(secret.Bytes) {
			for encoding, b := range encodings(part) {
				s.add(needle{i, encoding, b})
			}
		}
	}
	return s, nil
}

func (s *Scanner) add(n needle) {
	key := binary.BigEndian.Uint64(n.bytes)
	if slices.ContainsFunc(s.needles[key], func(o needle) bool { return o.secret == n.secret && bytes.Equal(o.bytes, n.bytes) }) {
		return // base64 without a character that the alphabets differ in
	}
	s.needles[key] = append(s.needles[key], n)
	s.first[binary.BigEndian.Uint16(n.bytes)] = true
	s.longest = max(s.longest, len(n.bytes))
}

// parts are the beginning and the end of a secret, or a short one whole.
func parts(secret []byte) [][]byte {
	size := min(len(secret)/2, partBytes)
	if size < minPart {
		return [][]byte{secret}
	}
	return [][]byte{secret[:size], secret[len(secret)-size:]}
}

// encodings are the ways in which bytes may have been written, each at least eight
// bytes long.
func encodings(b []byte) map[string][]byte {
	backwards := slices.Clone(b)
	slices.Reverse(backwards)
	lower := hex.EncodeToString(b)
	spaced := strings.Trim(fmt.Sprint(b), "[]")
	list := map[string][]byte{
		"bytes":              b,
		"bytes, reversed":    backwards,
		"hex":                []byte(lower),
		"hex, upper case":    []byte(strings.ToUpper(lower)),
		"decimal, spaces":    []byte(spaced),
		"decimal, commas":    []byte(strings.ReplaceAll(spaced, " ", ",")),
		"decimal, both":      []byte(strings.ReplaceAll(spaced, " ", ", ")),
		"Go's hex with both": []byte(strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte"), "{}")),
		"hex with spaces":    fmt.Appendf(nil, "% x", b),
		"hex with colons":    []byte(strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")),
	}
	for name, coding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift := range 3 {
			list[fmt.Sprintf("%s, shifted by %d", name, shift)] = aligned(coding, b, shift)
		}
	}
	return list
}

// aligned is what base64 of a longer text holds of b, wherever b begins in it: the
// characters at both ends that depend on the neighbours are left out.
func aligned(coding *base64.Encoding, b []byte, shift int) []byte {
	text := []byte(coding.EncodeToString(append(make([]byte, shift), b...)))
	from := (8*shift + 5) / 6        // the first character that has bits of b only
	to := (8 * (shift + len(b))) / 6 // and the last one, exclusive
	return text[from:min(to, len(text))]
}

// search finds needles in a window, by the places in it where they begin.
func (s *Scanner) search(window []byte, hit func(needle, int)) {
	for i := 0; i+8 <= len(window); i++ {
		if !s.first[uint16(window[i])<<8|uint16(window[i+1])] {
			continue
		}
		for _, n := range s.needles[binary.BigEndian.Uint64(window[i:])] {
			if bytes.HasPrefix(window[i:], n.bytes) {
				hit(n, i)
			}
		}
	}
}
