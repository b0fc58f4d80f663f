package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// tree reads tiles and bundles that hash to the head's root. The tiles on the
// right edge are checked against the root at once, every full tile against its
// entry in the tile above. Safe for concurrent use.
type tree struct {
	get     func(path string) ([]byte, error)
	getInto func(path string, buf []byte) ([]byte, error) // get into old memory; nil: there is none
	framed  *framed                                       // gives bundles with their tiles; nil: get does
	head    ledger.Head
	reader  *archive.Reader // gives roots and proofs of the same tree

	mu    sync.Mutex
	edge  *[maxLevels][]ledger.Hash // partial tiles, by level; nil before they are read
	cache [maxLevels]*cachedTile    // the last full tile of each level that was read
}

type cachedTile struct {
	n      uint64
	hashes []ledger.Hash
}

func newTree(get func(path string) ([]byte, error), head ledger.Head) *tree {
	return &tree{get: get, head: head, reader: archive.NewReader(get, head.Size)}
}

// eachTile calls fn for every tile of a tree of the given size from a level up,
// lowest first.
func eachTile(size uint64, from int, fn func(level int, n uint64, width int) error) error {
	for level := from; level < maxLevels; level++ {
		count := size >> (8 * level)
		for n := uint64(0); n*archive.TileWidth < count; n++ {
			if err := fn(level, n, bundleWidth(n, count)); err != nil {
				return err
			}
		}
	}
	return nil
}

// joinHashes gives the bytes of a tile.
func joinHashes(hashes []ledger.Hash) []byte {
	data := make([]byte, 0, len(ledger.Hash{})*len(hashes))
	for i := range hashes {
		data = append(data, hashes[i][:]...)
	}
	return data
}

// hashes returns the verified hashes of a tile.
func (t *tree) hashes(level int, n uint64, width int) ([]ledger.Hash, error) {
	if width < archive.TileWidth {
		edge, err := t.edges()
		if err != nil {
			return nil, err
		}
		return edge[level], nil
	}
	if cached := t.cached(level, n); cached != nil {
		return cached, nil
	}
	// The tile above comes first: a parent that is wrong must not be taken for
	// a wrong child.
	place, err := t.place(level, n)
	if err != nil {
		return nil, err
	}
	hashes, err := t.read(level, n, archive.TileWidth)
	if err != nil {
		return nil, err
	}
	if perfectRoot(hashes) != place {
		return nil, misplaced(level, n)
	}
	t.keep(level, n, hashes)
	return hashes, nil
}

// place gives the hash of a full tile in the tile above.
func (t *tree) place(level int, n uint64) (ledger.Hash, error) {
	parentWidth := bundleWidth(n/archive.TileWidth, t.head.Size>>(8*(level+1)))
	parent, err := t.hashes(level+1, n/archive.TileWidth, parentWidth)
	if err != nil {
		return ledger.Hash{}, err
	}
	return parent[n%archive.TileWidth], nil
}

func misplaced(level int, n uint64) error {
	return badFile(StepTree, archive.TilePath(level, n, archive.TileWidth), errors.New("it does not hash to its place in the tile above"))
}

func (t *tree) cached(level int, n uint64) []ledger.Hash {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.cache[level]; c != nil && c.n == n {
		return c.hashes
	}
	return nil
}

func (t *tree) keep(level int, n uint64, hashes []ledger.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cache[level] = &cachedTile{n: n, hashes: hashes}
}

func (t *tree) read(level int, n uint64, width int) ([]ledger.Hash, error) {
	path := archive.TilePath(level, n, width)
	data, err := t.get(path)
	if err != nil {
		return nil, readError(StepTree, path, err)
	}
	return splitHashes(path, data, width)
}

func splitHashes(path string, data []byte, width int) ([]ledger.Hash, error) {
	if len(data) != 32*width {
		return nil, badFile(StepTree, path, fmt.Errorf("%d bytes, want %d", len(data), 32*width))
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
func (t *tree) edges() (*[maxLevels][]ledger.Hash, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.edge != nil {
		return t.edge, nil
	}
	var edge [maxLevels][]ledger.Hash
	var subtrees []ledger.Hash // left to right
	for level := maxLevels - 1; level >= 0; level-- {
		count := t.head.Size >> (8 * level)
		width := int(count % archive.TileWidth)
		if width == 0 {
			continue
		}
		hashes, err := t.read(level, count/archive.TileWidth, width)
		if err != nil {
			return nil, err
		}
		edge[level] = hashes
		subtrees = append(subtrees, perfectSubtrees(hashes)...)
	}
	if len(subtrees) == 0 {
		return nil, badFile(StepTree, "checkpoint", errors.New("the tree is empty"))
	}
	root := subtrees[len(subtrees)-1]
	for i := len(subtrees) - 2; i >= 0; i-- {
		root = nodeHash(subtrees[i], root)
	}
	if root != t.head.Root {
		return nil, t.blameEdge(&edge, root)
	}
	t.edge = &edge
	return t.edge, nil
}

// blameEdge names the partial tile that does not fit what lies below it, when
// the partial tiles do not hash to the root. If all of them fit, the whole tree
// is another one than the checkpoint's.
func (t *tree) blameEdge(edge *[maxLevels][]ledger.Hash, root ledger.Hash) error {
	for level, hashes := range edge {
		if len(hashes) == 0 {
			continue
		}
		n := (t.head.Size >> (8 * level)) / archive.TileWidth
		if at, err := t.unlike(level, n, hashes); err != nil {
			return err
		} else if at >= 0 {
			return badFile(StepTree, archive.TilePath(level, n, len(hashes)),
				fmt.Errorf("hash %d of the tile is not that of what lies below it, and the partial tiles do not hash to the checkpoint's root", at))
		}
	}
	return badFile(StepTree, "checkpoint", fmt.Errorf("the partial tiles of size %d hash to %s, the checkpoint's root is %s", t.head.Size, root, t.head.Root))
}

// unlike gives the first hash of a tile that is not that of the entry or full
// tile below it, or -1.
func (t *tree) unlike(level int, n uint64, hashes []ledger.Hash) (int, error) {
	if level == 0 {
		path := archive.BundlePath(n, len(hashes))
		raw, err := t.get(path)
		if err != nil {
			return 0, readError(StepTree, path, err)
		}
		entries, err := archive.ParseBundle(raw)
		if err != nil || len(entries) != len(hashes) {
			return 0, badFile(StepTree, path, errors.New("it does not hold the entries of its tile"))
		}
		for i, entry := range entries {
			if ledger.LeafHash(entry) != hashes[i] {
				return i, nil
			}
		}
		return -1, nil
	}
	for i, hash := range hashes {
		below, err := t.read(level-1, n*archive.TileWidth+uint64(i), archive.TileWidth)
		if err != nil {
			return 0, err
		}
		if perfectRoot(below) != hash {
			return i, nil
		}
	}
	return -1, nil
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

// verifiedBundle is a bundle whose entries have the leaf hashes that the tree
// holds.
type verifiedBundle struct {
	raw     []byte
	entries [][]byte // parts of raw
	leaves  []ledger.Hash

	zipped, frame []byte // memory of a frame; raw is a part of it
}

// bundle reads bundle n and checks each entry against its leaf hash.
func (t *tree) bundle(n uint64) (verifiedBundle, error) {
	var b verifiedBundle
	err := t.bundleInto(&b, n)
	return b, err
}

// bundleInto is bundle into the memory of another one.
func (t *tree) bundleInto(b *verifiedBundle, n uint64) (err error) {
	width := bundleWidth(n, t.head.Size)
	path := archive.BundlePath(n, width)
	if t.framed != nil {
		err = t.unzipInto(b, n, width)
	} else if b.leaves, err = t.hashes(0, n, width); err != nil {
		return err
	} else if t.getInto != nil {
		b.raw, err = t.getInto(path, b.raw)
	} else {
		b.raw, err = t.get(path)
	}
	if err != nil {
		return readError(StepTree, path, err)
	}
	if b.entries, err = archive.ParseBundle(b.raw); err != nil || len(b.entries) != width {
		return blameBundle(path, n, b.raw, b.leaves)
	}
	for i, entry := range b.entries {
		if ledger.LeafHash(entry) != b.leaves[i] {
			return blameBundle(path, n, b.raw, b.leaves)
		}
	}
	return nil
}

// unzipInto reads a bundle and its tile, which share a frame.
func (t *tree) unzipInto(b *verifiedBundle, n uint64, width int) (err error) {
	var tile []byte
	if tile, b.raw, b.zipped, b.frame, err = t.framed.bundle(n, width, b.zipped, b.frame); err != nil {
		return err
	}
	if width < archive.TileWidth {
		edge, err := t.edges()
		if err == nil {
			b.leaves = edge[0]
		}
		return err
	}
	if b.leaves, err = splitHashes(archive.TilePath(0, n, width), tile, width); err != nil {
		return err
	}
	place, err := t.place(0, n)
	if err != nil {
		return err
	}
	if perfectRoot(b.leaves) != place {
		return misplaced(0, n)
	}
	return nil
}

// blameBundle names the first entry of a bundle that is not what the tree
// holds, also when a changed length has put every later one out of place.
func blameBundle(path string, n uint64, raw []byte, leaves []ledger.Hash) error {
	bad := &BadError{Step: StepTree, File: path, HasSeq: true, Reason: errors.New("it does not hash to its leaf in the tree")}
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
	return badFile(StepTree, path, fmt.Errorf("%d bytes after its last entry", len(rest)))
}

func (t *tree) entry(seq uint64) ([]byte, error) {
	b, err := t.bundle(seq / archive.TileWidth)
	if err != nil {
		return nil, err
	}
	return b.entries[seq%archive.TileWidth], nil
}

// inclusion proves entry seq in the whole tree.
func (t *tree) inclusion(seq uint64) ([]ledger.Hash, error) {
	proof, err := t.reader.ProveInclusion(seq, t.head.Size)
	if err != nil {
		return nil, damage(fmt.Sprintf("prove entry %d", seq), err)
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
	root, err := t.reader.TreeHash(size)
	if err != nil {
		return ledger.Hash{}, damage(fmt.Sprintf("hash the first %d entries", size), err)
	}
	return ledger.Hash(root), nil
}

// damage names the file that archive.Reader found to be wrong.
func damage(doing string, err error) error {
	var bad *archive.DamageError
	if errors.As(err, &bad) {
		return badFile(StepTree, bad.File, errors.New(bad.Reason))
	}
	return fmt.Errorf("%s: %w", doing, err)
}
