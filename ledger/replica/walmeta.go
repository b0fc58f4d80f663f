package replica

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

var walMetaFile = filepath.Join(raftDir, "wal", metadb.FileName)

// walStateKey is where the checksums of raft-wal's list of segments are kept.
const walStateKey = "quorate.segments"

// summedMeta is raft-wal's own store beside its segments, with a checksum over
// the list of them: raft-wal deletes the segments that the list does not name.
//
// The list and its checksum are two transactions, so the checksum of the list
// before is kept beside the new one: a crash in between leaves one of the two.
type summedMeta struct {
	metadb.BoltMetaDB
	current []byte
}

func walStateSum(state types.PersistentState) ([]byte, error) {
	b, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encode segments: %w", err)
	}
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli)), nil
}

// Load is types.MetaStore; damage is a *FileError, that of the tail, which raft-wal
// reads next, too.
func (m *summedMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err
	}
	if m.current, err = walStateSum(state); err != nil {
		return state, err
	}
	sums, err := m.GetStable([]byte(walStateKey))
	if err != nil {
		return state, err
	}
	fresh := sums == nil && len(state.Segments) == 0
	if !fresh && !(len(sums) == 8 && (bytes.Equal(sums[:4], m.current) || bytes.Equal(sums[4:], m.current))) {
		return state, &FileError{File: walMetaFile, Reason: "the checksum of the list of segments differs"}
	}
	return state, checkWALTail(dir, state.Segments)
}

// CommitState is types.MetaStore.
func (m *summedMeta) CommitState(state types.PersistentState) error {
	sum, err := walStateSum(state)
	if err != nil {
		return err
	}
	if err := m.SetStable([]byte(walStateKey), slices.Concat(m.current, sum)); err != nil {
		return err
	}
	// Crash here: the old list, whose checksum is the first of the two.
	if err := m.BoltMetaDB.CommitState(state); err != nil {
		return err
	}
	m.current = sum
	return nil
}

// walKey hears of each key in raft-wal's store.
func walKey(bucket string, key []byte, offset int64) error {
	known := append([]string{walStateKey}, stableKeys...)
	if bucket == metadb.MetaBucket && string(key) == metadb.MetaKey || bucket == metadb.StableBucket && slices.Contains(known, string(key)) {
		return nil
	}
	return &FileError{File: walMetaFile, Offset: offset - int64(len(key)), Reason: "an unknown key"}
}
