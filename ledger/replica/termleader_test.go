package replica

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// moment is what Raft says of itself at one time.
type moment struct {
	term   uint64
	leader raft.ServerID
}

// Raft's own order when leadership changes: the leader goes, the term rises, the
// new leader comes.
var moments = []moment{{5, "a"}, {5, ""}, {6, ""}, {6, "b"}, {6, ""}, {7, ""}, {7, "a"}}

// However Raft goes on between two readings, term and leader are of one moment:
// with a leader of another term the guard would refuse the leader of this one.
func TestTermAndLeaderAreOfOneMoment(t *testing.T) {
	good := map[moment]bool{}
	for _, m := range moments {
		good[m] = true
	}
	// Every way to place up to four steps before the readings.
	const readings, most = 6, 4
	ways := 1
	for range readings {
		ways *= most + 1
	}
	for way := range ways {
		at, reading := 0, 0
		step := func() {
			n := way
			for range reading {
				n /= most + 1
			}
			if reading < readings {
				at = min(at+n%(most+1), len(moments)-1)
			}
			reading++
		}
		term, leader := ofOneMoment(
			func() uint64 { step(); return moments[at].term },
			func() raft.ServerID { step(); return moments[at].leader })
		if !good[moment{term, leader}] {
			t.Fatalf("way %d: %q leads in term %d", way, leader, term)
		}
	}
}

// The same of a real Raft, whose leadership goes round: a term has one leader.
func TestTermAndLeaderOfARaft(t *testing.T) {
	const servers, transfers = 3, 40
	nodes, transports := make([]*raft.Raft, servers), make([]*raft.InmemTransport, servers)
	var all []raft.Server
	for i := range nodes {
		name := fmt.Sprint("r", i)
		_, transports[i] = raft.NewInmemTransport(raft.ServerAddress(name))
		all = append(all, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	for i, one := range transports {
		for j, other := range transports {
			if i != j {
				one.Connect(other.LocalAddr(), other)
			}
		}
	}
	for i := range nodes {
		config := raft.DefaultConfig()
		config.LocalID, config.LogOutput = all[i].ID, io.Discard
		config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		store := raft.NewInmemStore()
		node, err := raft.NewRaft(config, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), transports[i])
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := node.Shutdown().Error(); err != nil {
				t.Error(err)
			}
		}()
		nodes[i] = node
		if err := node.BootstrapCluster(raft.Configuration{Servers: all}).Error(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	leaders := map[uint64]raft.ServerID{}
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for _, node := range nodes {
		readers.Go(func() {
			for pause(ctx, 50*time.Microsecond) { // the others want a turn too
				term, leader := ofOneMoment(node.CurrentTerm, func() raft.ServerID { _, id := node.LeaderWithID(); return id })
				if leader == "" {
					continue
				}
				mu.Lock()
				if had := leaders[term]; had == "" {
					leaders[term] = leader
				} else if had != leader {
					t.Errorf("%s and %s lead in term %d", had, leader, term)
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for done := 0; done < transfers && ctx.Err() == nil; {
		for _, node := range nodes {
			if node.State() == raft.Leader && node.LeadershipTransfer().Error() == nil {
				done++
			}
		}
		pause(ctx, time.Millisecond)
	}
	if ctx.Err() != nil && !t.Failed() {
		t.Error("leadership does not go round")
	}
}
