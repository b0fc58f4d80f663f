package archive

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// verifyCacheTiles is enough for the path from a bundle to the top.
const verifyCacheTiles = 2 * maxLevels

// Verify reads everything on the disk again and compares it: entries with leaf hashes, tiles with the
// tiles above, the tail with what is in memory. The first difference is a DamageError. progress, which
// may be nil, is told how many entries are done. Appending and syncing go on meanwhile; what is added
// after the call is not looked at. Staged backfill is not vouched for and only checked for damage of its
// tail.
func (a *Archive) Verify(progress func(done, total uint64)) error {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	if err := a.verifyTails(); err != nil {
		return err
	}
	v, err := a.view()
	if err != nil {
		return err
	}
	fresh := newFiles(a.readFile, verifyCacheTiles, 0)
	chains := []*chain{&v.hist}
	total := v.hist.size
	if v.island != nil {
		chains = append(chains, v.island)
		total += v.island.size - v.island.first
	}
	done := uint64(0)
	for _, c := range chains {
		checked := c.first
		for n := c.first / TileWidth; n < c.base/TileWidth; n++ {
			if !c.onDisk(0, n) {
				continue
			}
			if _, err := fresh.bundle(c, n); err != nil {
				return err
			}
			done += (n+1)*TileWidth - checked
			checked = (n + 1) * TileWidth
			progress(done, total)
		}
		done += c.size - checked
		progress(done, total)
	}
	return nil
}

// verifyTails compares the tail files with the chains in memory.
func (a *Archive) verifyTails() error {
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	a.mu.RLock()
	hist, durable, failed := a.now.hist, a.durable, a.failed
	unsure := failed != nil || a.full
	var island, stage *chain
	if a.now.island != nil {
		c := *a.now.island
		island = &c
	}
	if a.stage != nil {
		c := *a.stage
		stage = &c
	}
	a.mu.RUnlock()
	if errors.Is(failed, ErrClosed) {
		return ErrClosed
	}
	written := durable
	if island != nil {
		written = hist.size
		if err := a.verifyTail(islandName, island, durable, unsure); err != nil {
			return err
		}
	}
	if stage != nil {
		if err := a.verifyTail(stageName, stage, stage.size, unsure); err != nil {
			return err
		}
	}
	return a.verifyTail(tailName, &hist, written, unsure)
}

// verifyTail compares one file with the chain's entries below written. After a failed write the file may
// hold more than that.
func (a *Archive) verifyTail(name string, c *chain, written uint64, failed bool) error {
	t, found, err := a.loadTail(name)
	switch {
	case err != nil:
		return err
	case !found:
		return &DamageError{File: name, Reason: "the file is missing"}
	case t.chain.size < written || (!failed && (t.torn || t.chain.size != written || t.chain.base != c.base)):
		return &DamageError{File: name, Offset: t.end, Reason: fmt.Sprintf("it ends at entry %d instead of %d", t.chain.size, written)}
	case t.chain.first != c.first || !slices.EqualFunc(t.chain.head, c.head, bytes.Equal):
		return &DamageError{File: name, Reason: fmt.Sprintf("it does not begin with what was written at entry %d", c.first)}
	}
	for seq := max(c.base, t.chain.base); seq < written; seq++ {
		have, _ := t.chain.entry(seq)
		if want, _ := c.entry(seq); !bytes.Equal(have, want) {
			return &DamageError{File: name, Reason: fmt.Sprintf("entry %d is not the one that was written", seq)}
		}
	}
	return nil
}

// Repair writes bundle n anew, from bytes that a peer gave, if they hash to what the tree says: else it is
// a ConflictError, and nothing changes. Tiles on the way from the bundle to the top that are damaged are
// written anew too, as far as they follow from the bundle or from the tiles below them.
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
	c := &v.hist
	if !c.onDisk(0, n) && v.island != nil {
		c = v.island
	}
	if !c.onDisk(0, n) {
		return notFound("full bundle", n, v.size())
	}
	leaves := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		leaves[i] = tlog.RecordHash(e)
	}
	for l := maxLevels - 1; l >= 1; l-- {
		if err := a.repairTile(c, l, position(n, l)); err != nil {
			return err
		}
	}
	want, err := c.node(node{tileHeight, n}, a.files.of(c))
	if err != nil {
		return err
	}
	if foldHashes(leaves) != want {
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

// repairTile makes a damaged tile of level 1 or above from the tiles below it.
func (a *Archive) repairTile(c *chain, l int, n uint64) error {
	if !c.onDisk(l, n) {
		return nil
	}
	a.files.tiles.remove(tileKey{l, n})
	_, err := a.files.tile(c, l, n)
	var damage *DamageError
	if !errors.As(err, &damage) {
		return err
	}
	hashes := make([]tlog.Hash, 0, TileWidth)
	for k := n * TileWidth; k < (n+1)*TileWidth; k++ {
		raw, err := a.readFile(TilePath(l-1, k, TileWidth))
		if err != nil || len(raw) != tileBytes {
			return damage
		}
		hashes = append(hashes, foldHashes(splitHashes(raw)))
	}
	want, err := c.node(node{tileHeight * uint(l+1), n}, a.files.of(c))
	if err != nil {
		return err
	}
	if foldHashes(hashes) != want {
		return damage
	}
	return a.rewrite(TilePath(l, n, TileWidth), joinHashes(hashes))
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
