package replica_test

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

func TestElectCommitCertify(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	leader := c.Leader()
	receipt := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "the first"))
	if receipt.Level != replica.LevelCertified || receipt.Checkpoint <= receipt.Last {
		t.Fatalf("receipt %+v", receipt)
	}
	chain, err := ledger.NewChain(c.Hash, &ledger.Link{Genesis: c.Entry})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := n.Replica.WaitCertified(c.Context(), receipt.Last); err != nil {
			t.Fatalf("%s: %v", n.Record.Name, err)
		}
		note, size := n.Replica.Checkpoint()
		checkpoint, err := chain.VerifyCheckpoint(note)
		if err != nil {
			t.Fatalf("%s: %v", n.Record.Name, err)
		}
		if checkpoint.Head.Size != size || len(checkpoint.LogLines) != 2 {
			t.Fatalf("%s: size %d, %d log lines", n.Record.Name, size, len(checkpoint.LogLines))
		}
	}
	for i := range 5 {
		c.Submit(c.Follower(), replica.WaitCommitted, c.Record(c.Council[i%3], fmt.Sprint("forwarded ", i)))
	}
}
