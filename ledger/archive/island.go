package archive

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A replica that installed a snapshot has a gap: its history is whole up to W, and an island begins where
// the snapshot ended, at S. Appends go to the island, whose tail file is "island"; "tail" stays as it is.
// What is backfilled is staged under "backfill", in the same layout, where nobody reads it: it is not
// vouched for. When it reaches S, its frontier must be the island's; then the staged files are moved to
// their places, and a new "tail" that covers both sides takes the place of the old one. That rename is
// the moment of joining: a "tail" that reaches S makes "island" and "backfill" leftovers.

// StartIsland says that Append goes on at f.Size, and that the tree before is the one whose frontier f is.
// It is durable when it returns, and does nothing if the history already reaches f.Size. It must not run
// at the same time as Append.
//
// The history that is here must agree with f where f can tell: else it is a ConflictError, and nothing
// changes. An island that was there before is given up, with what was appended to it: its entries lie in
// the gap from now on.
func (a *Archive) StartIsland(f Frontier) error {
	if err := f.Validate(); err != nil {
		return err
	}
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	v, err := a.view()
	if err != nil {
		return err
	}
	if f.Size <= v.size() {
		return nil
	}
	for i, x := range perfectSubtrees(f.Size) {
		if x.end() > v.hist.size {
			break
		}
		have, err := v.hist.node(x, v.files.of(&v.hist))
		if err != nil {
			return err
		}
		if have != f.Hashes[i] {
			return &ConflictError{Seq: x.begin()}
		}
	}
	if v.island == nil {
		if _, err := a.syncLocked(); err != nil {
			return err
		}
	} else if err := a.Failed(); err != nil {
		return err
	}
	island := newChain(f)
	// Crash point island-start: with the rename in here the gap begins; before it, there is none.
	if err := a.replaceTail(&a.island, &island); err != nil {
		return a.fail(err)
	}
	if err := a.hist.close(); err != nil { // not written to as long as there is a gap
		return a.fail(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now.island = &island
	a.durable, a.pending = f.Size, 0
	return nil
}

// Gap is what is missing between the whole history, staged backfill included, and the island.
func (a *Archive) Gap() (from, to uint64, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.now.island == nil {
		return 0, 0, false
	}
	from = a.now.hist.size
	if a.stage != nil {
		from = a.stage.size
	}
	return from, a.now.island.first, true
}

var errNoGap = errors.New("archive: there is no gap to fill")

// Backfill stages entries of the gap from Whole() on; those that reach into the island are left out. What
// it took is durable when it returns. On reaching the island everything from the old end of the history
// on must hash to the island's frontier: then the gap is gone, else it is a ConflictError, all that was
// staged is thrown away, and Whole() is back where the gap began. A subtree of the frontier that is
// complete earlier is compared at once.
//
// It may run beside Append and Sync; Sync waits for it.
func (a *Archive) Backfill(from uint64, entries [][]byte) error {
	for i, e := range entries {
		if len(e) == 0 || len(e) > MaxEntryBytes {
			return fmt.Errorf("archive: entry %d has %d bytes, not 1 to %d", from+uint64(i), len(e), MaxEntryBytes)
		}
	}
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	a.mu.RLock()
	v, staged, err := a.now, a.stage, a.failed
	a.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case v.island == nil:
		return errNoGap
	case staged == nil:
		staged = &v.hist
	}
	stage := staged.clone()
	if from > stage.size {
		return &GapError{From: stage.size, To: from}
	}
	if from < stage.size {
		return fmt.Errorf("archive: backfill from %d, which is here: it goes on at %d", from, stage.size)
	}
	frontier := v.island.frontier
	room := frontier.Size - stage.size
	for _, e := range entries[:min(uint64(len(entries)), room)] {
		stage.push(slices.Clone(e), tlog.RecordHash(e))
		if seq, ok := stage.agrees(frontier); !ok {
			return errors.Join(&ConflictError{Seq: seq}, a.discardStage())
		}
	}
	if err := a.flushStage(&stage, v.hist.size); err != nil {
		return a.failOrFull(&a.staged, err)
	}
	if stage.size < frontier.Size {
		return nil
	}
	return a.join()
}

// agrees compares the subtree of f that ends with the newest entry, if there is one. Else it gives the
// seq at which that subtree begins.
func (c *chain) agrees(f Frontier) (uint64, bool) {
	for i, x := range perfectSubtrees(f.Size) {
		if x.end() == c.size {
			h, err := c.node(x, nil)
			invariant(err == nil, "a subtree that has just been completed is in memory")
			return x.begin(), h == f.Hashes[i]
		}
	}
	return 0, true
}

func (a *Archive) flushStage(stage *chain, whole uint64) error {
	if err := a.ensureDir(stageDir); err != nil {
		return err
	}
	a.staged.whole = whole
	// Crash point stage: what was staged is there or is fetched again; the island is not touched.
	if err := a.flush(&a.staged, stage); err != nil {
		return err
	}
	stage.dropTo(stage.fullBundles())
	a.mu.Lock()
	a.stage = stage
	a.full = false
	a.mu.Unlock()
	return nil
}

// discardStage throws away what was staged. The caller holds diskMu.
func (a *Archive) discardStage() error {
	a.mu.Lock()
	a.stage = nil
	a.mu.Unlock()
	err := a.staged.close()
	if err == nil {
		err = a.removeStage()
	}
	if err != nil {
		return a.fail(err)
	}
	return nil
}

// removeStage removes the folder of what was staged, its tail first: without that, the rest is litter.
func (a *Archive) removeStage() error {
	clear(a.ready)
	// Crash point stage-remove: with the tail it is still staged; without it, Open removes the rest.
	if err := a.fs.Remove(a.path(stageName)); err != nil && !isMissing(err) {
		return fmt.Errorf("remove %s: %w", stageName, err)
	} else if err == nil {
		if err := a.syncDir(stageDir); err != nil {
			return err
		}
	}
	if err := a.fs.RemoveAll(a.path(stageDir)); err != nil {
		return fmt.Errorf("remove %s: %w", stageDir, err)
	}
	return a.syncDir(".")
}

// join makes one history of the staged backfill, which has reached the island, and the island. It may be
// repeated after a crash at any point. The caller holds diskMu.
func (a *Archive) join() error {
	a.mu.RLock()
	hist, stage, island := a.now.hist, *a.stage, *a.now.island
	a.mu.RUnlock()
	have, err := stage.newestFrontier()
	invariant(err == nil, "the newest frontier is in memory")
	for i, x := range perfectSubtrees(stage.size) {
		if have.Hashes[i] != island.frontier.Hashes[i] {
			return errors.Join(&ConflictError{Seq: x.begin()}, a.discardStage())
		}
	}
	if err := a.moveStaged(&hist, &stage); err != nil {
		return a.fail(err)
	}
	merged, cut := mergeChains(&stage, &island)
	folders := make(map[string]bool)
	for _, f := range cut {
		if err := a.putFile(f.name, f.data); err != nil {
			return a.fail(err)
		}
		folders[path.Dir(f.name)] = true
	}
	if err := a.syncDirs(folders); err != nil {
		return a.fail(err)
	}
	// Crash point join: with the new tail the gap is gone; with the old one, Open joins again.
	if err := a.flush(&a.hist, &merged); err != nil {
		return a.fail(err)
	}

	a.mu.Lock()
	live, _ := mergeChains(&stage, a.now.island)
	live.dropTo(merged.fullBundles())
	a.pending -= bytesOf(island.entries[max(a.durable, island.base)-island.base:])
	a.now.hist, a.now.island, a.stage = live, nil, nil
	a.durable = merged.size
	a.mu.Unlock()

	if err := errors.Join(a.island.close(), a.staged.close()); err != nil {
		return a.fail(err)
	}
	if err := a.removeIsland(); err != nil {
		return a.fail(err)
	}
	return nil
}

// removeIsland removes what is left of a gap that has been filled.
func (a *Archive) removeIsland() error {
	// Crash point island-remove: Open knows the leftovers by a tail that reaches beyond them.
	if err := a.fs.Remove(a.path(islandName)); err != nil && !isMissing(err) {
		return fmt.Errorf("remove %s: %w", islandName, err)
	}
	return a.removeStage()
}

// moveStaged gives the staged full bundles and tiles their places.
func (a *Archive) moveStaged(hist, stage *chain) error {
	folders := make(map[string]bool)
	move := func(name string) error {
		if err := a.ensureDir(path.Dir(name)); err != nil {
			return err
		}
		folders[path.Dir(name)] = true
		// Crash point stage-move: some files are moved and some not; a repeated join moves the rest.
		err := a.rename(a.staged.prefix+name, name)
		if isMissing(err) {
			_, err = a.readFile(name)
		}
		return err
	}
	for begin := hist.base; begin < stage.base; begin += TileWidth {
		if err := move(BundlePath(begin/TileWidth, TileWidth)); err != nil {
			return err
		}
	}
	for l := range stage.levels {
		for begin := hist.levels[l].start; begin < stage.levels[l].start; begin += TileWidth {
			if err := move(TilePath(l, begin/TileWidth, TileWidth)); err != nil {
				return err
			}
		}
	}
	return a.syncDirs(folders)
}

// wholeFile is one to be written.
type wholeFile struct {
	name string
	data []byte
}

// mergeChains makes one chain of a whole history and the island that begins at its end, and the bundle and
// tiles that the border cut. It shares memory with both but changes neither.
func mergeChains(stage, island *chain) (merged chain, cut []wholeFile) {
	merged = stage.clone()
	merged.size, merged.base = island.size, island.base
	switch {
	case len(island.head) > 0:
		entries := slices.Concat(stage.entries, island.head)
		cut = append(cut, wholeFile{BundlePath(stage.base/TileWidth, TileWidth), encodeBundle(entries)})
		merged.entries = slices.Clone(island.entries)
	case island.base == island.first:
		merged.base = stage.base
		merged.entries = slices.Concat(stage.entries, island.entries)
	default:
		merged.entries = slices.Clone(island.entries)
	}
	for l := range merged.levels {
		left, right := &stage.levels[l], &island.levels[l]
		switch {
		case len(right.bound) > 0:
			tile := slices.Concat(left.hashes, right.bound)
			cut = append(cut, wholeFile{TilePath(l, left.start/TileWidth, TileWidth), joinHashes(tile)})
			merged.levels[l] = level{start: right.start, hashes: slices.Clone(right.hashes)}
		case right.start == position(island.first, l):
			merged.levels[l] = level{start: left.start, hashes: slices.Concat(left.hashes, right.hashes)}
		default:
			merged.levels[l] = level{start: right.start, hashes: slices.Clone(right.hashes)}
		}
	}
	return merged, cut
}
