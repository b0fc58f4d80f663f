package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// Of five replicas three are left: two whole ones, one of which missed the last
// checkpoint, and one that stopped long before. The whole ones go on; the short one
// is refused, and comes back under new keys beside a new one.
func TestRecoverSurvivorsOfDifferentLength(t *testing.T) {
	c := replicatest.Start(t, 5, nil)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "all have it"))
	short := c.Follower()
	short.Await("it knows a certified head", func(s replica.Status) bool { return s.Certified > 1 })
	if err := short.Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[i%3], fmt.Sprint("the short one lacks it ", i)))
	}
	var whole []*replicatest.Node
	for _, n := range c.Nodes {
		if n != short && len(whole) < 2 {
			whole = append(whole, n)
			n.Await("its history is whole", func(s replica.Status) bool { return s.Certified == s.Applied })
		}
	}
	var head replica.Status
	for _, n := range whole {
		head = n.Await("it has what the others have", func(s replica.Status) bool { return s.Certified >= head.Certified })
	}
	for _, n := range c.Nodes {
		if n.Running() {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	plan, other := whole[0].Survey(), whole[1].Survey()
	if other.Head.Size > plan.Head.Size {
		plan, other = other, plan
	}
	if s := short.Survey(); s.Head.Size >= plan.Head.Size || s.Whole >= plan.Head.Size {
		t.Fatalf("the short one is whole: %+v", s)
	}
	names := []string{whole[0].Record.Name, whole[1].Record.Name} // sorted, as the nodes are
	all := append([]string{short.Record.Name}, names...)
	slices.Sort(all)
	again := replicatest.NewIdentity(t, short.Record.Name, short.Record.Operator)
	fresh := []*replicatest.Identity{again, replicatest.NewIdentity(t, "r6", "op-b")}
	statements := c.Recovery(plan, names, fresh, nil)

	var refused *replica.RecoverError
	if _, err := short.Recover(c.Recovery(plan, all, nil, nil), plan); !errors.As(err, &refused) || !strings.Contains(err.Error(), "short of the head") {
		t.Errorf("the short one is recovered as it is: %v", err)
	}
	if _, err := short.Recover(statements, plan); !errors.As(err, &refused) {
		t.Errorf("the short one is recovered, though it is not kept: %v", err)
	}
	var id string
	for _, n := range whole {
		report, err := n.Recover(statements, plan)
		if err != nil || id != "" && report.ID != id {
			t.Fatalf("%s: %+v, %v", n.Record.Name, report, err)
		}
		id = report.ID
	}
	// A third voice, given to one of them alone, would part the two.
	more := append(append([][]byte{}, statements...), c.Sign(c.Council[2], ledger.TypeApprove, ledger.Ballot{Proposal: idOf(t, statements[0])}))
	if _, err := whole[1].Recover(more, plan); !errors.As(err, &refused) || !strings.Contains(err.Error(), id) {
		t.Errorf("one more approval on one of them: %v", err)
	}

	c.Generation = 1
	for _, n := range whole {
		n.Start()
	}
	for _, n := range whole {
		n.Await("the new branch is certified", func(s replica.Status) bool {
			return s.Generation == 1 && s.Certified > plan.Head.Size && s.Authority == 1
		})
	}
	running := append([]*replicatest.Node{}, whole...)
	for _, one := range fresh {
		n := c.Add(one)
		n.Start()
		running = append(running, n)
	}
	for _, n := range running[2:] {
		n.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
		whole[0].Await("it votes", voter(n.Record.Name))
	}
	sameDigestOf(t, c, running)
	c.Submit(whole[1], replica.WaitCertified, c.Record(c.Council[1], "of generation 1"))
}
