package replica_test

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// slowStable and slowLog take d for each write, as a disk with a slow fsync does.
type slowStable struct {
	raft.StableStore
	d time.Duration
}

func (s *slowStable) Set(key, value []byte) error {
	time.Sleep(s.d)
	return s.StableStore.Set(key, value)
}

func (s *slowStable) SetUint64(key []byte, value uint64) error {
	time.Sleep(s.d)
	return s.StableStore.SetUint64(key, value)
}

type slowLog struct {
	raft.LogStore
	d time.Duration
}

func (s *slowLog) StoreLogs(logs []*raft.Log) error {
	time.Sleep(s.d)
	return s.LogStore.StoreLogs(logs)
}

func (s *slowLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// Where every disk is slow everything is slow, and works: a leader is elected,
// and what it is given is committed.
func TestSlowDisksElectALeader(t *testing.T) {
	for _, d := range []time.Duration{400 * time.Millisecond, time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			c := replicatest.Start(t, 3, func(cfg *replica.Config) {
				cfg.Raft = replica.RaftTuning{}
				cfg.Hooks = &replica.Hooks{
					Stable: func(inner raft.StableStore) raft.StableStore { return &slowStable{inner, d} },
					Log:    func(inner raft.LogStore) raft.LogStore { return &slowLog{inner, d} },
				}
			})
			leader := c.Leader()
			elected := time.Since(begin)
			c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "slowly"))
			t.Logf("writes of %s: a leader after %s, in term %d, a commit after %s", d, elected, leader.Replica.Status().Term, time.Since(begin))
		})
	}
}
