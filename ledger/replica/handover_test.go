package replica_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A replica that made its head durable and then could not keep its cosignature
// of a handover, as after a crash between the two, still signs it when newer
// seals stand: else nothing could be certified ever after.
func TestHandoverIsSignedAfterAFailedWrite(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, follower := c.Leader(), c.Follower()
	c.Submit(follower, replica.WaitCertified, c.Record(c.Council[0], "before"))
	for _, n := range c.Nodes {
		if n != leader && n != follower {
			if err := n.Kill(); err != nil { // two of three certify: the follower's word is needed
				t.Fatal(err)
			}
		}
	}
	obstacle := filepath.Join(follower.Dir, "handover", "1.tmp")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh, err := leader.Replica.NewLogKey()
	if err != nil {
		t.Fatal(err)
	}
	args, err := canon.Marshal(fresh)
	if err != nil {
		t.Fatal(err)
	}
	view, err := leader.Replica.View(c.Context(), replica.Linearizable)
	if err != nil {
		t.Fatal(err)
	}
	base, err := view.State.BaseFor("log.rekey", args)
	if err != nil {
		t.Fatal(err)
	}
	proposal := c.Sign(c.Council[0], ledger.TypePropose, ledger.Propose{Action: "log.rekey", Args: args, Base: base})
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		t.Fatal(err)
	}
	c.Submit(leader, replica.WaitCommitted, proposal, c.Sign(c.Council[1], ledger.TypeApprove, ledger.Ballot{Proposal: st.ID}))
	// Newer seals stand before the write succeeds.
	sealed := func(size uint64) func(replica.Status) bool {
		return func(s replica.Status) bool { return s.Applied > size+1 }
	}
	var last uint64
	for range 3 {
		last = c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "after")).Last
		follower.Await("a newer seal stands", sealed(last))
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := leader.Replica.WaitCertified(c.Context(), last); err != nil {
		t.Fatal(err)
	}
	if leader.Replica.AuthorityIndex() != 1 {
		t.Fatalf("authority %d", leader.Replica.AuthorityIndex())
	}
}
