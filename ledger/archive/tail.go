package archive

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// The tail file holds the entries past the last full bundle, and what is needed to go on from there
// without reading any other file:
//
//	header: magic[16] | u32 header length | u32 salt | u64 first | u64 base | u64 sealed | u64 whole
//	        | u8 n | n frontier hashes                         (of size first)
//	        | u8 levels | for each tile level from 1 on:
//	              u16 n | n bound hashes | u64 start | u16 n | n hashes
//	        | u32 CRC-32C of all before
//	record: u32 salt | u32 length | u64 seq | u64 synced | u32 CRC-32C of the entry
//	        | u32 CRC-32C of the 28 bytes before | entry
//
// All integers are big endian. An island's records begin with those of its head. The header is written
// with a whole new file that is fsynced and renamed, so it is never torn; records are appended.
//
// Entries below sealed were fsynced with the header, before the file had its name. synced is the durable size at the moment of writing, so that a record whose seq is below the synced of
// any later record is known to have been durable: if it is bad, that is damage and no torn write. The
// salt is random and differs in each file, so that no entry's content can pass for a record.
const (
	tailMagic        = "quorate tail v1\n"
	recordHeaderSize = 32
	tailHeaderFixed  = len(tailMagic) + 4 + 4 + 8 + 8 + 8 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tailFile is the content of a tail file.
type tailFile struct {
	chain chain
	// whole is, in a file of staged backfill, the size of the history that it continues.
	whole  uint64
	sealed uint64
	// torn says that a torn write was found and left out; end is the offset after the last record.
	torn bool
	end  int64
}

func newSalt() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// appendTailHeader writes the header of a file that is to begin with all of a chain, whose full bundles
// are all on the disk.
func appendTailHeader(b []byte, c *chain, whole uint64, salt uint32) []byte {
	begin := len(b)
	b = append(b, tailMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, salt)
	b = binary.BigEndian.AppendUint64(b, c.first)
	b = binary.BigEndian.AppendUint64(b, c.base)
	b = binary.BigEndian.AppendUint64(b, c.size)
	b = binary.BigEndian.AppendUint64(b, whole)
	b = append(b, byte(len(c.frontier.Hashes)))
	b = appendHashes(b, c.frontier.Hashes)
	b = append(b, maxLevels-1)
	for _, lv := range c.levels[1:] {
		b = binary.BigEndian.AppendUint16(b, uint16(len(lv.bound)))
		b = appendHashes(b, lv.bound)
		b = binary.BigEndian.AppendUint64(b, lv.start)
		b = binary.BigEndian.AppendUint16(b, uint16(len(lv.hashes)))
		b = appendHashes(b, lv.hashes)
	}
	binary.BigEndian.PutUint32(b[begin+len(tailMagic):], uint32(len(b)-begin+4))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], castagnoli))
}

// appendRecord writes the record of one entry.
func appendRecord(b []byte, seq, synced uint64, entry []byte, salt uint32) []byte {
	begin := len(b)
	b = binary.BigEndian.AppendUint32(b, salt)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entry)))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, synced)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(entry, castagnoli))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], castagnoli))
	return append(b, entry...)
}

// encodeTail is a file that holds all of a chain, whose full bundles are all on the disk.
func encodeTail(c *chain, whole uint64, salt uint32) []byte {
	return appendTailFile(nil, c, whole, salt)
}

func appendTailFile(b []byte, c *chain, whole uint64, salt uint32) []byte {
	size := maxTailHeader + bytesOf(c.head) + bytesOf(c.entries) + (len(c.head)+len(c.entries))*recordHeaderSize
	b = appendTailHeader(slices.Grow(b, size), c, whole, salt)
	for i, entry := range c.head {
		b = appendRecord(b, c.first+uint64(i), 0, entry, salt)
	}
	for i, entry := range c.entries {
		b = appendRecord(b, c.base+uint64(i), 0, entry, salt)
	}
	return b
}

// recordHeader is the fixed part of a record.
type recordHeader struct {
	length      int
	seq, synced uint64
	entrySum    uint32
}

// parseRecordHeader reads the header at the beginning of b, if it is one.
func parseRecordHeader(b []byte, salt uint32) (recordHeader, bool) {
	if len(b) < recordHeaderSize ||
		binary.BigEndian.Uint32(b) != salt ||
		binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return recordHeader{}, false
	}
	h := recordHeader{
		length:   int(binary.BigEndian.Uint32(b[4:])),
		seq:      binary.BigEndian.Uint64(b[8:]),
		synced:   binary.BigEndian.Uint64(b[16:]),
		entrySum: binary.BigEndian.Uint32(b[24:]),
	}
	return h, h.length >= 1 && h.length <= MaxEntryBytes
}

// parseTail reads a tail file. A torn write at its end is left out and reported; everything else that is
// not as it was written is a DamageError.
func parseTail(name string, data []byte) (tailFile, error) {
	t, salt, off, reason := parseTailHeader(data)
	if reason != "" {
		return tailFile{}, &DamageError{File: name, Reason: reason}
	}
	c := &t.chain
	headRecords := uint64(0)
	if c.base > c.first {
		headRecords = (TileWidth - c.first%TileWidth) % TileWidth
	}
	next, synced := c.first, uint64(0)
	if headRecords == 0 {
		next = c.base
	}
	for off < len(data) {
		h, ok := parseRecordHeader(data[off:], salt)
		end := off + recordHeaderSize + h.length
		if !ok || end > len(data) || crc32.Checksum(data[off+recordHeaderSize:end], castagnoli) != h.entrySum {
			reason := damageAt(data, off, next, salt)
			if next < t.sealed {
				reason = fmt.Sprintf("the record of entry %d is cut or does not match its checksum", next)
			}
			if reason != "" {
				return tailFile{}, &DamageError{File: name, Offset: int64(off), Reason: reason}
			}
			t.torn = true
			break
		}
		if h.seq != next || h.synced < synced {
			return tailFile{}, &DamageError{File: name, Offset: int64(off), Reason: "a record out of order"}
		}
		entry := data[off+recordHeaderSize : end : end]
		leaf := tlog.RecordHash(entry)
		if uint64(len(c.head)) < headRecords {
			c.head = append(c.head, entry)
			c.levels[0].bound = append(c.levels[0].bound, leaf)
			if next++; uint64(len(c.head)) == headRecords {
				next = c.base
			}
		} else {
			c.push(entry, leaf)
			next++
		}
		synced, off = h.synced, end
	}
	t.end = int64(off)
	if next < t.sealed {
		return tailFile{}, &DamageError{File: name, Offset: int64(off), Reason: fmt.Sprintf("it ends before entry %d", next)}
	}
	return t, nil
}

// damageAt decides what a bad record at off is: a torn write gives "", damage gives the reason.
//
// A crash loses the end of the file, or leaves zeros where a sector of it was not written. It changes no
// byte that was written, and it touches nothing that was fsynced.
func damageAt(data []byte, off int, seq uint64, salt uint32) string {
	var mark [4]byte
	binary.BigEndian.PutUint32(mark[:], salt)
	for i := off + 1; ; i++ {
		j := bytes.Index(data[min(i, len(data)):], mark[:])
		if j < 0 {
			break
		}
		i += j
		if h, ok := parseRecordHeader(data[i:], salt); ok && h.synced > seq {
			return fmt.Sprintf("the record of entry %d does not match its checksum, and a later one says that it was durable", seq)
		}
	}
	end := off + recordHeaderSize
	if end > len(data) {
		return ""
	}
	if h, ok := parseRecordHeader(data[off:], salt); ok {
		if end += h.length; end > len(data) {
			return ""
		}
	}
	for i := off; i < end; {
		next := min(i-i%tornSectorBytes+tornSectorBytes, end)
		if allZero(data[i:next]) {
			return ""
		}
		i = next
	}
	return fmt.Sprintf("the record of entry %d does not match its checksum", seq)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
