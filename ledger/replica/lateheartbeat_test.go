package replica_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// votingDisk calls before each write of a term and of a vote's term.
type votingDisk struct {
	raft.StableStore
	before func(key string)
}

func (d *votingDisk) SetUint64(key []byte, value uint64) error {
	d.before(string(key))
	return d.StableStore.SetUint64(key, value)
}

// While a follower writes the term of an election to its disk, a heartbeat of the
// old leader comes in; and the new leader, elected by the others, is heard before
// the follower's own vote is written. It is no usurper, and the cluster fails the
// test if it is refused. Raft handles a heartbeat beside its main loop, which
// writes: the old leader's name then stands in the new term.
func TestLateHeartbeatMakesNoUsurper(t *testing.T) {
	// What is wrong happens within this time; what is right waits for the disk.
	const hold = 400 * time.Millisecond
	forgers := map[string]*forger{}
	var old, victim atomic.Pointer[replicatest.Node]
	var term atomic.Uint64
	var terms, votes atomic.Int64
	late := make(chan error, 1)
	write := func(name, key string) {
		to, from := victim.Load(), old.Load()
		if to == nil || to.Record.Name != name {
			return
		}
		switch {
		case key == "CurrentTerm" && terms.Add(1) == 1:
			f := forgers[from.Record.Name]
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				late <- f.append(to, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term.Load()})
			}()
			select {
			case <-answered:
			case <-time.After(hold):
			}
		case key == "LastVoteTerm" && votes.Add(1) == 1:
			time.Sleep(hold)
		}
	}
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		name, f := cfg.Name, &forger{}
		forgers[name] = f
		cfg.Hooks = &replica.Hooks{
			Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
				f.transport = inner
				return inner
			},
			Stable: func(inner raft.StableStore) raft.StableStore {
				return &votingDisk{inner, func(key string) { write(name, key) }}
			},
		}
	})
	leader, heir := c.Leader(), c.Follower()
	forgers[leader.Record.Name].node = leader
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	for _, n := range c.Nodes {
		n.Await("it follows", func(s replica.Status) bool { return s.Leader == leader.Record.Name })
		if n != leader && n != heir {
			old.Store(leader)
			term.Store(n.Replica.Status().Term)
			victim.Store(n)
		}
	}
	if err := leader.Replica.TransferLeadership(c.Context(), heir.Record.Name); err != nil {
		t.Fatal(err)
	}
	victim.Load().Await("it follows the next leader", func(s replica.Status) bool { return s.Term > term.Load() && s.Leader == heir.Record.Name })
	sameDigest(t, c)
	<-late
	if terms.Load() == 0 || votes.Load() == 0 {
		t.Errorf("held %d writes of a term, %d of a vote", terms.Load(), votes.Load())
	}
}
