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
	clock   atomic.Int64 // added to the wall clock, milliseconds
	log     atomic.Bool  // the next write of Raft's log fails
	archive atomic.Bool  // likewise of the history
	mu      sync.Mutex   // of what follows
	point   string       // where to crash
	after   int          // passes of it before
}

// order is one of: "clock MILLIS", "fail log", "fail archive", "crash POINT N".
func (f *faults) order(text string) error {
	words := strings.Fields(text)
	switch {
	case len(words) == 2 && words[0] == "clock":
		n, err := strconv.ParseInt(words[1], 10, 64)
		f.clock.Store(n)
		return err
	case text == "fail log":
		f.log.Store(true)
		return nil
	case text == "fail archive":
		f.archive.Store(true)
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

// fail gives one error of the disk if one is due.
func fail(due *atomic.Bool) error {
	if due.CompareAndSwap(true, false) {
		return fmt.Errorf("planted: %w", syscall.EIO)
	}
	return nil
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
	if err := fail(&l.f.log); err != nil {
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
	if err := fail(&s.f.archive); err != nil {
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
	before, after := "", ""
	switch {
	case strings.Contains(filepath.ToSlash(to), "/tile/entries/"):
		before, after = "bundle", "bundled"
	case filepath.Base(to) == "tail":
		before, after = "tail", "tailed"
	default:
		return s.FS.Rename(from, to)
	}
	s.f.pass(before)
	err := s.FS.Rename(from, to)
	s.f.pass(after)
	return err
}

type faultyFile struct {
	archive.File
	f *faults
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if err := fail(&f.f.archive); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error {
	if err := fail(&f.f.archive); err != nil {
		return err
	}
	return f.File.Sync()
}
