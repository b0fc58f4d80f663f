package archive

import (
	"errors"
	"fmt"
	"slices"
)

// removeTemps removes files that a crash left half written.
func (a *Archive) removeTemps() error {
	names, err := a.fs.ReadDir(a.path(tempDir))
	if err != nil {
		return fmt.Errorf("read folder %s: %w", tempDir, err)
	}
	for _, name := range names {
		if err := a.fs.Remove(a.path(tempDir + "/" + name)); err != nil && !isMissing(err) {
			return fmt.Errorf("remove leftover %s: %w", name, err)
		}
	}
	return nil
}

// load reads the tail files. It writes nothing.
func (a *Archive) load() error {
	a.now.hist = newChain(Frontier{})
	tail, found, err := a.loadTail(tailName)
	if err != nil {
		return err
	}
	if !found {
		return a.mustBeNew()
	}
	if tail.chain.first != 0 {
		return &DamageError{File: tailName, Reason: "it does not begin at entry 0"}
	}
	a.now.hist = tail.chain

	island, found, err := a.loadTail(islandName)
	if err != nil {
		return err
	}
	if !found || tail.chain.size >= island.chain.first {
		return nil // no gap, or one that has been filled
	}
	if tail.torn {
		return &DamageError{File: tailName, Reason: "it is cut, and was durable before the gap began"}
	}
	a.now.island = &island.chain

	stage, found, err := a.loadTail(stageName)
	if err != nil {
		return err
	}
	fits := stage.whole == tail.chain.size && stage.chain.first == 0 &&
		stage.chain.size >= tail.chain.size && stage.chain.size <= island.chain.first
	if found && fits {
		a.stage = &stage.chain
	}
	return nil
}

func (a *Archive) loadTail(name string) (t tailFile, found bool, err error) {
	data, err := a.readFile(name)
	if isMissing(err) {
		return tailFile{}, false, nil
	}
	if err != nil {
		return tailFile{}, false, fmt.Errorf("read %s: %w", name, err)
	}
	t, err = parseTail(name, data)
	return t, true, err
}

// mustBeNew refuses a folder that lost its tail.
func (a *Archive) mustBeNew() error {
	names, err := a.fs.ReadDir(a.dir)
	if err != nil {
		return fmt.Errorf("read folder: %w", err)
	}
	for _, name := range []string{"tile", islandName, stageDir} {
		if slices.Contains(names, name) {
			return &DamageError{File: tailName, Reason: "the file is missing, and the folder is not new"}
		}
	}
	return nil
}

// settle writes the tails anew, clears away what crashes left, and finishes a join that was begun.
func (a *Archive) settle() error {
	end, w := a.now.end(), &a.hist
	if a.now.island != nil {
		w = &a.island
	}
	if err := a.flush(w, end); err != nil {
		return err
	}
	if err := a.syncParent(); err != nil {
		return err
	}
	end.dropTo(end.fullBundles())
	a.durable = end.size
	switch {
	case a.now.island == nil:
		return a.removeIsland()
	case a.stage == nil:
		return a.removeStage()
	}
	if err := a.flushStage(a.stage, a.now.hist.size); err != nil {
		return err
	}
	if a.stage.size < a.now.island.first {
		return nil
	}
	if err := a.join(); !errors.Is(err, ErrConflict) || a.failed != nil {
		return err
	}
	return nil // what was staged was wrong and is gone; the gap is to be filled anew
}
