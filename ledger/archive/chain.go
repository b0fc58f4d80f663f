package archive

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// chain is a run of consecutive entries [first, size) and the tree over them, apart from what is in full
// bundles and tiles on the disk. The history that begins at entry 0 is one; an island is one whose first
// is the end of the snapshot that was installed, with the frontier standing for all before it.
//
// A copy of a chain is a snapshot of it: slices only grow at their ends or are replaced, so a reader
// copies the struct under the lock and then reads without one.
//
// Invariants: base <= size; base is a multiple of 256 or, before the island's first bundle boundary,
// first. frontier.Size == first.
type chain struct {
	first    uint64
	size     uint64
	base     uint64 // entries below it are in bundles on the disk, or in head
	frontier Frontier

	entries [][]byte // [base, size)

	// head holds the island's entries [first, next multiple of 256) once base is past them: their
	// bundle cannot be written before the entries to the left of first are here.
	head [][]byte

	levels [maxLevels]level
}

// level holds the hashes of one tile level that are not in full tiles on the disk. The hash at position
// p stands for the entries [p<<8L, (p+1)<<8L). An island's first position at level L is first>>8L, which
// may straddle first.
type level struct {
	start  uint64 // the position of hashes[0]
	hashes []tlog.Hash

	// bound holds the hashes from first>>8L to the end of the tile that first cuts, once start is past
	// them: that tile cannot be written before the gap is filled.
	bound []tlog.Hash
}

// newChain is an empty chain that begins after f.
func newChain(f Frontier) chain {
	c := chain{first: f.Size, size: f.Size, base: f.Size, frontier: f.clone()}
	for l := range c.levels {
		c.levels[l].start = position(f.Size, l)
	}
	return c
}

// position is that of the hash at a tile level which covers an entry.
func position(seq uint64, l int) uint64 { return seq >> (tileHeight * uint(l)) }

// clone shares no memory that either of the two would write to.
func (c *chain) clone() chain {
	d := *c
	d.entries = slices.Clone(c.entries)
	for l := range d.levels {
		d.levels[l].hashes = slices.Clone(d.levels[l].hashes)
	}
	return d
}

// push appends an entry. The chain keeps the slice.
func (c *chain) push(entry []byte, leaf tlog.Hash) {
	c.entries = append(c.entries, entry)
	c.levels[0].hashes = append(c.levels[0].hashes, leaf)
	c.size++
	for l := 0; l+1 < maxLevels && c.size%(1<<(tileHeight*uint(l+1))) == 0; l++ {
		c.levels[l+1].hashes = append(c.levels[l+1].hashes, c.completedTile(l))
	}
}

// completedTile is the root of the tile of level l that the newest hash has filled.
func (c *chain) completedTile(l int) tlog.Hash {
	root := node{tileHeight * uint(l+1), position(c.size, l+1) - 1}
	if root.begin() < c.first {
		h, err := c.node(root, nil)
		invariant(err == nil, "the tile that first cuts is in memory or in the frontier")
		return h
	}
	row, err := c.row(l, root.n*TileWidth, TileWidth, nil)
	invariant(err == nil, "a tile that has just been filled is in memory")
	return foldHashes(row)
}

// tileSource gives the hashes of a full tile on the disk.
type tileSource func(l int, n uint64) ([]tlog.Hash, error)

// node is the hash of a perfect subtree. disk may be nil where all that is wanted is in memory.
func (c *chain) node(x node, disk tileSource) (tlog.Hash, error) {
	if x.end() > c.size {
		return tlog.Hash{}, notFound("subtree ending at", x.end(), c.size)
	}
	if x.end() <= c.first {
		return c.frontierNode(x)
	}
	l := int(x.level / tileHeight)
	if x.begin() < c.first { // straddles: known as a hash of a tile, or from its two halves
		if x.level%tileHeight == 0 && c.holds(l, x.n) {
			return c.hashes(l, x.n, 1, disk)
		}
		left, err := c.node(node{x.level - 1, 2 * x.n}, disk)
		if err != nil {
			return tlog.Hash{}, err
		}
		right, err := c.node(node{x.level - 1, 2*x.n + 1}, disk)
		if err != nil {
			return tlog.Hash{}, err
		}
		return tlog.NodeHash(left, right), nil
	}
	k := x.level % tileHeight
	return c.hashes(l, x.n<<k, 1<<k, disk)
}

// frontierNode is the hash of a subtree left of first: known if the frontier has just that
// one, else ErrGap.
func (c *chain) frontierNode(x node) (tlog.Hash, error) {
	for i, have := range perfectSubtrees(c.first) {
		if have == x {
			return c.frontier.Hashes[i], nil
		}
	}
	return tlog.Hash{}, ErrGap
}

// holds says whether the hash at a position of a level has been computed, in memory or on the disk.
func (c *chain) holds(l int, pos uint64) bool {
	return l < maxLevels && pos < c.levels[l].start+uint64(len(c.levels[l].hashes))
}

// hashes is the root over the count hashes, a power of two, from position pos on of one tile level.
func (c *chain) hashes(l int, pos, count uint64, disk tileSource) (tlog.Hash, error) {
	row, err := c.row(l, pos, count, disk)
	if err != nil {
		return tlog.Hash{}, err
	}
	return foldHashes(row), nil
}

// row is the count hashes from position pos on of one tile level, all of one tile and none left of the
// chain's first. The result must not be changed.
func (c *chain) row(l int, pos, count uint64, disk tileSource) ([]tlog.Hash, error) {
	lv := &c.levels[l]
	if pos >= lv.start {
		i := pos - lv.start
		invariant(i+count <= uint64(len(lv.hashes)), "a hash below the size is in memory or on the disk")
		return lv.hashes[i : i+count], nil
	}
	edge := position(c.first, l)
	if i := pos - edge; pos >= edge && i < uint64(len(lv.bound)) {
		return lv.bound[i : i+count], nil
	}
	if disk == nil {
		return nil, fmt.Errorf("archive: hash %d of level %d is not in memory", pos, l)
	}
	tile, err := disk(l, pos/TileWidth)
	if err != nil {
		return nil, err
	}
	i := pos % TileWidth
	return tile[i : i+count], nil
}

// onDisk says whether tile n of level l is a file.
func (c *chain) onDisk(l int, n uint64) bool {
	if l >= maxLevels {
		return false
	}
	return (n+1)*TileWidth <= c.levels[l].start && n*TileWidth >= position(c.first, l)
}

// newestFrontier is the compact range of all that is here; it needs no disk.
func (c *chain) newestFrontier() (Frontier, error) {
	return c.frontierAt(c.size, nil)
}

func (c *chain) frontierAt(size uint64, disk tileSource) (Frontier, error) {
	f := Frontier{Size: size}
	for _, x := range perfectSubtrees(size) {
		h, err := c.node(x, disk)
		if err != nil {
			return Frontier{}, err
		}
		f.Hashes = append(f.Hashes, h)
	}
	return f, nil
}

// fullBundles is where base is once every bundle that is complete has been written.
func (c *chain) fullBundles() uint64 {
	return max(c.first, c.size&^(TileWidth-1))
}

// dropTo lets go of what is in full bundles and tiles below newBase, by replacing slices so that copies
// of the chain stay whole. What lies in a bundle or tile that first cuts stays, in head and bound.
func (c *chain) dropTo(newBase uint64) {
	if newBase == c.base {
		return
	}
	if c.base == c.first && c.first%TileWidth != 0 {
		c.head = slices.Clone(c.entries[:TileWidth-c.first%TileWidth])
	}
	c.entries = slices.Clone(c.entries[newBase-c.base:])
	c.base = newBase
	for l := range c.levels {
		lv := &c.levels[l]
		start := position(newBase, l) &^ (TileWidth - 1)
		if start <= lv.start {
			continue
		}
		if cut := lv.start % TileWidth; cut != 0 {
			lv.bound = slices.Clone(lv.hashes[:TileWidth-cut])
		}
		lv.hashes = slices.Clone(lv.hashes[start-lv.start:])
		lv.start = start
	}
}

// entry is one that is in memory.
func (c *chain) entry(seq uint64) ([]byte, bool) {
	switch {
	case seq >= c.base && seq < c.size:
		return c.entries[seq-c.base], true
	case seq >= c.first && seq-c.first < uint64(len(c.head)):
		return c.head[seq-c.first], true
	}
	return nil, false
}

// invariant panics on a defect of our own, so that the replica stops rather than diverges.
func invariant(cond bool, msg string) {
	if !cond {
		panic("archive: invariant broken: " + msg)
	}
}
