package replica

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
)

// logStore is where Raft keeps its log and its votes.
type logStore interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// openLogStore opens the log store. Bolt's list of free pages is a map and is
// not written at each commit: with the default, appends fell from 2,723/s to
// 106/s after one truncation of 400,000 entries.
//
// Everything in it is read and checked once; damage is a *FileError.
func openLogStore(cfg *Config, log *slog.Logger) (*summedLog, error) {
	if err := checkSnapshots(files{dir: cfg.Dir}); err != nil {
		return nil, err
	}
	s := &summedLog{name: filepath.Join(raftDir, "log.db"), offset: map[uint64]int64{}}
	bolt, buckets, key := s.name, [2]string{"logs", "conf"}, s.boltKey
	if cfg.LogStore == LogStoreWAL {
		s.name, bolt, buckets, key = filepath.Join(raftDir, "wal"), walMetaFile, [2]string{metadb.MetaBucket, metadb.StableBucket}, walKey
	}
	err := contained(s.name, func() (err error) {
		if err := checkBolt(filepath.Join(cfg.Dir, bolt), bolt, buckets, key); err != nil {
			return err
		}
		if s.logStore, err = openPlainStore(cfg, log); err != nil {
			return err
		}
		return s.check(newestSnapshot(cfg.Dir))
	})
	s.offset = nil
	if err != nil {
		if s.logStore != nil {
			_ = s.logStore.Close()
		}
		return nil, err
	}
	return s, nil
}

func openPlainStore(cfg *Config, log *slog.Logger) (logStore, error) {
	dir := filepath.Join(cfg.Dir, raftDir)
	if cfg.LogStore == LogStoreWAL {
		if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o700); err != nil {
			return nil, fmt.Errorf("open raft log: %w", err)
		}
		meta := &summedMeta{}
		opened := false
		defer func() {
			if !opened {
				_ = meta.Close() // wal.Open keeps it, and its lock, when it fails
			}
		}()
		files := types.VFS(fs.New())
		if h := cfg.Hooks; h != nil && h.LogFiles != nil {
			files = h.LogFiles(files)
		}
		s, err := wal.Open(filepath.Join(dir, "wal"), wal.WithSegmentFiler(segment.NewFiler(filepath.Join(dir, "wal"), files)), wal.WithSegmentSize(cfg.Raft.WALSegmentBytes),
			wal.WithLogger(newRaftLogger(log, "wal")), wal.WithMetaStore(meta))
		opened = err == nil
		if errors.Is(err, wal.ErrCorrupt) {
			return nil, &FileError{File: filepath.Join(raftDir, "wal"), Reason: err.Error()}
		}
		if err != nil {
			return nil, fmt.Errorf("open raft log: %w", err)
		}
		return s, nil
	}
	s, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, "log.db"),
		NoSync:      cfg.Raft.NoSync,
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: cfg.Limits.HandshakeLimit},
	})
	if err != nil {
		return nil, fmt.Errorf("open raft log: %w", err)
	}
	return s, nil
}

// provingSnapshots is Raft's snapshot store; what comes in from a leader must
// prove itself before it becomes a snapshot here.
type provingSnapshots struct {
	raft.SnapshotStore
	prove func(r io.Reader, o snapshotOrigin) error
	point func(point string)
}

func (s *provingSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	proving := &provingSink{SnapshotSink: sink, pipe: writer, result: make(chan error, 1), point: s.point}
	origin := snapshotOrigin{index: index, term: term, configuration: c, configurationIndex: ci, own: proving.own.Load}
	go func() {
		err := s.prove(reader, origin)
		_ = reader.CloseWithError(errors.Join(errSnapshotRead, err))
		proving.result <- err
	}()
	return proving, nil
}

var errSnapshotRead = errors.New("snapshot was read")

// provingSink passes what is written to the disk and to the proof.
type provingSink struct {
	raft.SnapshotSink
	pipe   *io.PipeWriter
	result chan error
	done   bool
	point  func(point string)
	own    atomic.Bool // set before the first byte
}

func (s *provingSink) Write(b []byte) (int, error) {
	if _, err := s.pipe.Write(b); err != nil {
		return 0, fmt.Errorf("keep snapshot: %w", err) // refused: no more of it goes to the disk
	}
	return s.SnapshotSink.Write(b)
}

// Close keeps the snapshot only if it proved itself.
func (s *provingSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	_ = s.pipe.Close()
	if err := <-s.result; err != nil {
		return errors.Join(fmt.Errorf("keep snapshot: %w", err), s.SnapshotSink.Cancel())
	}
	s.point("snapshot")
	defer s.point("snapshotted")
	return s.SnapshotSink.Close()
}

func (s *provingSink) Cancel() error {
	if s.done {
		return nil
	}
	s.done = true
	_ = s.pipe.CloseWithError(errors.New("snapshot was cancelled"))
	<-s.result
	return s.SnapshotSink.Cancel()
}
