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
	rule := refuseOverwrites(func() uint64 { return 4 }, store.GetLog)
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
