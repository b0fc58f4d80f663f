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
// over. What the snapshot covers is cut off instead, so that the leader hears
// that we have it. snapshot is the newest one's index and term.
//
// After a start Raft knows of no commit until a leader tells, so what was
// committed before that is not covered until then.
func refuseOverwrites(committed, last func() uint64, stored func(index uint64, entry *raft.Log) error, snapshot func() (index, term uint64)) guardRule {
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
					index, term := snapshot()
					return cutCovered(c, index, term)
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

// cutCovered takes what a snapshot covers off a request: what is left follows the
// snapshot. An honest leader has the same entries up to there; what another one
// has there is neither compared nor kept.
func cutCovered(c *raft.AppendEntriesRequest, index, term uint64) error {
	covered := 0
	for _, entry := range c.Entries {
		if entry.Index > index {
			break
		}
		if entry.Index == index && entry.Term != term {
			return fmt.Errorf("entry %d of term %d is our snapshot's last, of term %d", index, entry.Term, term)
		}
		covered++
	}
	if covered == 0 {
		return fmt.Errorf("entry %d is behind the end of our log, and committed", c.Entries[0].Index)
	}
	c.PrevLogEntry, c.PrevLogTerm, c.Entries = index, term, c.Entries[covered:]
	c.LeaderCommitIndex = min(c.LeaderCommitIndex, index+uint64(len(c.Entries)))
	return nil
}

// raftSnapshot is the index and the term of the newest snapshot, 0 without one.
func (r *Replica) raftSnapshot() (index, term uint64) {
	if list := r.restored(); len(list) > 0 {
		return list[0].Index, list[0].Term
	}
	return 0, 0
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
