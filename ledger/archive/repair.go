package archive

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Bundles is how many full bundles the whole history has on the disk: those that Check and Repair take.
func (a *Archive) Bundles() uint64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.now.hist.base / TileWidth
}

// Check reads bundle n and every tile from it to the top again from the disk, whatever the caches hold.
// What is damaged or missing is a DamageError.
func (a *Archive) Check(n uint64) error {
	v, err := a.view()
	if err != nil {
		return err
	}
	c, err := v.chainWith(n)
	if err != nil {
		return err
	}
	_, err = newFiles(a.readFile, verifyCacheTiles, 0).bundle(c, n)
	return err
}

// chainWith is the chain that has bundle n on the disk.
func (v *view) chainWith(n uint64) (*chain, error) {
	switch {
	case v.hist.onDisk(0, n):
		return &v.hist, nil
	case v.island != nil && v.island.onDisk(0, n):
		return v.island, nil
	}
	return nil, notFound("full bundle", n, v.size())
}

// Repair writes bundle n anew, from bytes that a peer gave, if they hash to what the tree says: else it is
// a ConflictError (or a DamageError where only the right bytes could mend the tile above), and nothing
// changes. Tiles on the way from the bundle to the top that are damaged are
// written anew too, as far as they follow from the bundle or from what lies below them.
func (a *Archive) Repair(n uint64, bundle []byte) error {
	entries, err := ParseBundle(bundle)
	if err != nil {
		return err
	}
	if len(entries) != TileWidth {
		return fmt.Errorf("%w: %d entries instead of %d", errBundle, len(entries), TileWidth)
	}
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	v, err := a.view()
	if err != nil {
		return err
	}
	c, err := v.chainWith(n)
	if err != nil {
		return err
	}
	leaves := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		leaves[i] = tlog.RecordHash(e)
	}
	below := foldHashes(leaves)
	for l := maxLevels - 1; l >= 1; l-- {
		if err := a.repairTile(c, l, position(n, l), n, below); err != nil {
			return err
		}
	}
	want, err := c.node(node{tileHeight, n}, a.files.of(c))
	if err != nil {
		return err
	}
	if below != want {
		return &ConflictError{Seq: n * TileWidth}
	}
	if err := a.rewrite(TilePath(0, n, TileWidth), joinHashes(leaves)); err != nil {
		return err
	}
	if err := a.rewrite(BundlePath(n, TileWidth), bundle); err != nil {
		return err
	}
	a.files.tiles.remove(tileKey{0, n})
	a.files.bundles.remove(n)
	return nil
}

// repairTile makes a damaged tile of level 1 or above from what is below it; the hash of the given
// bundle's tile is known. The tile above says whether the outcome is right.
func (a *Archive) repairTile(c *chain, l int, n, bundle uint64, known tlog.Hash) error {
	if !c.onDisk(l, n) {
		return nil
	}
	a.files.tiles.remove(tileKey{l, n})
	_, err := a.files.tile(c, l, n)
	var damage *DamageError
	if !errors.As(err, &damage) {
		return err
	}
	if damage.File != TilePath(l, n, TileWidth) {
		return damage // further up, where nothing below could mend it
	}
	want, err := c.node(node{tileHeight * uint(l+1), n}, a.files.of(c))
	if err != nil {
		return err
	}
	tiles := func(k uint64) (tlog.Hash, bool) { return a.rootOfTile(l-1, k) }
	given := func(k uint64) (tlog.Hash, bool) {
		if l == 1 && k == bundle {
			return known, true
		}
		return tiles(k)
	}
	// Where tiles of level 0 are damaged too, the bundles themselves tell.
	bundles := func(k uint64) (tlog.Hash, bool) {
		if k == bundle {
			return known, true
		}
		return a.rootOfBundle(k)
	}
	for i, below := range []func(uint64) (tlog.Hash, bool){tiles, given, bundles} {
		if l > 1 && i > 0 {
			break
		}
		hashes := make([]tlog.Hash, TileWidth)
		for k := range hashes {
			hashes[k], _ = below(n*TileWidth + uint64(k))
		}
		if foldHashes(hashes) == want {
			return a.rewrite(TilePath(l, n, TileWidth), joinHashes(hashes))
		}
	}
	return damage
}

// rootOfTile is the hash over a tile on the disk, as it is.
func (a *Archive) rootOfTile(l int, n uint64) (tlog.Hash, bool) {
	raw, err := a.readFile(TilePath(l, n, TileWidth))
	if err != nil || len(raw) != tileBytes {
		return tlog.Hash{}, false
	}
	return foldHashes(splitHashes(raw)), true
}

// rootOfBundle is the hash over the entries of a bundle on the disk, as it is.
func (a *Archive) rootOfBundle(n uint64) (tlog.Hash, bool) {
	raw, err := a.readFile(BundlePath(n, TileWidth))
	if err != nil {
		return tlog.Hash{}, false
	}
	entries, err := ParseBundle(raw)
	if err != nil || len(entries) != TileWidth {
		return tlog.Hash{}, false
	}
	leaves := make([]tlog.Hash, TileWidth)
	for i, e := range entries {
		leaves[i] = tlog.RecordHash(e)
	}
	return foldHashes(leaves), true
}

// rewrite gives a file its right content, if it has another.
func (a *Archive) rewrite(name string, data []byte) error {
	if have, err := a.readFile(name); err == nil && bytes.Equal(have, data) {
		return nil
	}
	// Crash point repair: the damaged file or the good one.
	if err := a.putFile(name, slices.Clone(data)); err != nil {
		return err
	}
	return a.syncDir(path.Dir(name))
}
