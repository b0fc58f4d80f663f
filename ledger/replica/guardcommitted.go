package replica

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// refuseOverwrites refuses an entry in the place of one that was committed here
// in another term. An honest leader has every committed entry, so it never sends
// one; Raft itself would cut its log there, and what was acknowledged would be
// gone at the next start. committed is Raft's commit index; stored reads its log,
// which ends at last.
//
// A log may end below what a snapshot covers. Raft would append behind its end
// whatever follows it, be it genesis' configuration at index 1, and take that
// over; an honest leader goes on behind the snapshot.
//
// After a start Raft knows of no commit until a leader tells, so what was
// committed before that is not covered until then.
func refuseOverwrites(committed, last func() uint64, stored func(index uint64, entry *raft.Log) error) guardRule {
	return guardRule{"overwrite", func(q *request) error {
		c, ok := q.Command.(*raft.AppendEntriesRequest)
		if !ok || len(c.Entries) == 0 || c.Entries[0].Index > committed() {
			return nil
		}
		for _, entry := range c.Entries {
			if entry.Index > committed() {
				return nil
			}
			var ours raft.Log
			if stored(entry.Index, &ours) != nil {
				// Compacted: Raft can't cut there either, and says itself that it has not
				// what comes before.
				if entry.Index > last() && (c.PrevLogEntry == 0 || stored(c.PrevLogEntry, &ours) == nil) {
					return fmt.Errorf("entry %d is behind the end of our log, and below our snapshot", entry.Index)
				}
				continue
			}
			if ours.Term != entry.Term {
				return fmt.Errorf("entry %d of term %d is committed here, in term %d", entry.Index, entry.Term, ours.Term)
			}
		}
		return nil
	}}
}

// raftCommitted is what Raft knows to be committed, 0 before it runs: after a
// start that is what its snapshot has.
func (r *Replica) raftCommitted() uint64 {
	if node := r.node.Load(); node != nil {
		return max(node.CommitIndex(), node.AppliedIndex())
	}
	return 0
}

// raftStored is the index of the last entry of Raft's log, 0 when it is empty.
func (r *Replica) raftStored() uint64 {
	last, err := r.store.LastIndex()
	if err != nil {
		return 0
	}
	return last
}
