package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// BadError names the first thing in an export that is wrong.
type BadError struct {
	Seq    uint64 // the entry; meaningful when HasSeq
	HasSeq bool
	File   string // where it stands, if one file is to blame
	Step   string // files, head, tree, entry, signature, replay, view
	Reason error
}

func (e *BadError) Error() string {
	where := ""
	if e.HasSeq {
		where = fmt.Sprintf("entry %d: ", e.Seq)
	}
	if e.File != "" {
		where = e.File + ": " + where
	}
	return e.Step + ": " + where + e.Reason.Error()
}

func (e *BadError) Unwrap() error { return e.Reason }

func badFile(step, file string, reason error) *BadError {
	return &BadError{Step: step, File: file, Reason: reason}
}

func badEntry(step string, seq uint64, reason error) *BadError {
	n := seq / archive.TileWidth
	return &BadError{Step: step, Seq: seq, HasSeq: true, Reason: reason, File: fmt.Sprintf("bundle %d", n)}
}

// tree reads tiles and bundles that hash to the head's root. The tiles on the
// right edge are checked against the root at once, every full tile against its
// entry in the tile above. Safe for concurrent use.
type tree struct {
	get  func(path string) ([]byte, error)
	head ledger.Head

	mu    sync.Mutex
	edge  map[int][]ledger.Hash // partial tiles, by level
	cache map[int]cachedTile    // the last full tile of each level above 0
}

type cachedTile struct {
	n      uint64
	hashes []ledger.Hash
}

func newTree(get func(path string) ([]byte, error), head ledger.Head) *tree {
	return &tree{get: get, head: head, cache: map[int]cachedTile{}}
}

// eachTile calls fn for every tile of a tree of the given size, leaves first.
func eachTile(size uint64, fn func(level int, n uint64, width int) error) error {
	for level := 0; level < 8; level++ {
		count := size >> (8 * level)
		if count == 0 {
			return nil
		}
		for n := uint64(0); n < count/256; n++ {
			if err := fn(level, n, 256); err != nil {
				return err
			}
		}
		if width := int(count % 256); width > 0 {
			if err := fn(level, count/256, width); err != nil {
				return err
			}
		}
	}
	return nil
}

// tile returns the verified bytes of a tile.
func (t *tree) tile(level int, n uint64, width int) ([]byte, error) {
	hashes, err := t.hashes(level, n, width)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, 32*len(hashes))
	for i := range hashes {
		data = append(data, hashes[i][:]...)
	}
	return data, nil
}

// hashes returns the verified hashes of a tile.
func (t *tree) hashes(level int, n uint64, width int) ([]ledger.Hash, error) {
	if width < 256 {
		edge, err := t.edges()
		if err != nil {
			return nil, err
		}
		return edge[level], nil
	}
	if cached, ok := t.cached(level, n); ok {
		return cached, nil
	}
	hashes, err := t.read(level, n, 256)
	if err != nil {
		return nil, err
	}
	above := (t.head.Size >> (8 * (level + 1)))
	parentWidth := int(min(above-(n/256)*256, 256))
	parent, err := t.hashes(level+1, n/256, parentWidth)
	if err != nil {
		return nil, err
	}
	if perfectRoot(hashes) != parent[n%256] {
		return nil, badFile("tree", archive.TilePath(level, n, 256), errors.New("does not hash to its place in the tile above"))
	}
	t.keep(level, n, hashes)
	return hashes, nil
}

func (t *tree) cached(level int, n uint64) ([]ledger.Hash, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.cache[level]
	return c.hashes, ok && c.n == n
}

func (t *tree) keep(level int, n uint64, hashes []ledger.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cache[level] = cachedTile{n: n, hashes: hashes}
}

func (t *tree) read(level int, n uint64, width int) ([]ledger.Hash, error) {
	path := archive.TilePath(level, n, width)
	data, err := t.get(path)
	if err != nil {
		return nil, badFile("tree", path, err)
	}
	if len(data) != 32*width {
		return nil, badFile("tree", path, fmt.Errorf("%d bytes, want %d", len(data), 32*width))
	}
	hashes := make([]ledger.Hash, width)
	for i := range hashes {
		copy(hashes[i][:], data[32*i:])
	}
	return hashes, nil
}

// edges reads the partial tiles, which together with nothing else hash to the
// root (RFC 6962 section 2.1: a tree is perfect subtrees, folded from the
// right).
func (t *tree) edges() (map[int][]ledger.Hash, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.edge != nil {
		return t.edge, nil
	}
	edge := map[int][]ledger.Hash{}
	var subtrees []ledger.Hash // left to right
	for level := 7; level >= 0; level-- {
		count := t.head.Size >> (8 * level)
		width := int(count % 256)
		if width == 0 {
			continue
		}
		hashes, err := t.read(level, count/256, width)
		if err != nil {
			return nil, err
		}
		edge[level] = hashes
		subtrees = append(subtrees, perfectSubtrees(hashes)...)
	}
	if t.head.Size == 0 || len(subtrees) == 0 {
		return nil, badFile("tree", "checkpoint", errors.New("the tree is empty"))
	}
	root := subtrees[len(subtrees)-1]
	for i := len(subtrees) - 2; i >= 0; i-- {
		root = nodeHash(subtrees[i], root)
	}
	if root != t.head.Root {
		return nil, badFile("tree", "tile", fmt.Errorf("the partial tiles of size %d hash to %s, the checkpoint's root is %s", t.head.Size, root, t.head.Root))
	}
	t.edge = edge
	return edge, nil
}

// perfectSubtrees splits hashes by the bits of their number, largest first.
func perfectSubtrees(hashes []ledger.Hash) []ledger.Hash {
	var out []ledger.Hash
	for rest, bit := hashes, 128; bit > 0; bit >>= 1 {
		if len(hashes)&bit != 0 {
			out = append(out, perfectRoot(rest[:bit]))
			rest = rest[bit:]
		}
	}
	return out
}

// perfectRoot is the root of a perfect subtree over a power of two of hashes.
func perfectRoot(hashes []ledger.Hash) ledger.Hash {
	level := append([]ledger.Hash(nil), hashes...)
	for len(level) > 1 {
		for i := 0; i < len(level)/2; i++ {
			level[i] = nodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0]
}

func nodeHash(left, right ledger.Hash) ledger.Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// bundle returns a bundle's bytes and entries, each entry checked against its
// leaf hash.
func (t *tree) bundle(n uint64, width int) (raw []byte, entries [][]byte, err error) {
	path := archive.BundlePath(n, width)
	leaves, err := t.hashes(0, n, width)
	if err != nil {
		return nil, nil, err
	}
	raw, err = t.get(path)
	if err != nil {
		return nil, nil, badFile("tree", path, err)
	}
	entries, err = archive.ParseBundle(raw)
	if err != nil || len(entries) != width {
		return nil, nil, t.blame(path, n, raw, leaves)
	}
	for i, entry := range entries {
		if ledger.LeafHash(entry) != leaves[i] {
			return nil, nil, t.blame(path, n, raw, leaves)
		}
	}
	return raw, entries, nil
}

// blame names the first entry of a bundle that is not what the tree holds,
// also when a changed length has put every later one out of place.
func (t *tree) blame(path string, n uint64, raw []byte, leaves []ledger.Hash) error {
	bad := &BadError{Step: "tree", File: path, HasSeq: true, Reason: errors.New("does not hash to its leaf in the tree")}
	rest := raw
	for i, leaf := range leaves {
		bad.Seq = n*archive.TileWidth + uint64(i)
		if len(rest) < 2 {
			bad.Reason = errors.New("the bundle ends before it")
			return bad
		}
		length := int(rest[0])<<8 | int(rest[1])
		if len(rest) < 2+length || ledger.LeafHash(rest[2:2+length]) != leaf {
			return bad
		}
		rest = rest[2+length:]
	}
	return badFile("tree", path, fmt.Errorf("%d bytes after its last entry", len(rest)))
}

func (t *tree) entry(seq uint64) ([]byte, error) {
	n := seq / archive.TileWidth
	width := int(min(t.head.Size-n*archive.TileWidth, archive.TileWidth))
	_, entries, err := t.bundle(n, width)
	if err != nil {
		return nil, err
	}
	return entries[seq%archive.TileWidth], nil
}

func (t *tree) inclusion(seq uint64) ([]ledger.Hash, error) {
	proof, err := archive.NewReader(t.get, t.head.Size).ProveInclusion(seq, t.head.Size)
	if err != nil {
		return nil, err
	}
	out := make([]ledger.Hash, len(proof))
	for i, h := range proof {
		out[i] = ledger.Hash(h)
	}
	return out, nil
}

// rootAt is the root of the tree's first size entries.
func (t *tree) rootAt(size uint64) (ledger.Hash, error) {
	if size == t.head.Size {
		return t.head.Root, nil
	}
	root, err := archive.NewReader(t.get, t.head.Size).TreeHash(size)
	if err != nil {
		return ledger.Hash{}, badFile("tree", "tile", err)
	}
	return ledger.Hash(root), nil
}
