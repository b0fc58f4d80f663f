package sim

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
)

// messages does to a replica's Raft requests what TLS lets nobody do inside a
// connection: it sends old ones again, after newer ones, and gives answers late.
// Whether and when is a function of seed, replica, peer and ordinal.
type messages struct {
	seed        uint64
	name        string
	again, late atomic.Bool
}

func (m *messages) wrap(inner replica.GuardedTransport) replica.GuardedTransport {
	return &unruly{GuardedTransport: inner, messages: m, done: make(chan struct{}), ordinals: map[raft.ServerID]uint64{}}
}

// unruly is a transport whose requests go astray.
type unruly struct {
	replica.GuardedTransport
	messages *messages
	done     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup

	mu       sync.Mutex
	ordinals map[raft.ServerID]uint64
}

// Close waits for what is under way.
func (u *unruly) Close() error {
	u.once.Do(func() { close(u.done) })
	err := u.GuardedTransport.Close()
	u.wg.Wait()
	return err
}

func (u *unruly) chance(id raft.ServerID) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ordinals[id]++
	return mix(u.messages.seed, u.messages.name, string(id), u.ordinals[id])
}

func (u *unruly) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-u.done:
		return false
	}
}

// send makes a request, perhaps sends it again later, perhaps answers late.
func (u *unruly) send(id raft.ServerID, once, again func() error) error {
	h := u.chance(id)
	if u.messages.again.Load() && h%3 == 0 {
		u.wg.Go(func() {
			if u.pause(time.Duration(h>>8%30_000) * time.Millisecond) {
				_ = again()
			}
		})
	}
	err := once()
	if u.messages.late.Load() && h%4 == 1 {
		u.pause(time.Duration(h>>24%8_000) * time.Millisecond)
	}
	return err
}

func (u *unruly) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	copied := *args
	return u.send(id, func() error { return u.GuardedTransport.AppendEntries(id, target, args, resp) },
		func() error {
			return u.GuardedTransport.AppendEntries(id, target, &copied, &raft.AppendEntriesResponse{})
		})
}

func (u *unruly) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	copied := *args
	return u.send(id, func() error { return u.GuardedTransport.RequestVote(id, target, args, resp) },
		func() error { return u.GuardedTransport.RequestVote(id, target, &copied, &raft.RequestVoteResponse{}) })
}

func (u *unruly) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	copied := *args
	return u.send(id, func() error { return u.GuardedTransport.RequestPreVote(id, target, args, resp) },
		func() error {
			return u.GuardedTransport.RequestPreVote(id, target, &copied, &raft.RequestPreVoteResponse{})
		})
}
