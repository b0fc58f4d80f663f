package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

type replicaArgs struct {
	Replica ledger.Replica `json:"replica"`
}

type removeArgs struct {
	Name string `json:"name"`
}

func voter(name string) func(replica.Status) bool {
	return func(s replica.Status) bool {
		for _, p := range s.Peers {
			if p.Name == name {
				return p.Suffrage == "Voter" && p.Standing == "active"
			}
		}
		return false
	}
}

// walk follows the authority chain of a node as a light client does.
func walk(t *testing.T, c *replicatest.Cluster, n *replicatest.Node) *ledger.Chain {
	t.Helper()
	var links []*ledger.Link
	for i := range n.Replica.AuthorityIndex() + 1 {
		b, err := n.Replica.AuthorityLink(i)
		if err != nil {
			t.Fatalf("%s: link %d: %v", n.Record.Name, i, err)
		}
		link, err := ledger.ParseLink(b)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, link)
	}
	chain, err := ledger.WalkChain(c.Hash, links)
	if err != nil {
		t.Fatalf("%s: %v", n.Record.Name, err)
	}
	note, _ := n.Replica.Checkpoint()
	if _, err := chain.VerifyCheckpoint(note); err != nil {
		t.Fatalf("%s: %v", n.Record.Name, err)
	}
	return chain
}

// A replica loses its disk, gets new keys by decision, installs a snapshot,
// fills the gap in its history from its peers, states ready and votes again.
func TestWipedReplicaRekeyed(t *testing.T) {
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Raft.TrailingLogs = 4
		cfg.Limits.BackfillBatch = 7
	})
	for i := range 30 {
		c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[i%3], fmt.Sprint("record ", i)))
	}
	lost := c.Follower()
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	lost.Wipe()
	fresh := c.Add(lost.Rekeyed(t))
	c.Decide(c.Leader(), "replica.rekey", replicaArgs{fresh.Record})
	for _, n := range c.Nodes {
		if n.Running() {
			if err := n.Replica.Snapshot(c.Context()); err != nil {
				t.Fatalf("%s: snapshot: %v", n.Record.Name, err)
			}
		}
	}
	fresh.Start()
	fresh.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
	c.Leader().Await("it votes", voter(fresh.Record.Name))
	sameDigest(t, c)
	whole := func(s replica.Status) bool { return s.GapFrom == s.GapTo }
	if s := fresh.Await("its history is whole", whole); fresh.Replica.Archive().Whole() < s.Certified {
		t.Fatalf("whole to %d, certified %d", fresh.Replica.Archive().Whole(), s.Certified)
	}
	for _, n := range c.Nodes {
		if n.Running() {
			walk(t, c, n)
		}
	}
	last := c.Submit(fresh, replica.WaitCertified, c.Record(c.Council[0], "through the new one")).Last
	fresh.Await("it cosigns", func(s replica.Status) bool {
		for _, p := range s.Peers {
			if p.Self {
				return p.Cosigned > last
			}
		}
		return false
	})
}

func TestAddFifthRemoveOne(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	fifth := c.Add(replicatest.NewIdentity(t, "r5", "op-b"))
	c.Decide(c.Leader(), "replica.add", replicaArgs{fifth.Record})
	fifth.Start()
	fifth.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
	c.Leader().Await("it votes", voter("r5"))
	sameDigest(t, c)

	leader := c.Leader()
	c.Decide(leader, "replica.remove", removeArgs{leader.Record.Name})
	other := c.Nodes[4]
	other.Await("the removed leader is out of Raft", func(s replica.Status) bool {
		if s.Leader == leader.Record.Name || s.Leader == "" {
			return false
		}
		for _, p := range s.Peers {
			if p.Name == leader.Record.Name {
				return false
			}
		}
		return s.Quorum == 3
	})
	if err := leader.Stop(); err != nil {
		t.Fatal(err)
	}
	sameDigest(t, c)
	if chain := walk(t, c, other); chain.Len() != 4 { // genesis, joining, ready, removed
		t.Fatalf("%d links", chain.Len())
	}
}

// A replica learns the present set from any one peer, unpinned, by a proof
// against genesis.
func TestSeedProvesTheSet(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	first := c.Leader()
	fresh := first.Rekeyed(t)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	c.Decide(c.Leader(), "replica.rekey", replicaArgs{fresh.Record})
	node := c.Add(fresh)
	seed := c.Leader()
	c.Submit(seed, replica.WaitCertified, c.Record(c.Council[0], "after the change"))
	node.Start()
	names, err := node.Replica.AskSeed(c.Context(), seed.Record.Peer)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 3 || names[fresh.Record.Name] != fresh.Record.KeyID() {
		t.Fatalf("the seed proves %v", names)
	}
	node.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
	sameDigest(t, c)
}

// An old set, in which a removed replica still is, proves itself against genesis
// and is refused by whoever knows of a newer head.
func TestOldSetIsRefused(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, n := c.Leader(), c.Follower()
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "then"))
	old, err := n.Replica.Set(c.Context(), leader.Record.Peer)
	if err != nil {
		t.Fatal(err)
	}
	last := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "now")).Last
	if err := n.Replica.WaitCertified(c.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := n.Replica.TakeSet(old); err == nil {
		t.Error("an old set was taken")
	}
	leader.Await("its certified state is the newest", func(replica.Status) bool {
		set, err := n.Replica.Set(c.Context(), leader.Record.Peer)
		return err == nil && n.Replica.TakeSet(set) == nil
	})
}

// Whoever was re-keyed or removed lingers in the pins, and gets no log key: a new
// one may have been made because of it.
func TestLogKeyIsForTheLedgersReplicas(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, n := c.Leader(), c.Follower()
	name, id := n.Record.Name, n.Record.KeyID()
	if !leader.Replica.GivesLogKey(name, id) {
		t.Fatal("a replica of the ledger gets none")
	}
	fresh := n.Rekeyed(t)
	c.Decide(leader, "replica.rekey", replicaArgs{fresh.Record})
	if leader.Replica.GivesLogKey(name, id) {
		t.Error("the key that was replaced gets the log key")
	}
	if !leader.Replica.GivesLogKey(name, fresh.Record.KeyID()) {
		t.Error("the key that took over gets none")
	}
	if leader.Replica.GivesLogKey("stranger", id) {
		t.Error("a name that the ledger does not have gets it")
	}
}

// While the ledger is frozen a replica that may join says nothing; then it does.
func TestReadyWaitsForTheThaw(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	fresh := c.Add(replicatest.NewIdentity(t, "r2", "op-b"))
	c.Decide(c.Leader(), "replica.add", replicaArgs{fresh.Record})
	c.Decide(c.Leader(), "ledger.freeze", struct {
		Reason string `json:"reason"`
	}{"a rehearsal"})
	_, size := c.Leader().Replica.Checkpoint()
	fresh.Start()
	fresh.Await("it knows the freeze, and all before it", func(s replica.Status) bool {
		view, err := fresh.Replica.View(t.Context(), replica.Stale)
		return err == nil && view.State.Meta().Frozen != "" && s.Ready && s.Standing == "joining" && s.Certified >= size && s.GapFrom == s.GapTo
	})
	if fresh.Replica.MayStateReady() {
		t.Error("it is about to state ready")
	}
	if _, err := os.Stat(filepath.Join(fresh.Dir, "seq")); !os.IsNotExist(err) {
		t.Errorf("it took a seq: %v", err)
	}
	c.Decide(c.Leader(), "ledger.unfreeze", struct{}{})
	fresh.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
}
