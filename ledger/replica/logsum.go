package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	berrors "go.etcd.io/bbolt/errors"
)

// summedLog gives every entry of Raft's log a CRC-32C over index, term, type and
// data, in the entry's extensions, and checks it at each read. Raft's term and
// votes carry one too.
type summedLog struct {
	logStore
	name   string           // of the file or folder, for errors
	offset map[uint64]int64 // by index, as found at Open; nil when unknown
	ballot ballot
}

// ballot is the newest vote that Raft has on disk. Raft writes its term first
// and its candidate next; in between there is none.
type ballot struct {
	mu        sync.Mutex
	term      uint64
	candidate string // its address; "" for none
}

func (b *ballot) cast() (term uint64, candidate string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.term, b.candidate
}

// stored notes what was written under a key.
func (b *ballot) stored(key, value []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case string(key) == keyVoteTerm && len(value) == 8:
		b.term, b.candidate = binary.BigEndian.Uint64(value), ""
	case string(key) == keyVoteCandidate:
		b.candidate = string(value)
	}
}

func logSum(l *raft.Log) []byte {
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = binary.BigEndian.AppendUint64(head, l.Term)
	sum := crc32.Update(0, castagnoli, append(head, byte(l.Type)))
	return binary.BigEndian.AppendUint32(nil, crc32.Update(sum, castagnoli, l.Data))
}

func (s *summedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores copies: Raft's own entries may be on their way to peers.
func (s *summedLog) StoreLogs(logs []*raft.Log) error {
	summed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Extensions = logSum(l)
		summed[i] = &c
	}
	return asStored(s.logStore.StoreLogs(summed))
}

func (s *summedLog) DeleteRange(first, last uint64) error {
	return asStored(s.logStore.DeleteRange(first, last))
}

// GetLog gives the entry as Raft stored it, or a *FileError.
func (s *summedLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.logStore.GetLog(index, l); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, berrors.ErrDatabaseNotOpen) || errors.Is(err, wal.ErrClosed) || isDisk(err) {
			return err
		}
		return s.damaged(index, err.Error())
	}
	if l.Index != index || string(l.Extensions) != string(logSum(l)) {
		return s.damaged(index, "its checksum differs")
	}
	l.Extensions = nil
	return nil
}

func (s *summedLog) damaged(index uint64, reason string) error {
	return &FileError{File: s.name, Offset: s.offset[index], Reason: fmt.Sprintf("entry of Raft index %d: %s", index, reason)}
}

// IsMonotonic passes on what the store says.
func (s *summedLog) IsMonotonic() bool {
	m, ok := s.logStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func stableSum(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(nil, sum)
}

func (s *summedLog) Set(key, value []byte) error {
	if string(key) == keyVoteTerm {
		s.ballot.stored(key, value) // while it is written neither the old vote holds nor a new one
	}
	err := asStored(s.logStore.Set(key, append(value[:len(value):len(value)], stableSum(key, value)...)))
	if err == nil {
		s.ballot.stored(key, value)
	}
	return err
}

func (s *summedLog) Get(key []byte) ([]byte, error) {
	b, err := s.logStore.Get(key)
	if err != nil || b == nil { // which is how raft-wal says that there is none
		return b, err // Raft compares the text of "not found"
	}
	if len(b) >= 4 {
		value := b[:len(b)-4]
		if string(b[len(b)-4:]) == string(stableSum(key, value)) {
			return value, nil
		}
	}
	return nil, &FileError{File: s.name, Reason: fmt.Sprintf("the checksum of Raft's %s differs", key)}
}

func (s *summedLog) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (s *summedLog) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, &FileError{File: s.name, Reason: fmt.Sprintf("Raft's %s has %d bytes", key, len(b))}
	}
	return binary.BigEndian.Uint64(b), nil
}

// What Raft keeps beside its log.
var stableKeys = []string{"CurrentTerm", keyVoteTerm, keyVoteCandidate}

const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand" // an address
)

// check reads the whole log once. An entry may be missing only if a snapshot
// covers it; snapshot is the newest one's index.
func (s *summedLog) check(snapshot uint64) error {
	for _, key := range stableKeys {
		var damage *FileError
		value, err := s.Get([]byte(key))
		if errors.As(err, &damage) {
			return err
		}
		if err == nil {
			s.ballot.stored([]byte(key), value)
		}
	}
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	if first > snapshot+1 {
		return s.damaged(first-1, "missing, and in no snapshot")
	}
	var l raft.Log
	for index := first; index <= last; index++ {
		l = raft.Log{}
		err := s.GetLog(index, &l)
		if errors.Is(err, raft.ErrLogNotFound) && index <= snapshot {
			continue
		}
		if errors.Is(err, raft.ErrLogNotFound) {
			return s.damaged(index, "missing, and in no snapshot")
		}
		if err != nil {
			return err
		}
	}
	if term, err := s.GetUint64([]byte(stableKeys[0])); err != nil || term < l.Term {
		return &FileError{File: s.name, Reason: fmt.Sprintf("Raft's term is lost: the log is at %d", l.Term)}
	}
	return nil
}

// boltKey hears of each key in bolt's file.
func (s *summedLog) boltKey(bucket string, key []byte, offset int64) error {
	if bucket == "logs" && len(key) == 8 && binary.BigEndian.Uint64(key) < math.MaxUint64 {
		s.offset[binary.BigEndian.Uint64(key)] = offset
		return nil
	}
	for _, known := range stableKeys {
		if bucket == "conf" && string(key) == known {
			return nil
		}
	}
	return &FileError{File: s.name, Offset: offset - int64(len(key)), Reason: "an unknown key"}
}

// contained runs what reads foreign pages; damage that escaped the checks and
// makes a store panic is an error too.
func contained(name string, read func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = &FileError{File: name, Reason: fmt.Sprint(p)}
		}
	}()
	return read()
}

// newestSnapshot is the Raft index of the newest snapshot folder, 0 if none.
// Raft names them term-index-milliseconds.
func newestSnapshot(dir string) uint64 {
	found, _ := os.ReadDir(filepath.Join(dir, raftDir, "snapshots"))
	var newest uint64
	for _, one := range found {
		if parts := strings.Split(one.Name(), "-"); len(parts) == 3 && !strings.HasSuffix(one.Name(), ".tmp") {
			if index, err := strconv.ParseUint(parts[1], 10, 64); err == nil {
				newest = max(newest, index)
			}
		}
	}
	return newest
}
