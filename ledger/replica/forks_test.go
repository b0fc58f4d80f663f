package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// Whoever signed another head than ours is remembered, each of them, beyond a
// restart; whoever signed ours too is proven to lie, to anybody who has the
// genesis hash; and the alarm ends when its key is gone.
func TestForksAreKept(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	n := c.Follower()
	receipt := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "x"))
	if err := n.Replica.WaitCertified(c.Context(), receipt.Last); err != nil {
		t.Fatal(err)
	}
	_, size := n.Replica.Checkpoint()
	var liars []*replicatest.Identity
	for _, i := range c.Replicas {
		if i != n.Identity && len(liars) < 2 {
			liars = append(liars, i)
		}
	}
	for k, i := range liars {
		lie := ledger.Head{Origin: c.Genesis.Origin, Size: size, Root: ledger.Hash{0xbd, byte(k)}}
		note := ledger.Checkpoint{Head: lie}
		note.Add(ledger.Cosign(c.Hash, i.Key, i.Key.Cosigner44(), i.Record.Name, lie, 1_800_000_000))
		if err := n.Replica.Offer(note.Note()); err != nil {
			t.Fatal(err)
		}
	}
	// Both signed our history too, at that size or later.
	both := func(s replica.Status) bool {
		return len(s.Forks) == 2 && !slices.ContainsFunc(s.Forks, func(f replica.Fork) bool { return !f.Proven })
	}
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "y"))
	before := n.Await("both are proven to lie", both)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	after := n.Await("both are still known after a restart, and named by the alarm", func(s replica.Status) bool {
		named := func(a replica.Alarm) bool {
			return a.Code == "fork" && strings.Contains(a.Detail, liars[0].Record.Name) && strings.Contains(a.Detail, liars[1].Record.Name)
		}
		return both(s) && slices.ContainsFunc(s.Alarms, named)
	})
	if fmt.Sprint(before.Forks) != fmt.Sprint(after.Forks) {
		t.Errorf("before the restart %+v, after it %+v", before.Forks, after.Forks)
	}
	files, err := n.Replica.ForkProofs()
	if err != nil || len(files) != 2 {
		t.Fatalf("%d proofs: %v", len(files), err)
	}
	for k, file := range files {
		p, err := ledger.ParseForkProof(file)
		if err != nil {
			t.Fatal(err)
		}
		report, err := p.Verify(c.Hash)
		if err != nil || report.Replica != after.Forks[k].Replica || report.Theirs.Root != after.Forks[k].Root {
			t.Errorf("proof %d: %+v, %v", k, report, err)
		}
	}
}
