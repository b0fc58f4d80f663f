package replica_test

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A heartbeat of a newer term ends a leadership in Raft's main loop, where the
// leader orders entries, and not beside it: what is ordered right after it must
// not get into the log as of the term that another won. Two entries of one index
// and term would be one to Raft, and the histories part for good.
func TestHeartbeatEndsLeadershipInOrder(t *testing.T) {
	forgers := map[string]*forger{}
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		f := &forger{}
		forgers[cfg.Name] = f
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			f.transport = inner
			return inner
		}}
	}, func(g *ledger.Genesis) { g.Format, g.Policy.Protection = 1, nil }) // a claim is followed without a certificate
	c.Lies = true
	for round := range 5 {
		leader, other := c.Leader(), c.Follower()
		c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "before"))
		f := forgers[other.Record.Name]
		f.node = other
		// So far ahead that nobody wins this term meanwhile: who stands does so one
		// above a term that it knows.
		term := leader.Replica.Status().Term + 10
		if err := f.append(leader, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		err := leader.Replica.OrderTick()
		if at, of := leader.Replica.RaftLast(); of == term {
			t.Fatalf("round %d: ordered entry %d of term %d, which it did not win: %v", round, at, of, err)
		}
		if now := leader.Replica.Status().Term; now < term {
			t.Fatalf("round %d: the heartbeat of term %d was not heard in term %d: %v", round, term, now, err)
		}
	}
	sameDigest(t, c)
}

// Raft waits for none of its connections when it ends: what a last heartbeat on one of
// them asks of the replica then is answered.
func TestHeartbeatAfterTheEnd(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Leader()
	term := n.Replica.Status().Term
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if id, _ := target(n); n.Replica.VotedFor(term) != id {
		t.Errorf("it voted for %q in term %d", n.Replica.VotedFor(term), term)
	}
}
