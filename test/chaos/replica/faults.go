package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
)

// faults are what this replica suffers now.
type faults struct {
	clock atomic.Int64 // added to the wall clock, milliseconds
	errno atomic.Int64 // of writes and fsyncs; 0: the disk is well
	once  atomic.Bool  // only the next one fails
	mu    sync.Mutex   // of what follows
	point string       // where to crash
	after int          // passes of it before
}

// order is one of: "clock MILLIS", "disk well|eio|enospc|eio-once", "crash POINT N".
func (f *faults) order(text string) error {
	words := strings.Fields(text)
	switch {
	case len(words) == 2 && words[0] == "clock":
		n, err := strconv.ParseInt(words[1], 10, 64)
		f.clock.Store(n)
		return err
	case len(words) == 2 && words[0] == "disk":
		errno, ok := map[string]syscall.Errno{"well": 0, "eio": syscall.EIO, "eio-once": syscall.EIO, "enospc": syscall.ENOSPC}[words[1]]
		if !ok {
			return fmt.Errorf("no disk is %q", words[1])
		}
		f.once.Store(words[1] == "eio-once")
		f.errno.Store(int64(errno))
		return nil
	case len(words) == 3 && words[0] == "crash":
		n, err := strconv.Atoi(words[2])
		f.mu.Lock()
		defer f.mu.Unlock()
		f.point, f.after = words[1], n
		return err
	}
	return fmt.Errorf("unknown order %q", text)
}

// pass is called at each point; it does not return from the one where the
// replica is to crash.
func (f *faults) pass(point string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if point != f.point {
		return
	}
	if f.after--; f.after <= 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // until the signal has its way
	}
}

// disk is what the next write or fsync gives.
func (f *faults) disk() error {
	errno := syscall.Errno(f.errno.Load())
	if errno == 0 {
		return nil
	}
	if f.once.Load() {
		f.errno.Store(0)
	}
	return fmt.Errorf("planted: %w", errno)
}

func (f *faults) hooks() *replica.Hooks {
	return &replica.Hooks{
		Clock:   func() uint64 { return uint64(time.Now().UnixMilli() + f.clock.Load()) },
		Archive: &faultyFS{archive.OS(), f},
		Log:     func(inner raft.LogStore) raft.LogStore { return &faultyLog{inner, f} },
		Apply: func(s *fsm.State, c *ledger.Command, v fsm.Verifier) (*fsm.State, fsm.Result) {
			f.pass("apply")
			defer f.pass("applied")
			return fsm.Apply(s, c, v)
		},
		Point: f.pass,
	}
}

// faultyLog is Raft's log on a disk with these faults.
type faultyLog struct {
	raft.LogStore
	f *faults
}

func (l *faultyLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *faultyLog) StoreLogs(logs []*raft.Log) error {
	l.f.pass("log")
	if err := l.f.disk(); err != nil {
		return err
	}
	err := l.LogStore.StoreLogs(logs)
	l.f.pass("logged")
	return err
}

// IsMonotonic passes on what the store says of itself.
func (l *faultyLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// faultyFS is the history's file system with these faults.
type faultyFS struct {
	archive.FS
	f *faults
}

func (s *faultyFS) Create(name string) (archive.File, error) {
	if err := s.f.disk(); err != nil {
		return nil, err
	}
	file, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, s.f}, nil
}

// Rename passes the points "bundle" and "bundled" around the moment at which a
// full bundle gets its name, "tail" and "tailed" for the tail's.
func (s *faultyFS) Rename(from, to string) error {
	what := ""
	switch {
	case strings.Contains(filepath.ToSlash(to), "/tile/entries/"):
		what = "bundle"
	case filepath.Base(to) == "tail":
		what = "tail"
	default:
		return s.FS.Rename(from, to)
	}
	s.f.pass(what)
	err := s.FS.Rename(from, to)
	s.f.pass(what + "ed")
	return err
}

type faultyFile struct {
	archive.File
	f *faults
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.f.disk(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error {
	if err := f.f.disk(); err != nil {
		return err
	}
	return f.File.Sync()
}
