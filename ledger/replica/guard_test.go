package replica

import (
	"errors"
	"testing"
	"time"

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
		if err := rule.check(&raft.RPC{Command: c.command}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What the guard refuses reaches Raft neither through its channel nor on the
// heartbeat's fast path, and the caller hears why.
func TestGuardPaths(t *testing.T) {
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &streams{handoff: newHandoff(peerAddr("here"))}, MaxPool: 1, Timeout: time.Second})
	defer inner.Close()
	no := errors.New("no")
	var refusing error = no
	counted := 0
	g := newGuard(inner, func(string) { counted++ }, guardRule{"test", func(*raft.RPC) error { return refusing }})
	var seen int
	handler := func(raft.RPC) { seen++ }
	checked := func(rpc raft.RPC) {
		if err := g.check(&rpc); err != nil {
			rpc.Respond(nil, err)
			return
		}
		handler(rpc)
	}
	g.SetHeartbeatHandler(handler)
	answers := make(chan raft.RPCResponse, 1)
	checked(raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: answers})
	if answer := <-answers; !errors.Is(answer.Error, no) || seen != 0 || counted != 1 {
		t.Fatalf("answer %v, seen %d, counted %d", answer.Error, seen, counted)
	}
	refusing = nil
	checked(raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: answers})
	if seen != 1 {
		t.Fatal("a good heartbeat did not pass")
	}
	if _, ok := any(g).(raft.WithPreVote); !ok {
		t.Fatal("the guard hides pre-votes from Raft")
	}
	if _, ok := any(g).(raft.WithClose); !ok {
		t.Fatal("the guard hides Close from Raft")
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
