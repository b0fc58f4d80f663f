package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// A term has the leader that was followed in it, whatever Raft says by then; one
// that did not pass every rule is not followed, and whom we voted for always.
func TestLeadersAreThoseFollowed(t *testing.T) { synctest.Test(t, leadersFollowed) }

func leadersFollowed(t *testing.T) {
	l := leaders{patience: time.Second}
	a, b := &peer{id: ledger.Hash{1}}, &peer{id: ledger.Hash{2}}
	current := uint64(4)
	voted := map[uint64]raft.ServerID{6: b.serverID()}
	votedFor := func(term uint64) raft.ServerID { return voted[term] }
	early, last := refuseUsurpers(l.in, votedFor), followLeaders(&l, func() uint64 { return current }, votedFor)
	say := func(from *peer, term uint64) error {
		q := &request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: term}}, sender: from}
		if err := early.check(q); err != nil {
			return err
		}
		return last.check(q)
	}
	for _, c := range []struct {
		name    string
		from    *peer
		term    uint64
		refused bool
	}{
		{"the first of a term", a, 4, false},
		{"again", a, 4, false},
		{"a usurper", b, 4, true},
		{"the leader of the next term", b, 5, false},
		{"the old leader, late: Raft refuses it", a, 4, false},
		{"the old leader in the new term", a, 5, true},
		{"one that spoke up early", a, 6, false},
		{"whom we voted for", b, 6, false},
		{"the early one again", a, 6, true},
		{"of a term long ago", b, 3, false},
	} {
		if err := say(c.from, c.term); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
		current = max(current, c.term)
	}
	time.Sleep(time.Second)
	if err := say(a, 6); err == nil {
		t.Error("a usurper, as the leader falls silent")
	}
	time.Sleep(time.Millisecond)
	if err := say(a, 6); err != nil {
		t.Errorf("another, once the leader is given up: %v", err)
	}
	if l.in(3) != "" {
		t.Error("a term that was over is remembered")
	}
	for term := range uint64(100) {
		current = term + 10
		_ = say(a, current)
	}
	if len(l.of) > maxElections {
		t.Errorf("%d terms are remembered", len(l.of))
	}
}
