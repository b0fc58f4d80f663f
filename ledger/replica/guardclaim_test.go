package replica_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// One follower that lies claims the next term, which it did not win, before the
// others have heard what the leader has committed. It vouches for itself.
func TestClaimedElectionTakesNothing(t *testing.T) {
	transports := map[string]*forger{}
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		f := &forger{}
		transports[cfg.Name] = f
		cfg.Raft.Commit = time.Second // the followers learn late what is committed
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			f.transport = inner
			return inner
		}, Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if f.node != nil && q.URL.Path == "/election" {
					_, _ = w.Write([]byte(`{"voted":"` + f.node.Record.Peer + `","follows":"` + f.node.Record.KeyID().String() + `"}`))
					return
				}
				inner.ServeHTTP(w, q)
			})
		}}
	})
	c.Lies = true
	leader := c.Leader()
	var liar *replicatest.Node
	var victims []*replicatest.Node
	for _, n := range c.Nodes {
		switch {
		case n == leader:
		case liar == nil:
			liar = n
		default:
			victims = append(victims, n)
		}
	}
	f := transports[liar.Record.Name]
	f.node = liar
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	term := leader.Replica.Status().Term
	text := "acknowledged by an honest leader"
	c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], text))
	last, lastTerm := leader.Replica.RaftLast()
	var claims sync.WaitGroup
	for _, v := range victims {
		for what, entries := range map[string][]*raft.Log{
			"heartbeat": nil,
			"entry":     {{Index: last, Term: term + 1, Type: raft.LogNoop}},
		} {
			claims.Go(func() {
				err := f.append(v, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term + 1, PrevLogEntry: last - 1, PrevLogTerm: lastTerm, Entries: entries})
				if err == nil || !strings.Contains(err.Error(), "refused by election") {
					t.Errorf("%s of a claimed term at %s: %v", what, v.Record.Name, err)
				}
			})
		}
	}
	claims.Wait()
	c.Submit(victims[0], replica.WaitCertified, c.Record(c.Council[1], "after"))
	for _, n := range append(victims, leader) {
		n.Await("it has what was acknowledged", func(replica.Status) bool { return hasEntry(n, text) })
		if s := n.Replica.Status(); s.Term != term || s.Leader != leader.Record.Name {
			t.Errorf("%s: %s leads in term %d, it was %s in %d", n.Record.Name, s.Leader, s.Term, leader.Record.Name, term)
		}
	}
	sameDigest(t, c)
}

func hasEntry(n *replicatest.Node, text string) bool {
	found := false
	a := n.Replica.Archive()
	_ = a.Entries(0, a.Size(), func(_ uint64, e []byte) error {
		found = found || bytes.Contains(e, []byte(text))
		return nil
	})
	return found
}

// A voter that was needed to elect the leader dies for good, and one that did
// not vote is started anew: the others' word that they follow is enough for it.
func TestRestartedFollowerFindsItsLeader(t *testing.T) {
	for _, replicas := range []int{1, 3, 4} {
		c := replicatest.Start(t, replicas, nil)
		leader := c.Leader()
		c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
		followers := []*replicatest.Node{}
		for _, n := range c.Nodes {
			if n != leader {
				n.Await("it follows", func(s replica.Status) bool { return s.Leader == leader.Record.Name })
				followers = append(followers, n)
			}
		}
		for _, n := range followers {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			n.Start()
			n.Await("it follows again", func(s replica.Status) bool { return s.Ready })
			c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "after "+n.Record.Name))
		}
	}
}
