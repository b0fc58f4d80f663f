package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
)

// Bolt's file, as far as it is checked here: two meta pages, then pages of
// branches and leaves. Integers are in the machine's own order.
const (
	boltMagic      = 0xED0CDAED
	boltHeader     = 16 // id, flags, count, overflow
	boltElement    = 16
	boltBranch     = 0x01
	boltLeaf       = 0x02
	boltMetaSummed = 56 // of the meta's 64 bytes
	boltMaxDepth   = 64
	boltFreelist   = 0x10
	boltNoFreelist = 1<<64 - 1 // none is kept
)

// boltChecker walks every page in use of a bolt file. Bolt itself trusts its
// pages: it panics at some damage, reads past other, and falls back to an older
// meta page, forgetting the newest votes, without a word.
type boltChecker struct {
	file     *os.File
	name     string
	pageSize int64
	pages    uint64
	free     uint64 // page of the list of free pages
	buckets  [2]string
	seen     map[uint64]bool
	leaf     func(bucket string, key []byte, offset int64) error
}

// checkBolt checks the structure of a bolt file that nobody writes, and hands
// over every key with the offset of its value. A missing or empty file is fine.
func checkBolt(path, name string, buckets [2]string, leaf func(bucket string, key []byte, offset int64) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	if info.Size() == 0 {
		return nil
	}
	c := &boltChecker{file: file, name: name, buckets: buckets, seen: map[uint64]bool{}, leaf: leaf}
	root, err := c.metas(info.Size())
	if err != nil {
		return err
	}
	if err := c.page(root, "", nil, nil, 0); err != nil {
		return err
	}
	return c.freePages()
}

// freePages checks that bolt's list of free pages, if it keeps one, names no page
// in use: bolt would write over it.
func (c *boltChecker) freePages() error {
	if c.free == boltNoFreelist {
		return nil
	}
	at := int64(c.free) * c.pageSize
	if c.free < 2 || c.free >= c.pages || c.seen[c.free] {
		return c.damaged(at, "the list of free pages is out of place")
	}
	head := make([]byte, boltHeader)
	if _, err := c.file.ReadAt(head, at); err != nil {
		return c.damaged(at, "the list of free pages: "+err.Error())
	}
	order := binary.NativeEndian
	count, overflow := uint64(order.Uint16(head[10:])), uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != c.free || order.Uint16(head[8:]) != boltFreelist || count == 0xffff || overflow > c.pages ||
		boltHeader+8*count > (overflow+1)*uint64(c.pageSize) {
		return c.damaged(at, "the list of free pages has another's header")
	}
	ids := make([]byte, 8*count)
	if _, err := c.file.ReadAt(ids, at+boltHeader); err != nil {
		return c.damaged(at, "the list of free pages: "+err.Error())
	}
	for last := uint64(1); len(ids) > 0; ids = ids[8:] {
		id := order.Uint64(ids)
		if id <= last || id >= c.pages || c.seen[id] || id == c.free {
			return c.damaged(at, "the list of free pages names a page in use")
		}
		last = id
	}
	return nil
}

func (c *boltChecker) damaged(offset int64, reason string) error {
	return &FileError{File: c.name, Offset: offset, Reason: reason}
}

// metas checks both meta pages and gives the root page of the newer one.
func (c *boltChecker) metas(size int64) (uint64, error) {
	order := binary.NativeEndian
	var root, newest uint64
	c.pageSize = int64(os.Getpagesize())
	for i := range int64(2) {
		b := make([]byte, 64)
		at := i*c.pageSize + boltHeader
		if _, err := c.file.ReadAt(b, at); err != nil {
			return 0, c.damaged(at, "meta page: "+err.Error())
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[:boltMetaSummed])
		if order.Uint32(b) != boltMagic || order.Uint64(b[boltMetaSummed:]) != sum.Sum64() {
			return 0, c.damaged(at, "the checksum of a meta page differs")
		}
		if i == 0 {
			c.pageSize = int64(order.Uint32(b[8:]))
		}
		if txid := order.Uint64(b[48:]); i == 0 || txid > newest {
			newest, root, c.free, c.pages = txid, order.Uint64(b[16:]), order.Uint64(b[32:]), order.Uint64(b[40:])
		}
	}
	if c.pageSize < 512 || c.pages > uint64(size/c.pageSize) {
		return 0, c.damaged(size, "the file ends early")
	}
	return root, nil
}

// page checks one page and those below it. Its keys lie in [from, to).
func (c *boltChecker) page(id uint64, bucket string, from, to []byte, depth int) error {
	at := int64(id) * c.pageSize
	if id < 2 || id >= c.pages || c.seen[id] || depth > boltMaxDepth {
		return c.damaged(at, fmt.Sprintf("page %d is out of place", id))
	}
	c.seen[id] = true
	head := make([]byte, boltHeader)
	if _, err := c.file.ReadAt(head, at); err != nil {
		return c.damaged(at, fmt.Sprintf("page %d: %v", id, err))
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head) != id || overflow >= c.pages-id {
		return c.damaged(at, fmt.Sprintf("page %d has another's header", id))
	}
	for more := range overflow {
		if c.seen[id+1+more] {
			return c.damaged(at, fmt.Sprintf("page %d overflows into another", id))
		}
		c.seen[id+1+more] = true
	}
	b := make([]byte, int64(overflow+1)*c.pageSize)
	if _, err := c.file.ReadAt(b, at); err != nil {
		return c.damaged(at, fmt.Sprintf("page %d: %v", id, err))
	}
	return c.elements(b, at, bucket, from, to, depth)
}

// boltPart is one element of a page.
type boltPart struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool
	offset     int64 // of the value in the file
}

// parts reads a page's elements, which bolt writes back to back.
func (c *boltChecker) parts(b []byte, at int64) (parts []boltPart, branch bool, err error) {
	order := binary.NativeEndian
	flags, count := order.Uint16(b[8:]), uint64(order.Uint16(b[10:]))
	if flags != boltBranch && flags != boltLeaf {
		return nil, false, c.damaged(at, "a page of unknown kind")
	}
	next := boltHeader + boltElement*count
	for i := range count {
		start := boltHeader + boltElement*i
		if start+boltElement > uint64(len(b)) {
			return nil, false, c.damaged(at, "a page with too many elements")
		}
		e := b[start:]
		var p boltPart
		pos, ksize, vsize := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])), uint64(0)
		if flags == boltLeaf {
			pos, ksize, vsize = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
			p.bucket = order.Uint32(e) == 1
			if order.Uint32(e) > 1 {
				return nil, false, c.damaged(at+int64(start), "an element of unknown kind")
			}
		} else {
			p.child = order.Uint64(e[8:])
		}
		if start+pos != next || next+ksize+vsize > uint64(len(b)) {
			return nil, false, c.damaged(at+int64(start), "an element out of place")
		}
		p.key, p.value = b[next:next+ksize], b[next+ksize:next+ksize+vsize]
		p.offset = at + int64(next+ksize)
		next += ksize + vsize
		parts = append(parts, p)
	}
	return parts, flags == boltBranch, nil
}

func (c *boltChecker) elements(b []byte, at int64, bucket string, from, to []byte, depth int) error {
	parts, branch, err := c.parts(b, at)
	if err != nil {
		return err
	}
	if branch && len(parts) == 0 {
		return c.damaged(at, "a branch without children")
	}
	for i, p := range parts {
		end := to
		if i+1 < len(parts) {
			end = parts[i+1].key
		}
		if bytes.Compare(p.key, from) < 0 || (end != nil && bytes.Compare(p.key, end) >= 0) {
			return c.damaged(p.offset-int64(len(p.key)), "a key out of order")
		}
		switch {
		case branch:
			err = c.page(p.child, bucket, p.key, end, depth+1)
		case p.bucket && bucket == "":
			err = c.bucket(p, depth)
		case p.bucket || bucket == "":
			err = c.damaged(p.offset, "a bucket out of place")
		default:
			err = c.leaf(bucket, p.key, p.offset)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks one bucket: a root page of its own, or a page in the value.
func (c *boltChecker) bucket(p boltPart, depth int) error {
	name := string(p.key)
	if name != c.buckets[0] && name != c.buckets[1] || len(p.value) < 16 {
		return c.damaged(p.offset-int64(len(p.key)), "an unknown bucket")
	}
	if root := binary.NativeEndian.Uint64(p.value); root != 0 {
		return c.page(root, name, nil, nil, depth+1)
	}
	if len(p.value) < 16+boltHeader {
		return c.damaged(p.offset, "a bucket that ends early")
	}
	return c.elements(p.value[16:], p.offset+16, name, nil, nil, depth+1)
}
