package archive

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// files reads full tiles and bundles and lets nothing through that does not hash to what lies above it:
// a bundle to its tile of level 0, a tile to its hash in the tile above, and the topmost to the hashes in
// memory, which come from the tail's header. So a changed byte is found wherever it is.
type files struct {
	read    func(path string) ([]byte, error) // fs.ErrNotExist when it is not there
	tiles   *lru[tileKey, []tlog.Hash]
	bundles *lru[uint64, *bundle]
	damaged func(*DamageError)
}

type tileKey struct {
	level int
	n     uint64
}

// bundle is a full entry bundle that matched its leaf hashes.
type bundle struct {
	raw     []byte
	entries [][]byte
}

func newFiles(read func(string) ([]byte, error), cacheTiles, cacheBytes int) *files {
	return &files{
		read:    read,
		tiles:   newLRU[tileKey, []tlog.Hash](cacheTiles),
		bundles: newLRU[uint64, *bundle](cacheBytes),
		damaged: func(*DamageError) {},
	}
}

// of is the tileSource of a chain.
func (f *files) of(c *chain) tileSource {
	return func(l int, n uint64) ([]tlog.Hash, error) { return f.tile(c, l, n) }
}

// told tells of an error that is damage.
func (f *files) told(err error) error {
	var damage *DamageError
	if errors.As(err, &damage) {
		f.damaged(damage)
	}
	return err
}

// tile reads a full tile of the chain.
func (f *files) tile(c *chain, l int, n uint64) ([]tlog.Hash, error) {
	key := tileKey{l, n}
	if hashes, ok := f.tiles.get(key); ok {
		return hashes, nil
	}
	path := TilePath(l, n, TileWidth)
	raw, err := f.read(path)
	if isMissing(err) {
		return nil, f.told(&DamageError{File: path, Reason: "the file is missing"})
	}
	if err != nil {
		return nil, fmt.Errorf("read tile: %w", err)
	}
	if len(raw) != tileBytes {
		return nil, f.told(&DamageError{File: path, Offset: int64(min(len(raw), tileBytes)), Reason: fmt.Sprintf("%d bytes instead of %d", len(raw), tileBytes)})
	}
	want, err := c.node(node{tileHeight * uint(l+1), n}, f.of(c))
	if err != nil {
		return nil, err
	}
	hashes := splitHashes(raw)
	if foldHashes(hashes) != want {
		return nil, f.told(&DamageError{
			File:   path,
			Offset: f.damagedHash(c, l, n, hashes),
			Reason: "the hashes do not add up to the tile above",
		})
	}
	f.tiles.put(key, hashes, 1)
	return hashes, nil
}

// damagedHash finds which hash of a damaged tile is wrong, by what lies below it, and gives its offset.
func (f *files) damagedHash(c *chain, l int, n uint64, hashes []tlog.Hash) int64 {
	below := func(i uint64) (tlog.Hash, bool) {
		raw, err := f.read(TilePath(l-1, n*TileWidth+i, TileWidth))
		if err != nil || len(raw) != tileBytes {
			return tlog.Hash{}, false
		}
		return foldHashes(splitHashes(raw)), true
	}
	if l == 0 {
		raw, _ := f.read(BundlePath(n, TileWidth))
		entries, err := ParseBundle(raw)
		if err != nil {
			return 0
		}
		below = func(i uint64) (tlog.Hash, bool) {
			if i >= uint64(len(entries)) {
				return tlog.Hash{}, false
			}
			return tlog.RecordHash(entries[i]), true
		}
	}
	for i, have := range hashes {
		if want, ok := below(uint64(i)); ok && want != have {
			return int64(i * hashSize)
		}
	}
	return 0
}

// bundle reads a full bundle of the chain.
func (f *files) bundle(c *chain, n uint64) (*bundle, error) {
	if b, ok := f.bundles.get(n); ok {
		return b, nil
	}
	path := BundlePath(n, TileWidth)
	raw, err := f.read(path)
	if isMissing(err) {
		return nil, f.told(&DamageError{File: path, Reason: "the file is missing"})
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	leaves, err := c.row(0, n*TileWidth, TileWidth, f.of(c))
	if err != nil {
		return nil, err
	}
	entries, err := checkBundle(path, raw, leaves)
	if err != nil {
		return nil, f.told(err)
	}
	b := &bundle{raw, entries}
	f.bundles.put(n, b, len(raw)+TileWidth*24)
	return b, nil
}

// checkBundle splits a bundle and compares each entry with its leaf hash, so that the first bad entry is
// named even where its length is what was changed.
func checkBundle(path string, raw []byte, leaves []tlog.Hash) ([][]byte, error) {
	entries := make([][]byte, 0, len(leaves))
	off := 0
	for i, leaf := range leaves {
		entry, ok := nextOfBundle(raw[off:])
		if !ok || tlog.RecordHash(entry) != leaf {
			return nil, &DamageError{File: path, Offset: int64(off), Reason: fmt.Sprintf("entry %d of the bundle does not match its leaf hash", i)}
		}
		entries = append(entries, entry)
		off += 2 + len(entry)
	}
	if off != len(raw) {
		return nil, &DamageError{File: path, Offset: int64(off), Reason: "bytes after the last entry"}
	}
	return entries, nil
}

func splitHashes(raw []byte) []tlog.Hash {
	hashes := make([]tlog.Hash, len(raw)/hashSize)
	for i := range hashes {
		copy(hashes[i][:], raw[i*hashSize:])
	}
	return hashes
}

func joinHashes(hashes []tlog.Hash) []byte {
	return appendHashes(make([]byte, 0, len(hashes)*hashSize), hashes)
}
