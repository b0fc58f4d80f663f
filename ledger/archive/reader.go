package archive

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Reader reads a log of a known size in C2SP tlog-tiles layout, from a folder or over HTTP.
//
// It trusts nothing but the tree: an entry must match its tile, a tile the tile above it. So if TreeHash
// of the whole size is the root of a checkpoint that the caller trusts, all that the Reader gives is what
// that checkpoint covers. It may be used by several goroutines.
type Reader struct {
	get  func(path string) ([]byte, error)
	size uint64

	mu     sync.Mutex // guards the two, which are loaded when first needed
	edge   *view      // with the hashes of the partial tiles
	loaded bool       // edge has the entries of the partial bundle too
}

// NewReader reads by get, which is given paths such as "tile/0/x001/067.p/12" and gives an error that is
// fs.ErrNotExist for a file that is not there: a partial tile is then looked for in the full one.
func NewReader(get func(path string) ([]byte, error), size uint64) *Reader {
	return &Reader{get: get, size: size}
}

// Size is the one that was given.
func (r *Reader) Size() uint64 { return r.size }

// Entry is one entry.
func (r *Reader) Entry(seq uint64) ([]byte, error) {
	if seq >= r.size {
		return nil, notFound("entry", seq, r.size)
	}
	v, err := r.view(seq + 1)
	if err != nil {
		return nil, err
	}
	entry, err := v.entry(seq)
	return slices.Clone(entry), err
}

// Entries calls fn for each entry of [from, to), in order, and stops at its first error. The slice that
// fn gets must not be changed.
func (r *Reader) Entries(from, to uint64, fn func(seq uint64, entry []byte) error) error {
	v, err := r.view(to)
	if err != nil {
		return err
	}
	return v.entries(from, to, fn)
}

// LeafHash is SHA-256(0x00 || entry), from the tile.
func (r *Reader) LeafHash(seq uint64) (tlog.Hash, error) {
	v, err := r.view(0)
	if err != nil {
		return tlog.Hash{}, err
	}
	return v.leafHash(seq)
}

// TreeHash is the RFC 6962 root of the first size entries.
func (r *Reader) TreeHash(size uint64) (tlog.Hash, error) {
	v, err := r.view(0)
	if err != nil {
		return tlog.Hash{}, err
	}
	return v.treeHash(size)
}

// ProveInclusion is the RFC 6962 audit path of an entry in the tree of a size, leaf to root.
func (r *Reader) ProveInclusion(seq, size uint64) ([]tlog.Hash, error) {
	v, err := r.view(0)
	if err != nil {
		return nil, err
	}
	return v.proveInclusion(seq, size)
}

// ProveConsistency is the RFC 6962 proof that the tree of size extends that of old.
func (r *Reader) ProveConsistency(old, size uint64) ([]tlog.Hash, error) {
	v, err := r.view(0)
	if err != nil {
		return nil, err
	}
	return v.proveConsistency(old, size)
}

// view loads the partial tiles, and the partial bundle if entries up to an end are wanted that lie in it.
func (r *Reader) view(end uint64) (view, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > maxSize {
		return view{}, fmt.Errorf("archive: a log of %d entries is larger than %d", r.size, uint64(maxSize))
	}
	if r.edge == nil {
		c, err := r.loadEdge()
		if err != nil {
			return view{}, err
		}
		r.edge = &view{hist: c, files: newFiles(r.get, defaultCacheTiles, bundleCacheBytes)}
	}
	if c := &r.edge.hist; end > c.base && !r.loaded {
		if err := r.loadPartialBundle(c); err != nil {
			return view{}, err
		}
		r.loaded = true
	}
	return *r.edge, nil
}

// loadEdge is the chain of the whole log without its newest entries.
func (r *Reader) loadEdge() (chain, error) {
	c := chain{size: r.size, base: r.size &^ (TileWidth - 1)}
	for l := range c.levels {
		count := position(r.size, l)
		c.levels[l].start = count &^ (TileWidth - 1)
		width := int(count % TileWidth)
		if width == 0 {
			continue
		}
		n := count / TileWidth
		raw, path, err := r.getPartial(TilePath(l, n, width), TilePath(l, n, TileWidth))
		if err != nil {
			return chain{}, err
		}
		if len(raw) != width*hashSize && len(raw) != tileBytes {
			return chain{}, &DamageError{File: path, Offset: int64(len(raw)), Reason: fmt.Sprintf("%d bytes instead of %d", len(raw), width*hashSize)}
		}
		c.levels[l].hashes = splitHashes(raw[:width*hashSize])
	}
	return c, nil
}

func (r *Reader) loadPartialBundle(c *chain) error {
	width := int(c.size % TileWidth)
	n := c.base / TileWidth
	raw, path, err := r.getPartial(BundlePath(n, width), BundlePath(n, TileWidth))
	if err != nil {
		return err
	}
	if path == BundlePath(n, TileWidth) { // only its beginning is ours
		end := 0
		for range width {
			entry, ok := nextOfBundle(raw[end:])
			if !ok {
				break // checkBundle names it
			}
			end += 2 + len(entry)
		}
		raw = raw[:end]
	}
	entries, err := checkBundle(path, raw, c.levels[0].hashes)
	if err != nil {
		return err
	}
	c.entries = entries
	return nil
}

// getPartial reads a partial tile or, if there is none, the full one.
func (r *Reader) getPartial(partial, full string) (raw []byte, path string, err error) {
	path = partial
	raw, err = r.get(partial)
	if isMissing(err) {
		path = full
		raw, err = r.get(full)
	}
	switch {
	case isMissing(err):
		return nil, "", &DamageError{File: partial, Reason: "the file is missing"}
	case err != nil:
		return nil, "", fmt.Errorf("read %s: %w", path, err)
	}
	return raw, path, nil
}
