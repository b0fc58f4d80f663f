package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft-wal/types"
)

// logFiles puts the disk beneath raft-wal's segments: it knows what was written
// since the last fsync, and a crash may take any of it back, or half. A stall
// holds the fsync, so that a crash in the midst of it finds bytes that nobody
// vouches for. What raft-wal keeps in bolt commits atomically.
func (d *disk) logFiles(inner types.VFS) types.VFS { return &segmentFiles{VFS: inner, disk: d} }

type segmentFiles struct {
	types.VFS
	disk *disk
}

// segmentFile is what one file has that was not fsynced.
type segmentFile struct {
	types.WritableFile
	disk   *disk
	fresh  bool // its name was not fsynced either
	writes []overwritten
}

type overwritten struct {
	at  int64
	old []byte
}

func (s *segmentFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := s.VFS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	return s.disk.keep(dir, name, &segmentFile{WritableFile: f, disk: s.disk, fresh: true}), nil
}

func (s *segmentFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := s.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return s.disk.keep(dir, name, &segmentFile{WritableFile: f, disk: s.disk}), nil
}

func (s *segmentFiles) Delete(dir, name string) error {
	s.disk.mu.Lock()
	delete(s.disk.segments, filepath.Join(dir, name))
	s.disk.mu.Unlock()
	return s.VFS.Delete(dir, name)
}

func (d *disk) keep(dir, name string, f *segmentFile) *segmentFile {
	d.mu.Lock()
	d.segments[filepath.Join(dir, name)] = f
	d.mu.Unlock()
	return f
}

func (f *segmentFile) WriteAt(p []byte, at int64) (int, error) {
	old := make([]byte, len(p))
	n, _ := f.ReadAt(old, at) // the rest is beyond the end: zeros
	clear(old[n:])
	f.disk.mu.Lock()
	f.writes = append(f.writes, overwritten{at, old})
	f.disk.mu.Unlock()
	return f.WritableFile.WriteAt(p, at)
}

func (f *segmentFile) Sync() error {
	if err := f.disk.write(); err != nil && !errors.Is(err, errFull) { // what has its place can be synced
		return fmt.Errorf("fsync segment: %w", err)
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if !f.disk.careless {
		f.writes, f.fresh = nil, false
	}
	return nil
}

// torn gives what a crash leaves of the content: of the newest writes any part
// may be missing; nil if the file itself is.
func (f *segmentFile) torn(content []byte, chance *rand.Rand) []byte {
	if f.fresh && chance.IntN(2) == 0 {
		return nil
	}
	content = slices.Clone(content)
	for _, w := range slices.Backward(f.writes) {
		from := 0
		switch chance.IntN(3) {
		case 0: // it is there
			from = len(w.old)
		case 1: // its first part is
			from = chance.IntN(len(w.old) + 1)
		}
		if end := int(w.at) + len(w.old); end <= len(content) {
			copy(content[int(w.at)+from:end], w.old[from:])
		}
	}
	return content
}

// beforeLog is asked before entries are stored. With raft-wal a stall comes later,
// at the fsync.
func (d *disk) beforeLog() error {
	d.mu.Lock()
	wal, fault := len(d.segments) > 0, d.fault
	d.mu.Unlock()
	if wal {
		return fault
	}
	return d.write()
}
