package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/quorate/quorate/ledger/archive"
)

// The parts of the disk whose failure is noted apart.
const (
	diskArchive = "archive"
	diskLog     = "raft log"
	diskFiles   = "files"
)

// ErrDiskFailed ends Run: Raft's log could not be written, for another reason
// than a full disk, or an fsync of it failed. What the disk holds is not known,
// and what the kernel could not write it may have dropped, so that a second
// fsync proves nothing: nothing is tried again in this process.
var ErrDiskFailed = errors.New("the disk failed under Raft's log: nothing more is written to it; look at the disk before starting again")

// syncError marks an error that an fsync gave.
type syncError struct{ error }

func (e *syncError) Unwrap() error { return e.error }

// asStored marks the errors of a log store that come from an fsync: bolt gives
// the bare errno of fdatasync, and what os.File gives names its operation.
func asStored(err error) error {
	var errno syscall.Errno
	if err == nil || !errors.As(err, &errno) {
		return err
	}
	var named *fs.PathError
	if errors.As(err, &named) && named.Op != "sync" {
		return err
	}
	return &syncError{err}
}

// isDisk says whether an error comes from the disk rather than from content.
func isDisk(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS:
			return true
		}
	}
	return errors.Is(err, archive.ErrFailed) || errors.Is(err, archive.ErrFull)
}

// isFull says whether a write was refused for want of space, before any fsync:
// then nothing was lost, and it may be tried again.
func isFull(err error) bool {
	var synced *syncError
	return (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.As(err, &synced)
}

// logFailure is the first error of Raft's log that is final.
type logFailure struct {
	mu       sync.Mutex
	err      error
	happened chan struct{} // closed with it
}

func (f *logFailure) error() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *logFailure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("%w: %w", ErrDiskFailed, err)
		close(f.happened)
	}
}

// diskLogStore stands between Raft and the store of its log, its term and its
// votes: every write is timed, and
//
//   - a full disk refuses entries, and takes them again when there is space;
//   - after any other error nothing is written any more, whatever the disk says
//     by then, and the replica stops;
//   - what Raft can't go on without (its term, or entries in the place of those
//     just removed) waits for space instead of failing: Raft panics on the one,
//     and mistakes the end of its log after the other.
type diskLogStore struct {
	raft.LogStore
	stable   raft.StableStore
	watchdog *watchdog
	failure  *logFailure
	stopping <-chan struct{}
	report   func(err error)

	removed atomic.Bool // the log's end was removed, and nothing stored since
	runs    atomic.Bool // Raft's goroutines do
}

// write does one write; waits says that it must not fail for want of space.
func (s *diskLogStore) write(waits bool, do func() error) error {
	if err := s.failure.error(); err != nil {
		return err
	}
	for {
		end := s.watchdog.begin(diskLog)
		err := do()
		end()
		switch {
		case errors.Is(err, berrors.ErrDatabaseNotOpen), errors.Is(err, wal.ErrClosed):
			return err
		case errors.Is(err, wal.ErrSealed):
			err = fmt.Errorf("the write-ahead log could not begin its next segment, for want of space perhaps: %w", err)
		}
		s.report(err)
		if err != nil && !isFull(err) {
			s.failure.set(err)
			return s.failure.error()
		}
		if err == nil || !waits {
			return err
		}
		select {
		case <-time.After(fullRetry):
		case <-s.stopping:
			return err
		}
	}
}

// fullRetry is how often a write that must not fail is tried on a full disk.
const fullRetry = 250 * time.Millisecond

func (s *diskLogStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *diskLogStore) StoreLogs(logs []*raft.Log) error {
	removed := s.removed.Load()
	err := s.write(removed, func() error { return s.LogStore.StoreLogs(logs) })
	if err == nil {
		s.removed.Store(false)
	} else if removed && s.runs.Load() {
		runtime.Goexit() // see set
	}
	return err
}

func (s *diskLogStore) DeleteRange(first, last uint64) error {
	end, err := s.LogStore.LastIndex()
	if err != nil {
		return err
	}
	err = s.write(false, func() error { return s.LogStore.DeleteRange(first, last) })
	if err == nil && last >= end {
		s.removed.Store(true)
	}
	return err
}

// IsMonotonic passes on what raft-wal says: Raft then clears the log itself
// after installing a snapshot.
func (s *diskLogStore) IsMonotonic() bool {
	m, ok := s.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// set writes what Raft panics without. When that is impossible, the goroutine
// that asked ends: what it deferred answers its request with a refusal, and
// nothing goes on from a term that is not on the disk.
func (s *diskLogStore) set(do func() error) error {
	err := s.write(s.runs.Load(), do)
	if err != nil && s.runs.Load() {
		runtime.Goexit()
	}
	return err
}

func (s *diskLogStore) Set(key, value []byte) error {
	return s.set(func() error { return s.stable.Set(key, value) })
}

func (s *diskLogStore) SetUint64(key []byte, value uint64) error {
	if have, err := s.stable.GetUint64(key); err == nil && have == value {
		return nil // Raft writes its term again at each start
	}
	return s.set(func() error { return s.stable.SetUint64(key, value) })
}

func (s *diskLogStore) Get(key []byte) ([]byte, error) { return s.stable.Get(key) }

func (s *diskLogStore) GetUint64(key []byte) (uint64, error) { return s.stable.GetUint64(key) }

// newRaft is raft.NewRaft. What Raft panics of while it starts, a term that the
// disk does not take, is an error; later, set sees to it.
func newRaft(config *raft.Config, fsm raft.FSM, logs raft.LogStore, stable *diskLogStore, snapshots raft.SnapshotStore, transport raft.Transport) (node *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	node, err = raft.NewRaft(config, fsm, logs, stable, snapshots, transport)
	stable.runs.Store(err == nil)
	return node, err
}
