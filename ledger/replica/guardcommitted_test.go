package replica

import (
	"testing"

	"github.com/hashicorp/raft"
)

func TestGuardOverwrites(t *testing.T) {
	store := raft.NewInmemStore()
	for index, term := range []uint64{0, 1, 1, 2, 2, 2} { // 4 is committed, 1 compacted
		if index > 1 {
			if err := store.StoreLog(&raft.Log{Index: uint64(index), Term: term}); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := func() uint64 { last, _ := store.LastIndex(); return last }
	rule := refuseOverwrites(func() uint64 { return 4 }, last, store.GetLog, func() (index, term uint64) { return 1, 1 })
	entries := func(first uint64, terms ...uint64) *raft.AppendEntriesRequest {
		var q raft.AppendEntriesRequest
		for i, term := range terms {
			q.Entries = append(q.Entries, &raft.Log{Index: first + uint64(i), Term: term})
		}
		return &q
	}
	for _, c := range []struct {
		name    string
		command any
		refused bool
	}{
		{"heartbeat", &raft.AppendEntriesRequest{}, false},
		{"vote", &raft.RequestVoteRequest{}, false},
		{"new", entries(6, 3), false},
		{"not committed, of another term", entries(5, 3), false},
		{"sent again", entries(2, 1, 2, 2, 2), false},
		{"sent again, and then another", entries(4, 2, 3), false},
		{"compacted", entries(1, 3), false},
		{"the last committed", entries(4, 3), true},
		{"in the middle", entries(2, 1, 3, 3, 3), true},
	} {
		if err := rule.check(&request{RPC: raft.RPC{Command: c.command}}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A log that ends below what a snapshot covers takes nothing behind its end but
// what follows the snapshot: Raft would append genesis' configuration there, and
// go by it. A leader that does not know of the snapshot hears that we have it.
func TestGuardKeepsLogBehindSnapshot(t *testing.T) {
	const snapshot = 120
	founders := configEntry(1, server(member("a", "h:1", "active", 1), raft.Voter))
	after := func(prev uint64, n int) *raft.AppendEntriesRequest {
		q := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: prev, PrevLogTerm: 2, LeaderCommitIndex: prev + uint64(n)}
		for i := range n {
			q.Entries = append(q.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: 2})
		}
		return q
	}
	other := after(50, 80)
	other.Entries[snapshot-51].Term = 3
	for _, c := range []struct {
		name        string
		first, last uint64 // of the log; 0: empty
		request     *raft.AppendEntriesRequest
		prev        uint64 // of what Raft is given
		entries     int
		refused     bool
	}{
		{"the founders, and the log is empty", 0, 0, &raft.AppendEntriesRequest{Term: 3, Entries: []*raft.Log{founders}}, snapshot, 0, false},
		{"the first entries, and the log is empty", 0, 0, after(0, 64), snapshot, 0, false},
		{"up to the snapshot and beyond, and the log is empty", 0, 0, after(0, 130), snapshot, 10, false},
		{"behind the end of a log that was left", 1, 50, after(50, 5), snapshot, 0, false},
		{"behind it, up to the snapshot", 1, 50, after(50, 70), snapshot, 0, false},
		{"behind it, and beyond the snapshot", 1, 50, after(40, 90), snapshot, 10, false},
		{"behind it, and another entry in the snapshot's place", 1, 50, other, 0, 0, true},
		{"what follows the snapshot, and the log is empty", 0, 0, after(snapshot, 5), snapshot, 5, false},
		{"what follows the snapshot and a log that was left", 1, 50, after(snapshot, 5), snapshot, 5, false},
		{"the log again", 100, 130, after(100, 20), 100, 20, false},
		{"the log again, and more", 100, 130, after(125, 20), 125, 20, false},
		{"what was compacted: Raft says that it has not what comes before", 110, 130, after(90, 5), 90, 5, false},
		{"what was compacted, all of it", 0, 0, after(90, 5), 90, 5, false},
		{"a new replica", 0, 0, nil, 0, 1, false},
	} {
		store := raft.NewInmemStore()
		for i := c.first; i > 0 && i <= c.last; i++ {
			if err := store.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
				t.Fatal(err)
			}
		}
		committed := max(uint64(snapshot), c.last)
		if c.request == nil {
			committed, c.request = 0, &raft.AppendEntriesRequest{Term: 3, Entries: []*raft.Log{founders}}
		}
		rule := refuseOverwrites(func() uint64 { return committed }, func() uint64 { return c.last }, store.GetLog, func() (index, term uint64) { return snapshot, 2 })
		if err := rule.check(&request{RPC: raft.RPC{Command: c.request}}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
		q := c.request
		if c.refused {
			continue
		}
		if q.PrevLogEntry != c.prev || len(q.Entries) != c.entries || c.entries > 0 && q.Entries[0].Index != c.prev+1 || q.LeaderCommitIndex > c.prev+uint64(c.entries) {
			t.Errorf("%s: Raft is given %d entries behind %d, committed up to %d; want %d behind %d", c.name, len(q.Entries), q.PrevLogEntry, q.LeaderCommitIndex, c.entries, c.prev)
		}
	}
}
