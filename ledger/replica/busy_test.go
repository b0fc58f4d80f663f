package replica_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A leader whose Raft takes no more for now is busy, which is not the same as
// no leader; a follower passes it on.
func TestFullQueueIsBusy(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.Limits.Enqueue = 100 * time.Millisecond
		cfg.Raft.MaxAppendEntries = 4 // which is Raft's queue too
	})
	stuck, release := map[string]*atomic.Bool{}, make(chan struct{})
	for _, n := range c.Nodes {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		slow := &atomic.Bool{}
		stuck[n.Record.Name] = slow
		n.Prepare = func(r *replica.Replica) {
			r.BreakLog(func() error {
				if slow.Load() {
					<-release
				}
				return nil
			})
		}
		n.Start()
	}
	leader := c.Leader()
	c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "before"))
	follower := c.Follower()
	stuck[leader.Record.Name].Store(true)
	const each = 30
	type outcome struct {
		node *replicatest.Node
		err  error
	}
	outcomes := make(chan outcome, 2*each)
	var wg sync.WaitGroup
	for i := range 2 * each {
		node := []*replicatest.Node{leader, follower}[i%2]
		envelope := c.Record(c.Council[i%3], fmt.Sprint("one of many ", i))
		wg.Go(func() {
			_, err := node.Replica.Submit(c.Context(), [][]byte{envelope}, replica.WaitCommitted)
			outcomes <- outcome{node, err}
		})
	}
	defer wg.Wait()
	defer sync.OnceFunc(func() { stuck[leader.Record.Name].Store(false); close(release) })()
	busyAt := map[*replicatest.Node]int{}
	for busyAt[leader] < each/3 || busyAt[follower] < each/3 {
		var got outcome
		select {
		case got = <-outcomes:
		case <-c.Context().Done():
			t.Fatalf("busy: %d at the leader, %d at the follower", busyAt[leader], busyAt[follower])
		}
		var busy *replica.BusyError
		if !errors.As(got.err, &busy) || busy.RetryAfter <= 0 {
			t.Fatalf("%s gave %v, want busy", got.node.Record.Name, got.err)
		}
		busyAt[got.node]++
	}
}
