package archive

import (
	"encoding/binary"
	"hash/crc32"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// cursor reads big-endian fields; after the first that is cut, bad stays set and all else is zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.bad = true
		c.b = nil
		return make([]byte, n)
	}
	taken := c.b[:n]
	c.b = c.b[n:]
	return taken
}

func (c *cursor) u8() int     { return int(c.take(1)[0]) }
func (c *cursor) u16() int    { return int(binary.BigEndian.Uint16(c.take(2))) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

func (c *cursor) hashes(n int) []tlog.Hash {
	if n == 0 || n*hashSize > len(c.b) {
		c.bad = c.bad || n != 0
		return nil
	}
	hashes := make([]tlog.Hash, n)
	for i := range hashes {
		copy(hashes[i][:], c.take(hashSize))
	}
	return hashes
}

// parseTailHeader reads the header and gives the chain as it is at base, without its records, and the
// offset of the first record. A reason says what is wrong.
func parseTailHeader(data []byte) (t tailFile, salt uint32, length int, reason string) {
	if len(data) < tailHeaderFixed+4 || !strings.HasPrefix(string(data[:len(tailMagic)]), tailMagic) {
		return t, 0, 0, "not a tail file"
	}
	in := &cursor{b: data[len(tailMagic):]}
	length = int(in.u32())
	if length < tailHeaderFixed+4 || length > len(data) {
		return t, 0, 0, "the header is cut"
	}
	sum := binary.BigEndian.Uint32(data[length-4:])
	if sum != crc32.Checksum(data[:length-4], castagnoli) {
		return t, 0, 0, "the header does not match its checksum"
	}
	in.b = in.b[:length-4-len(tailMagic)-4]
	salt = in.u32()
	c := &t.chain
	c.first, c.base, t.sealed, t.whole = in.u64(), in.u64(), in.u64(), in.u64()
	c.size = c.base
	c.frontier = Frontier{Size: c.first, Hashes: in.hashes(in.u8())}
	if in.u8() != maxLevels-1 {
		in.bad = true
	}
	for l := 1; l < maxLevels && !in.bad; l++ {
		lv := &c.levels[l]
		lv.bound = in.hashes(in.u16())
		lv.start = in.u64()
		lv.hashes = in.hashes(in.u16())
	}
	if in.bad || len(in.b) != 0 || !c.wellFormed() || t.sealed < c.base {
		return t, 0, 0, "the header contradicts itself"
	}
	c.levels[0].start = c.base
	return t, salt, length, ""
}

// wellFormed checks the shape of a chain read from a header, before its records: whatever passes can be
// pushed to without breaking an invariant.
func (c *chain) wellFormed() bool {
	if c.frontier.Validate() != nil || c.base > maxSize || c.base < c.first ||
		(c.base != c.first && c.base%TileWidth != 0) {
		return false
	}
	for l := 1; l < maxLevels; l++ {
		lv := &c.levels[l]
		edge, count := position(c.first, l), position(c.base, l)
		start, bound := edge, uint64(0)
		if aligned := count &^ (TileWidth - 1); aligned > edge {
			start = aligned
			bound = (TileWidth - edge%TileWidth) % TileWidth
		}
		if lv.start != start || uint64(len(lv.bound)) != bound || uint64(len(lv.hashes)) != count-start {
			return false
		}
	}
	return true
}
