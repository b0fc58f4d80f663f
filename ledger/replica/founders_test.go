package replica_test

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// Every replica of genesis is replaced, at another address; then all processes
// die at once. Nobody is up who could prove the present set to another, so each
// must know it by itself.
func TestAllRestartAfterEveryFounderWasReplaced(t *testing.T) {
	var seeds []string // for those that join
	c := replicatest.Start(t, 3, func(cfg *replica.Config) { cfg.Seeds = seeds })
	for i, old := range c.Nodes[:3] {
		moved := replicatest.NewIdentity(t, old.Record.Name, old.Record.Operator)
		fresh := c.Add(moved)
		c.Decide(c.Nodes[(i+1)%3+3*((i+1)/3)], "replica.rekey", replicaArgs{fresh.Record})
		if err := old.Kill(); err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, c.Leader().Record.Peer)
		fresh.Start()
		fresh.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
		c.Leader().Await("it votes", voter(fresh.Record.Name))
	}
	last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before")).Last
	present := c.Nodes[3:]
	for _, n := range present {
		n.Await("it has the statement", func(s replica.Status) bool { return s.Certified > last })
	}
	for _, n := range present {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	seeds = nil
	for _, n := range present {
		n.Start()
	}
	c.Nodes = present
	for i, n := range present {
		c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], fmt.Sprint("after ", i)))
	}
	sameDigest(t, c)
}
