// Package archive keeps the ledger's history: an append-only, dense sequence of entries on the disk in the
// layout of C2SP tlog-tiles, with the RFC 6962 tree over them.
//
// An entry is an opaque string of 1 to 65,535 bytes; its seq counts from 0; its leaf hash is
// SHA-256(0x00 || entry). One writer appends, Sync makes durable what was appended, and any number of
// readers may read at the same time. Nothing is handed out that does not match its hashes.
//
// See DESIGN.md for the files, the crash points and the reasons.
package archive

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Options of Open; the zero value works.
type Options struct {
	FS         FS  // nil: the operating system's
	CacheTiles int // how many tiles of 8 KiB to keep in memory; 0: 1,024
	// Damaged hears of each full bundle or tile that reading finds damaged or missing, on the reader's
	// goroutine, and must not call the archive; nil: nobody does.
	Damaged func(*DamageError)
}

// Archive is a history on the disk. Its methods may be called from several goroutines, except that Append
// has one caller at a time.
type Archive struct {
	fs    FS
	dir   string
	lock  io.Closer
	files *files

	// diskMu is held by whoever writes files: Sync, Backfill, StartIsland, Repair, Close. It is taken
	// before mu, and never by readers nor, but for the limit on what is pending, by Append.
	diskMu slowLock
	hist   tailWriter      // the tail of the whole history
	island tailWriter      // the tail of the island, while there is a gap
	staged tailWriter      // the tail of what was backfilled
	ready  map[string]bool // folders known to be durable, by diskMu
	// scratch is room for the next file's content, by diskMu.
	scratch []byte

	// mu guards what follows, and is only held for copying memory.
	mu      sync.RWMutex
	now     view
	stage   *chain // what was backfilled and is not vouched for yet; nil without
	durable uint64 // of the end's chain
	pending int    // bytes appended and not written
	failed  error  // ErrFailed or ErrClosed, for ever
	full    bool   // the last write found no space, so that the tail files may hold more than was told
}

// slowLock is a mutex, made with capacity 1, that is held while a disk works, or
// stalls. Waiting for it is waiting on a channel, which virtual time goes past;
// for a sync.Mutex it would stand still, and the stall never end.
type slowLock chan struct{}

func (l slowLock) Lock()   { l <- struct{}{} }
func (l slowLock) Unlock() { <-l }

// Names in the archive's folder.
const (
	lockName   = "lock"
	tailName   = "tail"
	islandName = "island"
	stageDir   = "backfill"
	stageName  = stageDir + "/tail"
	tempDir    = "tmp"
)

// Open opens the archive in a folder, which it makes if need be, and locks it against other processes.
//
// It reads the tail, not the history. A torn write at the end of the tail is dropped; anything else that
// is not as it was written is a DamageError. The tail is then written anew, so that what is served from
// now on is on the disk even if an earlier process was told by the kernel that its fsync failed.
func Open(dir string, opts Options) (a *Archive, err error) {
	if opts.FS == nil {
		opts.FS = osFS{}
	}
	if opts.CacheTiles == 0 {
		opts.CacheTiles = defaultCacheTiles
	}
	a = &Archive{fs: opts.FS, dir: dir, diskMu: make(slowLock, 1), ready: make(map[string]bool)}
	a.files = newFiles(a.readFile, opts.CacheTiles, bundleCacheBytes)
	if opts.Damaged != nil {
		a.files.damaged = opts.Damaged
	}
	a.now.files = a.files
	a.hist = tailWriter{name: tailName}
	a.island = tailWriter{name: islandName}
	a.staged = tailWriter{name: stageName, prefix: stageDir + "/"}
	if err := a.fs.MkdirAll(a.path(tempDir)); err != nil {
		return nil, fmt.Errorf("make archive: %w", err)
	}
	if a.lock, err = a.fs.Lock(a.path(lockName)); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open archive: %w", err), a.lock.Close())
			a = nil
		}
	}()
	if err := a.removeTemps(); err != nil {
		return a, err
	}
	if err := a.load(); err != nil {
		return a, err
	}
	return a, a.settle()
}

// Close makes durable what was appended, and releases the files and the lock. Every later call fails.
func (a *Archive) Close() error {
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	before := a.Failed()
	if errors.Is(before, ErrClosed) {
		return nil
	}
	_, err := a.syncLocked()
	if before != nil {
		err = nil // whoever wrote last was told
	}
	a.mu.Lock()
	a.failed = ErrClosed
	a.mu.Unlock()
	for _, w := range []*tailWriter{&a.hist, &a.island, &a.staged} {
		err = errors.Join(err, w.close())
	}
	return errors.Join(err, a.lock.Close())
}

// Size is the next seq to append: the end of the whole history or, with a gap, of the island.
func (a *Archive) Size() uint64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.now.size()
}

// Whole is how far the history is here without a gap, staged backfill included: the seq from which
// Backfill goes on. What is staged cannot be read before the island's frontier has vouched for it.
func (a *Archive) Whole() uint64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.stage != nil {
		return a.stage.size
	}
	return a.now.hist.size
}

// Durable is the size up to which entries survive a crash. Entries in the gap are not here at all.
func (a *Archive) Durable() uint64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.durable
}

// Failed is nil as long as the archive takes entries; else it is an ErrFailed that wraps the cause.
func (a *Archive) Failed() error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.failed
}

// view is the state of this moment; it needs no lock.
func (a *Archive) view() (view, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if errors.Is(a.failed, ErrClosed) {
		return view{}, ErrClosed
	}
	v := a.now
	if v.island != nil {
		island := *v.island
		v.island = &island
	}
	return v, nil
}

// Entry is one entry; the slice is the caller's.
func (a *Archive) Entry(seq uint64) ([]byte, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	entry, err := v.entry(seq)
	return slices.Clone(entry), err
}

// Entries calls fn for each entry of [from, to), in order, and stops at its first error. All of them must
// be here: otherwise it is ErrNotFound or GapError before the first call. The slice that fn gets must
// not be changed.
func (a *Archive) Entries(from, to uint64, fn func(seq uint64, entry []byte) error) error {
	v, err := a.view()
	if err != nil {
		return err
	}
	return v.entries(from, to, fn)
}

// LeafHash is SHA-256(0x00 || entry).
func (a *Archive) LeafHash(seq uint64) (tlog.Hash, error) {
	v, err := a.view()
	if err != nil {
		return tlog.Hash{}, err
	}
	return v.leafHash(seq)
}

// Tile is the first width hashes of tile n of a level, 32 bytes each (C2SP tlog-tiles); width 256 is the
// full tile. It is ErrNotFound when the history does not reach so far.
func (a *Archive) Tile(level int, n uint64, width int) ([]byte, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	return v.tile(level, n, width)
}

// Bundle is the first width entries of bundle n, each after its length in two bytes, big endian (C2SP
// tlog-tiles); width 256 is the full bundle.
func (a *Archive) Bundle(n uint64, width int) ([]byte, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	return v.bundle(n, width)
}

// TreeHash is the RFC 6962 root of the first size entries.
func (a *Archive) TreeHash(size uint64) (tlog.Hash, error) {
	v, err := a.view()
	if err != nil {
		return tlog.Hash{}, err
	}
	return v.treeHash(size)
}

// ProveInclusion is the RFC 6962 audit path of an entry in the tree of a size, leaf to root.
func (a *Archive) ProveInclusion(seq, size uint64) ([]tlog.Hash, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	return v.proveInclusion(seq, size)
}

// ProveConsistency is the RFC 6962 proof that the tree of size extends that of old.
func (a *Archive) ProveConsistency(old, size uint64) ([]tlog.Hash, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	return v.proveConsistency(old, size)
}

// Frontier is the compact range of the first size entries.
func (a *Archive) Frontier(size uint64) (Frontier, error) {
	v, err := a.view()
	if err != nil {
		return Frontier{}, err
	}
	return v.frontier(size)
}

func (a *Archive) path(name string) string { return filepath.Join(a.dir, name) }

func (a *Archive) readFile(name string) ([]byte, error) { return a.fs.ReadFile(a.path(name)) }
