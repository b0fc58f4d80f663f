package replica

import (
	"sort"
	"sync"
)

// logEnds remembers how long the ledger was after each of the newest entries of
// Raft's log that were applied: what a snapshot says of an index can be compared
// with it. Raft's own entries (no-ops, barriers) are not in it and change
// nothing.
type logEnds struct {
	mu   sync.Mutex
	list []logEnd // ascending, without a hole among what Raft applies
}

type logEnd struct{ index, size uint64 }

func (e *logEnds) add(index, size uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) >= 2*maxLogEnds {
		e.list = append(e.list[:0], e.list[maxLogEnds:]...)
	}
	e.list = append(e.list, logEnd{index, size})
}

// forget empties it: a snapshot was installed, and what it skipped is not known.
func (e *logEnds) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = nil
}

// at is the ledger's length once everything up to an index is applied; 0 if that
// is not known.
func (e *logEnds) at(index uint64) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := sort.Search(len(e.list), func(i int) bool { return e.list[i].index >= index })
	switch {
	case i == len(e.list):
		return 0
	case e.list[i].index == index:
		return e.list[i].size
	case i == 0:
		return 0
	}
	return e.list[i-1].size
}
