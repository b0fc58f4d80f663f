package replica

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

func entryStamped(stamp uint64) *raft.Log {
	c := ledger.Command{Kind: ledger.CommandTick, Stamp: stamp}
	return &raft.Log{Type: raft.LogCommand, Index: 7, Data: c.Encode()}
}

func TestGuardStamps(t *testing.T) {
	const now, skew = 1_000_000, 5_000
	rule := refuseStampsAhead(func() uint64 { return now }, func() uint64 { return skew })
	for _, c := range []struct {
		name    string
		command any
		refused bool
	}{
		{"heartbeat", &raft.AppendEntriesRequest{}, false},
		{"vote", &raft.RequestVoteRequest{}, false},
		{"past", &raft.AppendEntriesRequest{Entries: []*raft.Log{entryStamped(now - 1)}}, false},
		{"at the limit", &raft.AppendEntriesRequest{Entries: []*raft.Log{entryStamped(now + skew)}}, false},
		{"ahead", &raft.AppendEntriesRequest{Entries: []*raft.Log{entryStamped(now), entryStamped(now + skew + 1)}}, true},
		{"no command", &raft.AppendEntriesRequest{Entries: []*raft.Log{{Type: raft.LogCommand, Data: []byte("x")}}}, true},
		{"no-op", &raft.AppendEntriesRequest{Entries: []*raft.Log{{Type: raft.LogNoop}}}, false},
	} {
		if err := rule.check(&request{RPC: raft.RPC{Command: c.command}}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A leader whose entries are stamped ahead is not heard at all in that term, or
// it would lead, and commit nothing, until the time has come.
func TestGuardDropsLeaderAhead(t *testing.T) {
	now := uint64(1_000_000)
	rule := refuseStampsAhead(func() uint64 { return now }, func() uint64 { return 5_000 })
	check := func(term uint64, entries ...*raft.Log) error {
		header := &raft.AppendEntriesRequest{Term: term, Entries: entries}
		return rule.check(&request{RPC: raft.RPC{Command: header}})
	}
	if err := errors.Join(check(3), check(3, entryStamped(now))); err != nil {
		t.Fatal(err)
	}
	if check(3, entryStamped(now+3_600_000)) == nil || check(3) == nil {
		t.Fatal("a leader an hour ahead is still heard")
	}
	if err := check(4); err != nil {
		t.Fatalf("the next leader is not heard: %v", err)
	}
	now += 3_600_000
	if err := errors.Join(check(3, entryStamped(now)), check(3)); err != nil {
		t.Fatalf("once its entry passes, the leader is heard: %v", err)
	}
}

// tapped is a guard on loopback, whose callers are whoever who says.
func tapped(t *testing.T, who []*peer, refused func(string, string, error), rules ...guardRule) (*guard, *raft.NetworkTransport) {
	t.Helper()
	conns := newHandoff(peerAddr("here"))
	quiet := hclog.NewNullLogger()
	g := newGuard(&raft.NetworkTransportConfig{Stream: &streams{handoff: newHandoff(conns.addr)}, MaxPool: 1, Timeout: 30 * time.Second, Logger: quiet},
		conns, func(net.Conn) []*peer { return who }, refused, rules...)
	var wg sync.WaitGroup
	wg.Go(g.run)
	caller := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &pipes{newHandoff(peerAddr("there")), conns}, MaxPool: 1, Timeout: time.Minute, Logger: quiet})
	t.Cleanup(func() {
		caller.CloseStreams()
		_ = caller.Close()
		g.shut()
		wg.Wait()
	})
	return g, caller
}

// pipes dials into a guard.
type pipes struct {
	*handoff
	to *handoff
}

func (p *pipes) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	if !p.to.give(context.Background(), theirs) {
		return nil, net.ErrClosed
	}
	return ours, nil
}

// What the guard refuses reaches Raft neither through its channel nor on the
// heartbeat's fast path, and the caller hears why.
func TestGuardPaths(t *testing.T) {
	no := errors.New("no")
	var refusing atomic.Pointer[error]
	refusing.Store(&no)
	var counted, fast atomic.Int64
	g, caller := tapped(t, nil, func(rule, name string, _ error) {
		if rule == "test" {
			counted.Add(1)
		}
	}, guardRule{"test", func(*request) error {
		if e := refusing.Load(); e != nil {
			return *e
		}
		return nil
	}})
	g.SetHeartbeatHandler(func(rpc raft.RPC) {
		fast.Add(1)
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	})
	heartbeat := &raft.AppendEntriesRequest{Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("x")}}
	entries := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 4, PrevLogTerm: 1}
	for i, request := range []*raft.AppendEntriesRequest{heartbeat, entries} {
		var answer raft.AppendEntriesResponse
		if err := caller.AppendEntries("g", "g", request, &answer); err == nil || !strings.Contains(err.Error(), "refused by test: no") {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if counted.Load() != 2 || fast.Load() != 0 {
		t.Fatalf("counted %d, %d on the fast path", counted.Load(), fast.Load())
	}
	refusing.Store(nil)
	var answer raft.AppendEntriesResponse
	if err := caller.AppendEntries("g", "g", heartbeat, &answer); err != nil || !answer.Success || fast.Load() != 1 {
		t.Fatalf("a good heartbeat did not pass: %v", err)
	}
	go func() {
		rpc := <-g.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{LastLog: 9}, nil)
	}()
	if err := caller.AppendEntries("g", "g", entries, &answer); err != nil || answer.LastLog != 9 {
		t.Fatalf("a good request did not pass: %v, %+v", err, answer)
	}
}

func TestNextStep(t *testing.T) {
	record := func(name, address, standing string, key byte) fsm.ReplicaRecord {
		return fsm.ReplicaRecord{Replica: ledger.Replica{Name: name, Peer: address, Public: []byte{key}}, Standing: standing}
	}
	server := func(r fsm.ReplicaRecord, suffrage raft.ServerSuffrage) raft.Server {
		return raft.Server{ID: raft.ServerID(r.KeyID().String()), Address: raft.ServerAddress(r.Peer), Suffrage: suffrage}
	}
	a, b := record("a", "h:1", fsm.ReplicaActive, 1), record("b", "h:2", fsm.ReplicaActive, 2)
	joining := record("c", "h:3", fsm.ReplicaJoining, 3)
	rekeyed := record("b", "h:2", fsm.ReplicaJoining, 4)
	for _, c := range []struct {
		name    string
		servers []raft.Server
		set     []fsm.ReplicaRecord
		want    string
		of      fsm.ReplicaRecord
	}{
		{"nothing to do", []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}, []fsm.ReplicaRecord{a, b}, "", a},
		{"removed", []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}, []fsm.ReplicaRecord{a}, "remove", b},
		{"re-keyed: the old one goes before the new one comes", []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}, []fsm.ReplicaRecord{a, rekeyed}, "remove", b},
		{"re-keyed: then the new one comes, without a vote", []raft.Server{server(a, raft.Voter)}, []fsm.ReplicaRecord{a, rekeyed}, "add", rekeyed},
		{"joining", []raft.Server{server(a, raft.Voter)}, []fsm.ReplicaRecord{a, joining}, "add", joining},
		{"joining stays without a vote", []raft.Server{server(a, raft.Voter), server(joining, raft.Nonvoter)}, []fsm.ReplicaRecord{a, joining}, "", a},
		{"ready", []raft.Server{server(a, raft.Voter), server(b, raft.Nonvoter)}, []fsm.ReplicaRecord{a, b}, "promote", b},
	} {
		got := nextStep(c.servers, c.set)
		if got.what != c.want || c.want != "" && got.id != raft.ServerID(c.of.KeyID().String()) {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

// A heartbeat that would change something waits for Raft's main loop, and takes
// the fast way as soon as it would not.
func TestHeartbeatsWaitForMainLoop(t *testing.T) {
	g, caller := tapped(t, nil, func(string, string, error) {})
	var settled atomic.Bool
	var fast atomic.Int64
	looked := make(chan struct{}, 1_000)
	g.settled = func(*request) bool {
		select {
		case looked <- struct{}{}:
		default:
		}
		return settled.Load()
	}
	g.SetHeartbeatHandler(func(rpc raft.RPC) {
		fast.Add(1)
		rpc.Respond(&raft.AppendEntriesResponse{LastLog: 1}, nil)
	})
	heartbeat := &raft.AppendEntriesRequest{Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("x")}}
	say := func() (answer raft.AppendEntriesResponse) {
		if err := caller.AppendEntries("g", "g", heartbeat, &answer); err != nil {
			t.Error(err)
		}
		return answer
	}
	var main sync.WaitGroup
	main.Go(func() {
		rpc := <-g.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{LastLog: 2}, nil)
	})
	if answer := say(); answer.LastLog != 2 || fast.Load() != 0 {
		t.Errorf("%+v, %d on the fast path", answer, fast.Load())
	}
	main.Wait()
	for len(looked) > 0 {
		<-looked
	}
	main.Go(func() { // the main loop is busy: it has begun to follow
		<-looked
		settled.Store(true)
	})
	if answer := say(); answer.LastLog != 1 || fast.Load() != 1 {
		t.Errorf("%+v, %d on the fast path", answer, fast.Load())
	}
	main.Wait()
}
