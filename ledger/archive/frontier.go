package archive

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

const hashSize = tlog.HashSize

// Frontier is a compact range (RFC 6962's tree of Size leaves, cut into its perfect subtrees): one hash
// for each bit that is set in Size, the largest subtree first. It is all that is needed to go on
// appending, and to know the root.
type Frontier struct {
	Size   uint64
	Hashes []tlog.Hash
}

// Validate checks the shape: as many hashes as Size has bits.
func (f Frontier) Validate() error {
	if f.Size > maxSize {
		return fmt.Errorf("archive: frontier of %d leaves is larger than %d", f.Size, uint64(maxSize))
	}
	if want := bits.OnesCount64(f.Size); len(f.Hashes) != want {
		return fmt.Errorf("archive: frontier of %d leaves has %d hashes instead of %d", f.Size, len(f.Hashes), want)
	}
	return nil
}

// Root is the tree head: RFC 6962's MTH of the leaves, and so SHA-256 of nothing for no leaves.
func (f Frontier) Root() tlog.Hash {
	if len(f.Hashes) == 0 {
		return sha256.Sum256(nil)
	}
	root := f.Hashes[len(f.Hashes)-1]
	for i := len(f.Hashes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f.Hashes[i], root)
	}
	return root
}

// Append adds a leaf by its hash (RecordHash of the entry). The slice of hashes is replaced, never
// changed, so copies of the Frontier stay as they are.
func (f *Frontier) Append(leaf tlog.Hash) {
	merges := bits.TrailingZeros64(^f.Size)
	kept := len(f.Hashes) - merges
	for i := len(f.Hashes) - 1; i >= kept; i-- {
		leaf = tlog.NodeHash(f.Hashes[i], leaf)
	}
	f.Hashes = append(f.Hashes[:kept:kept], leaf)
	f.Size++
}

// clone shares no memory with f.
func (f Frontier) clone() Frontier {
	return Frontier{Size: f.Size, Hashes: append([]tlog.Hash(nil), f.Hashes...)}
}

// node is a perfect subtree: the leaves [n<<level, (n+1)<<level).
type node struct {
	level uint
	n     uint64
}

func (x node) begin() uint64 { return x.n << x.level }
func (x node) end() uint64   { return (x.n + 1) << x.level }

// perfectSubtrees are the nodes whose hashes a Frontier of this size holds, in the same order.
func perfectSubtrees(size uint64) []node {
	nodes := make([]node, 0, bits.OnesCount64(size))
	for rest := size; rest != 0; {
		level := uint(bits.Len64(rest) - 1)
		rest &^= 1 << level
		nodes = append(nodes, node{level, (size >> (level + 1)) << 1})
	}
	return nodes
}

// foldHashes is the root of a perfect tree over 2^k hashes. It leaves hashes as they are.
func foldHashes(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	row := make([]tlog.Hash, len(hashes)/2)
	for i := range row {
		row[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
	}
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0]
}
