package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

var errBundle = errors.New("archive: not an entry bundle")

// ParseBundle splits an entry bundle, which is a two-byte big-endian length and the entry, repeated (C2SP
// tlog-tiles): 1 to 256 entries of 1 to 65,535 bytes, and nothing after them. The entries share b's
// memory.
func ParseBundle(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty", errBundle)
	}
	var entries [][]byte
	for off := 0; off < len(b); {
		if len(entries) == TileWidth {
			return nil, fmt.Errorf("%w: more than %d entries", errBundle, TileWidth)
		}
		entry, ok := nextOfBundle(b[off:])
		if !ok {
			return nil, fmt.Errorf("%w: entry %d at offset %d is cut or empty", errBundle, len(entries), off)
		}
		entries = append(entries, entry)
		off += 2 + len(entry)
	}
	return entries, nil
}

// nextOfBundle is the first entry of b.
func nextOfBundle(b []byte) ([]byte, bool) {
	if len(b) < 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || len(b) < 2+n {
		return nil, false
	}
	return b[2 : 2+n : 2+n], true
}

// encodeBundle is the inverse of ParseBundle.
func encodeBundle(entries [][]byte) []byte { return appendBundle(nil, entries) }

func appendBundle(b []byte, entries [][]byte) []byte {
	b = slices.Grow(b, bytesOf(entries)+2*len(entries))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b
}
