package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/archive"
)

// disk is what one process sees of its disk: a folder, and what ails it. It is
// the archive's file system, and wraps Raft's log. The disk survives the process
// as a copy of the folder (crash).
//
// Nothing is fsynced for real, since no real power fails: the disk knows which
// bytes were not, and a crash may drop them.
type disk struct {
	dir        string
	configured func(index, term uint64, servers []raft.Server) // hears of Raft's configurations; may be nil

	mu       sync.Mutex
	fault    error                   // ENOSPC or EIO at each write; nil when well
	stall    chan struct{}           // closed when the stall ends; nil when there is none
	unsynced map[string]int64        // by path: the length that was fsynced
	segments map[string]*segmentFile // of raft-wal, by path
	careless bool                    // a planted bug: raft-wal's fsyncs do nothing
	before   map[string][]byte       // by path: what a rename replaced, until its folder is fsynced; nil when nothing
}

func newDisk(dir string) *disk {
	return &disk{dir: dir, unsynced: map[string]int64{}, before: map[string][]byte{}, segments: map[string]*segmentFile{}}
}

// ail makes every write fail with err; nil ends it.
func (d *disk) ail(err error) {
	d.mu.Lock()
	d.fault = err
	d.mu.Unlock()
}

// stop makes every write wait until resume.
func (d *disk) stop() {
	d.mu.Lock()
	if d.stall == nil {
		d.stall = make(chan struct{})
	}
	d.mu.Unlock()
}

func (d *disk) resume() {
	d.mu.Lock()
	if d.stall != nil {
		close(d.stall)
		d.stall = nil
	}
	d.mu.Unlock()
}

// write is asked before each write: it waits while the disk stalls, and says
// why it fails.
func (d *disk) write() error {
	for {
		d.mu.Lock()
		stall, fault := d.stall, d.fault
		d.mu.Unlock()
		if stall == nil {
			return fault
		}
		<-stall
	}
}

// crash copies what a power cut leaves to another folder. Of bytes that were not
// fsynced any prefix may be there; a rename whose folder was not fsynced may not
// have happened. It is called while everything stands still.
func (d *disk) crash(to string, chance *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(d.dir, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if s := d.segments[path]; s != nil {
			if content = s.torn(content, chance); content == nil {
				return nil
			}
		}
		if old, renamed := d.before[path]; renamed && chance.IntN(2) == 0 {
			if old == nil {
				return nil
			}
			content = old
		} else if synced, open := d.unsynced[path]; open && synced < int64(len(content)) {
			content = content[:synced+chance.Int64N(int64(len(content))-synced+1)]
		}
		return os.WriteFile(target, content, 0o600)
	})
}

var _ archive.FS = (*disk)(nil)

func (d *disk) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

func (d *disk) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (d *disk) Create(name string) (archive.File, error) {
	if err := d.write(); err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.unsynced[name] = 0
	d.mu.Unlock()
	return &diskFile{disk: d, file: f, name: name}, nil
}

func (d *disk) Rename(from, to string) error {
	if err := d.write(); err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: err}
	}
	old, err := os.ReadFile(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if synced, ok := d.unsynced[from]; ok {
		delete(d.unsynced, from)
		d.unsynced[to] = synced
	}
	if _, known := d.before[to]; !known {
		d.before[to] = old
	}
	return nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	delete(d.unsynced, name)
	d.mu.Unlock()
	return os.Remove(name)
}

func (d *disk) RemoveAll(name string) error { return os.RemoveAll(name) }

func (d *disk) MkdirAll(name string) error {
	if err := d.write(); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return os.MkdirAll(name, 0o755)
}

func (d *disk) SyncDir(name string) error {
	if err := d.write(); err != nil {
		return &fs.PathError{Op: "fsync", Path: name, Err: err}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for path := range d.before {
		if filepath.Dir(path) == filepath.Clean(name) {
			delete(d.before, path)
		}
	}
	return nil
}

// Lock keeps nobody out: each process has a folder of its own.
func (d *disk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

type diskFile struct {
	disk *disk
	file *os.File
	name string // as created; a rename takes the synced length along by path
	size int64
}

func (f *diskFile) Write(p []byte) (int, error) {
	if err := f.disk.write(); err != nil {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *diskFile) Sync() error {
	if err := f.disk.write(); err != nil {
		return &fs.PathError{Op: "fsync", Path: f.name, Err: err}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	for path := range f.disk.unsynced { // the file may have another name by now
		if info, err := os.Stat(path); err == nil {
			if own, err := f.file.Stat(); err == nil && os.SameFile(info, own) {
				f.disk.unsynced[path] = f.size
			}
		}
	}
	return nil
}

func (f *diskFile) Close() error { return f.file.Close() }

// log wraps Raft's log with the disk's faults.
func (d *disk) log(inner raft.LogStore) raft.LogStore {
	return &diskLog{LogStore: inner, disk: d, turn: make(chan struct{}, 1)}
}

type diskLog struct {
	raft.LogStore
	disk *disk
	turn chan struct{} // raft-wal holds a mutex while its disk hangs: nobody else may wait for that
}

func (l *diskLog) DeleteRange(first, last uint64) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.LogStore.DeleteRange(first, last)
}

func (l *diskLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *diskLog) StoreLogs(entries []*raft.Log) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if err := l.disk.beforeLog(); err != nil {
		return fmt.Errorf("store logs: %w", err)
	}
	for _, one := range entries {
		if one.Type == raft.LogConfiguration && l.disk.configured != nil {
			l.disk.configured(one.Index, one.Term, raft.DecodeConfiguration(one.Data).Servers)
		}
	}
	return l.LogStore.StoreLogs(entries)
}

func (l *diskLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// The errors of disks that are full and that fail.
var (
	errFull    = syscall.ENOSPC
	errFailing = syscall.EIO
)
