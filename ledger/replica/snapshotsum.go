package replica

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

const snapshotsDir = "snapshots"

func snapshotFile(id, name string) string { return filepath.Join(raftDir, snapshotsDir, id, name) }

// summedSnapshots writes a SHA-256 of each snapshot's meta.json, which holds
// Raft's membership, beside it: the file store's own CRC covers the state only.
type summedSnapshots struct {
	raft.SnapshotStore
	files files
}

func (s *summedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	return &summedSink{sink, s.files}, nil
}

type summedSink struct {
	raft.SnapshotSink
	files files
}

func (s *summedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	meta, err := os.ReadFile(s.files.path(snapshotFile(s.ID(), "meta.json")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // cancelled before
	}
	if err != nil {
		return fmt.Errorf("sum snapshot: %w", err)
	}
	sum := sha256.Sum256(meta)
	return s.files.replace(snapshotFile(s.ID(), "meta.sum"), []byte(hex.EncodeToString(sum[:])))
}

// checkSnapshots compares each snapshot's meta.json with its sum. A crash may
// have left a snapshot without one.
func checkSnapshots(f files) error {
	found, err := os.ReadDir(f.path(filepath.Join(raftDir, snapshotsDir)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read snapshots: %w", err)
	}
	for _, one := range found {
		if !one.IsDir() || strings.HasSuffix(one.Name(), ".tmp") {
			continue
		}
		want, err := f.read(snapshotFile(one.Name(), "meta.sum"))
		if err != nil {
			return err
		}
		if want == nil {
			continue
		}
		name := snapshotFile(one.Name(), "meta.json")
		meta, err := os.ReadFile(f.path(name))
		if err != nil {
			return &FileError{File: name, Reason: err.Error()}
		}
		if sum := sha256.Sum256(meta); hex.EncodeToString(sum[:]) != string(want) {
			return &FileError{File: name, Reason: "its checksum differs from meta.sum"}
		}
	}
	return nil
}
