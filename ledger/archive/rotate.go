package archive

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tailWriter appends to one tail file. All of it belongs to the holder of diskMu.
type tailWriter struct {
	name    string // of the tail file
	prefix  string // before the paths of its full tiles
	file    File
	salt    uint32
	whole   uint64 // of staged backfill: the size of the history that it continues
	written uint64 // the entries below are in the file or in full bundles, durable
}

func (w *tailWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// flush makes the chain durable. As long as no bundle has filled, that is one write and one fsync. Else
// the full bundles and tiles are written, and then a new tail with what lies past them takes the place of
// the old: that rename is what makes the entries durable, so that a crash before it leaves the old tail,
// and files that the next attempt writes over with the same bytes.
func (a *Archive) flush(w *tailWriter, c *chain) error {
	if c.fullBundles() == c.base && w.file != nil {
		return a.appendTail(w, c)
	}
	if err := a.writeFull(w, c); err != nil {
		return err
	}
	rest := c.clone()
	rest.dropTo(c.fullBundles())
	return a.replaceTail(w, &rest)
}

// appendTail writes the records that are not in the tail yet.
func (a *Archive) appendTail(w *tailWriter, c *chain) error {
	synced := w.written
	size := bytesOf(c.entries[synced-c.base:]) + int(c.size-synced)*recordHeaderSize
	buf := slices.Grow(a.scratch[:0], min(size, writeChunkBytes+recordHeaderSize+MaxEntryBytes))
	defer func() { a.keepScratch(buf) }()
	for seq := w.written; seq < c.size; seq++ {
		buf = appendRecord(buf, seq, synced, c.entries[seq-c.base], w.salt)
		if len(buf) >= writeChunkBytes || seq+1 == c.size {
			if _, err := w.file.Write(buf); err != nil {
				return fmt.Errorf("write %s: %w", w.name, err)
			}
			buf = buf[:0]
		}
	}
	// Crash point tail-append: before this fsync any part of the records may be missing; the next Open
	// drops them from the first that is torn.
	if err := w.file.Sync(); err != nil {
		return &fsyncError{w.name, err}
	}
	w.written = c.size
	return nil
}

// replaceTail writes a new tail file for a chain whose full bundles are all on the disk.
func (a *Archive) replaceTail(w *tailWriter, c *chain) error {
	salt := newSalt()
	data := appendTailFile(a.scratch[:0], c, w.whole, salt)
	f, err := a.writeTemp(w.name, data)
	a.keepScratch(data)
	if err != nil {
		return err
	}
	// Crash point tail-swap: the old tail or the new one, each whole. The folder's fsync decides.
	if err := a.rename(a.tempName(w.name), w.name); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := a.syncDir(path.Dir(w.name)); err != nil {
		return errors.Join(err, f.Close())
	}
	err = w.close()
	w.file, w.salt, w.written = f, salt, c.size
	return err
}

// keepScratch keeps what a file was made in for the next one: under load each entry passes through here
// twice, which would be the greater part of all garbage. A File keeps nothing of what it wrote.
func (a *Archive) keepScratch(b []byte) {
	if a.scratch = b[:0]; cap(b) > maxScratchBytes {
		a.scratch = nil
	}
}

// writeFull writes the bundles and tiles of the chain that have filled and are not on the disk.
func (a *Archive) writeFull(w *tailWriter, c *chain) error {
	base := c.fullBundles()
	folders := make(map[string]bool)
	put := func(name string, data []byte) error {
		folders[path.Dir(w.prefix+name)] = true
		return a.putFile(w.prefix+name, data)
	}
	for begin := c.base &^ (TileWidth - 1); begin < base; begin += TileWidth {
		if begin < c.first {
			continue // cut: stays in head until the gap is filled
		}
		entries := c.entries[begin-c.base:][:TileWidth]
		data := appendBundle(a.scratch[:0], entries)
		err := put(BundlePath(begin/TileWidth, TileWidth), data)
		a.keepScratch(data)
		if err != nil {
			return err
		}
	}
	for l := range c.levels {
		lv := &c.levels[l]
		for begin := lv.start &^ (TileWidth - 1); begin+TileWidth <= position(base, l); begin += TileWidth {
			if begin < lv.start {
				continue // cut: stays in bound
			}
			hashes := lv.hashes[begin-lv.start:][:TileWidth]
			if err := put(TilePath(l, begin/TileWidth, TileWidth), joinHashes(hashes)); err != nil {
				return err
			}
		}
	}
	// Crash point full-files: before these fsyncs some of the files may have their old names or none.
	return a.syncDirs(folders)
}

// putFile gives a file its content whole or not at all. Its folder is not fsynced.
func (a *Archive) putFile(name string, data []byte) error {
	if err := a.ensureDir(path.Dir(name)); err != nil {
		return err
	}
	f, err := a.writeTemp(name, data)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	// Crash point full-rename: the file is there, whole, or it is not.
	return a.rename(a.tempName(name), name)
}

// writeTemp writes the file that is to become name, and fsyncs it.
func (a *Archive) writeTemp(name string, data []byte) (File, error) {
	f, err := a.fs.Create(a.path(a.tempName(name)))
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close())
	}
	// Crash point temp: leaves a file in tmp, which the next Open removes.
	if err := f.Sync(); err != nil {
		return nil, errors.Join(&fsyncError{name, err}, f.Close())
	}
	return f, nil
}

// tempName is where a file is written before it gets its name. One folder holds all of them, so that
// Open need not search the tiles for leftovers.
func (a *Archive) tempName(name string) string {
	return tempDir + "/" + strings.ReplaceAll(name, "/", "-")
}

func (a *Archive) rename(from, to string) error {
	if err := a.fs.Rename(a.path(from), a.path(to)); err != nil {
		return fmt.Errorf("rename to %s: %w", to, err)
	}
	return nil
}

func (a *Archive) syncDir(name string) error {
	if err := a.fs.SyncDir(a.path(name)); err != nil {
		return &fsyncError{name, err}
	}
	return nil
}

func (a *Archive) syncDirs(names map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := a.syncDir(name); err != nil {
			return err
		}
	}
	return nil
}

// ensureDir makes a folder and all above it durable, once.
func (a *Archive) ensureDir(name string) error {
	if a.ready[name] {
		return nil
	}
	if err := a.fs.MkdirAll(a.path(name)); err != nil {
		return fmt.Errorf("make folder %s: %w", name, err)
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		// Crash point folder: without these fsyncs a crash could take the folder with all in it.
		if err := a.syncDir(dir); err != nil {
			return err
		}
		if dir == "." {
			break
		}
	}
	if len(a.ready) > maxReadyDirs {
		clear(a.ready)
	}
	a.ready[name] = true
	return nil
}

// syncParent makes the archive's own folder durable.
func (a *Archive) syncParent() error {
	if err := a.fs.SyncDir(filepath.Dir(filepath.Clean(a.dir))); err != nil {
		return &fsyncError{"the folder above the archive", err}
	}
	return nil
}
