package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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
