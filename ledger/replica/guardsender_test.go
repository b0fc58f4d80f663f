package replica

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// member is a replica of the tests' ledger: its key is one byte.
func member(name, address, standing string, key byte) fsm.ReplicaRecord {
	return fsm.ReplicaRecord{Replica: ledger.Replica{Name: name, Peer: address, Public: []byte{key}, TLSPin: ledger.Hash{key}}, Standing: standing}
}

func asPeer(r fsm.ReplicaRecord) *peer {
	return &peer{Replica: r.Replica, id: r.KeyID(), standing: r.Standing}
}

func headerOf(r fsm.ReplicaRecord) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(r.KeyID().String()), Addr: []byte(r.Peer)}
}

func TestSenderIsWhoseConnectionItIs(t *testing.T) {
	a, b := member("a", "h:1", fsm.ReplicaActive, 1), member("b", "h:2", fsm.ReplicaActive, 2)
	joining := member("c", "h:3", fsm.ReplicaJoining, 3)
	gone := member("d", "h:4", fsm.ReplicaActive, 4)
	p := newPins(&ledger.Genesis{}, time.Hour)
	p.apply(1, []fsm.ReplicaRecord{a, b, joining, gone})
	p.apply(2, []fsm.ReplicaRecord{a, b, joining})
	doubts := 0
	rule := refuseSender(p, func() { doubts++ })
	header := func(of fsm.ReplicaRecord, change func(*raft.RPCHeader)) raft.RPCHeader {
		h := headerOf(of)
		change(&h)
		return h
	}
	asIs := func(*raft.RPCHeader) {}
	for _, c := range []struct {
		name    string
		on      fsm.ReplicaRecord
		command any
		refused bool
	}{
		{"itself", a, &raft.AppendEntriesRequest{RPCHeader: headerOf(a)}, false},
		{"another's id", a, &raft.AppendEntriesRequest{RPCHeader: headerOf(b)}, true},
		{"a stranger's id", a, &raft.RequestVoteRequest{RPCHeader: header(a, func(h *raft.RPCHeader) { h.ID = []byte("x") })}, true},
		{"no id", a, &raft.RequestVoteRequest{RPCHeader: header(a, func(h *raft.RPCHeader) { h.ID = nil })}, true},
		{"another's address", a, &raft.RequestVoteRequest{RPCHeader: header(a, func(h *raft.RPCHeader) { h.Addr = []byte("h:2") })}, true},
		//lint:ignore SA1019 Raft still reads it
		{"another's address where the old ones are", a, &raft.AppendEntriesRequest{RPCHeader: headerOf(a), Leader: []byte("h:2")}, true},
		{"an address that nobody has", a, &raft.RequestPreVoteRequest{RPCHeader: header(a, func(h *raft.RPCHeader) { h.Addr = []byte(":1") })}, false},
		{"one without a vote", joining, &raft.AppendEntriesRequest{RPCHeader: header(joining, asIs)}, true},
		{"one that was removed just now", gone, &raft.AppendEntriesRequest{RPCHeader: headerOf(gone)}, false},
		{"no request of Raft's", a, &raft.AppendEntriesResponse{RPCHeader: headerOf(a)}, true},
	} {
		q := &request{RPC: raft.RPC{Command: c.command}, pinned: []*peer{asPeer(c.on)}}
		err := rule.check(q)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			continue
		}
		if h, _ := rpcHeader(c.command); string(h.Addr) != c.on.Peer || q.sender.Name != c.on.Name {
			t.Errorf("%s: sender %s at %q", c.name, q.sender.Name, h.Addr)
		}
	}
	if doubts != 1 {
		t.Errorf("%d doubts, want 1: of the one that may have come by its vote since", doubts)
	}
	p.learn([]*peer{{Replica: joining.Replica, id: joining.KeyID(), standing: fsm.ReplicaActive}}, true)
	if err := rule.check(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: headerOf(joining)}}, pinned: []*peer{asPeer(joining)}}); err != nil {
		t.Errorf("a leader that the certified set knows as active: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	now := uint64(0)
	rule := refuseMalformed(func() uint64 { return now })
	voters := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "h:1"}}})
	twice := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "h:1"}, {ID: "b", Address: "h:1"}}})
	nobody := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "h:1", Suffrage: raft.Nonvoter}}})
	staging := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "h:1"}, {ID: "b", Address: "h:2", Suffrage: 2}}})
	after := func(entries ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 6, PrevLogTerm: 2, Entries: entries}
	}
	for _, c := range []struct {
		name    string
		command any
		refused bool
	}{
		{"entries in order", after(&raft.Log{Index: 7, Term: 2}, &raft.Log{Index: 8, Term: 3, Type: raft.LogNoop}), false},
		{"none", after(nil), true},
		{"a gap", after(&raft.Log{Index: 8, Term: 3}), true},
		{"terms that fall", after(&raft.Log{Index: 7, Term: 1}), true},
		{"a term to come", after(&raft.Log{Index: 7, Term: 4}), true},
		{"a predecessor to come", &raft.AppendEntriesRequest{Term: 1, PrevLogTerm: 2}, true},
		{"a configuration", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: voters}), false},
		{"no configuration", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: []byte("x")}), true},
		{"an address twice", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: twice}), true},
		{"nobody votes", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: nobody}), true},
		{"a suffrage of old", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: staging}), true},
		{"a peer added as of old", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogAddPeerDeprecated}), true},
		{"a peer removed as of old", after(&raft.Log{Index: 7, Term: 3, Type: raft.LogRemovePeerDeprecated}), true},
		{"a snapshot", &raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: voters}, false},
		{"a snapshot of old", &raft.InstallSnapshotRequest{Peers: []byte("x")}, true},
		{"a snapshot without configuration", &raft.InstallSnapshotRequest{SnapshotVersion: 1}, true},
		{"a snapshot to come", &raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: voters, LastLogTerm: 1}, true},
		{"a vote for a log to come", &raft.RequestVoteRequest{Term: 1, LastLogTerm: 2}, true},
	} {
		if err := rule.check(&request{RPC: raft.RPC{Command: c.command}}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	late := &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 2, Term: 3, Type: raft.LogNoop}}}
	if rule.check(&request{RPC: raft.RPC{Command: late}}) == nil {
		t.Error("an entry from beyond the newest term passes")
	}
	now = 3
	if err := rule.check(&request{RPC: raft.RPC{Command: late}}); err != nil {
		t.Errorf("an old leader's, of an entry of the new one: %v", err)
	}
}

func TestTransfersAreTheLeadersWord(t *testing.T) {
	a, b, c := asPeer(member("a", "h:1", fsm.ReplicaActive, 1)), asPeer(member("b", "h:2", fsm.ReplicaActive, 2)), asPeer(member("c", "h:3", fsm.ReplicaActive, 3))
	var leader raft.ServerID
	var h handovers
	rule := refuseTransfers(&h, func() raft.ServerID { return leader })
	check := func(from *peer, command any) error {
		return rule.check(&request{RPC: raft.RPC{Command: command}, sender: from})
	}
	past := &raft.RequestVoteRequest{LeadershipTransfer: true}
	if err := check(b, past); err != nil {
		t.Errorf("without a leader: %v", err)
	}
	if check(b, &raft.TimeoutNowRequest{}) == nil {
		t.Error("an order without a leader was taken")
	}
	leader = a.serverID()
	if check(b, past) == nil {
		t.Error("a candidate said by itself that the leader hands on to it")
	}
	if check(b, &raft.TimeoutNowRequest{}) == nil {
		t.Error("an order of one that does not lead was taken")
	}
	if err := check(a, &raft.TimeoutNowRequest{}); err != nil {
		t.Errorf("the leader's order: %v", err)
	}
	h.say(c.serverID(), b.serverID())
	if check(b, past) == nil {
		t.Error("another's word counted for the leader's")
	}
	h.say(a.serverID(), b.serverID())
	if err := check(b, past); err != nil {
		t.Errorf("the leader handed on: %v", err)
	}
	if check(c, past) == nil {
		t.Error("the leader handed on to another")
	}
}

func TestOneLeaderATerm(t *testing.T) {
	a, b := asPeer(member("a", "h:1", fsm.ReplicaActive, 1)), asPeer(member("b", "h:2", fsm.ReplicaActive, 2))
	var leader, voted raft.ServerID
	rule := refuseUsurpers(func(term uint64) raft.ServerID {
		if term != 7 {
			return ""
		}
		return leader
	}, func(uint64) raft.ServerID { return voted })
	for _, c := range []struct {
		name          string
		leader, voted *peer
		from          *peer
		command       any
		refused       bool
	}{
		{"the leader", a, nil, a, &raft.AppendEntriesRequest{Term: 7}, false},
		{"nobody leads yet", nil, nil, b, &raft.AppendEntriesRequest{Term: 7}, false},
		{"another", a, nil, b, &raft.AppendEntriesRequest{Term: 7}, true},
		{"another, with a snapshot", a, nil, b, &raft.InstallSnapshotRequest{Term: 7}, true},
		{"another, though we voted for the first", a, a, b, &raft.AppendEntriesRequest{Term: 7}, true},
		{"whom we voted for, after another spoke up", a, b, b, &raft.AppendEntriesRequest{Term: 7}, false},
		{"of the next term", a, nil, b, &raft.AppendEntriesRequest{Term: 8}, false},
		{"of a term that is over", a, nil, b, &raft.AppendEntriesRequest{Term: 6}, false},
		{"a candidate", a, nil, b, &raft.RequestVoteRequest{Term: 7}, false},
	} {
		leader, voted = "", ""
		if c.leader != nil {
			leader = c.leader.serverID()
		}
		if c.voted != nil {
			voted = c.voted.serverID()
		}
		if err := rule.check(&request{RPC: raft.RPC{Command: c.command}, sender: c.from}); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTerms(t *testing.T) {
	const created = 1_000_000
	now, term := uint64(created), uint64(5)
	terms := newTerms(func() uint64 { return now }, created, time.Hour, func() uint64 { return term })
	for _, c := range []struct {
		name  string
		after time.Duration
		term  uint64
		ok    bool
	}{
		{"ours", 0, 5, true},
		{"far down", 0, 1, true},
		{"the highest at once", 0, termSlack, true},
		{"above it", 0, termSlack + 1, false},
		{"the highest after an hour", time.Hour, termSlack + 36_000, true},
		{"above it", time.Hour, termSlack + 36_001, false},
		{"2^63", 10 * 365 * 24 * time.Hour, 1 << 63, false},
	} {
		now = created + uint64(c.after.Milliseconds())
		if err := terms.allow("x", c.term, false); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	now = created - 5_000 // our clock is behind the founder's
	if err := terms.allow("x", 6, true); err != nil {
		t.Errorf("a clock behind: %v", err)
	}
	for i := range uint64(termBurst) {
		term = 10 + i
		for range 3 { // the same election counts once
			if err := terms.allow("a", term+1, true); err != nil {
				t.Fatalf("raise %d: %v", i, err)
			}
		}
	}
	term++
	if terms.allow("a", term+1, true) == nil {
		t.Error("a peer raised the term without end")
	}
	if err := terms.allow("a", term+1, false); err != nil {
		t.Errorf("a request that raises nothing: %v", err)
	}
	if err := terms.allow("b", term+1, true); err != nil {
		t.Errorf("one peer's raises count for another: %v", err)
	}
	terms.raises["a"].filled = time.Now().Add(-time.Hour)
	if err := terms.allow("a", term+1, true); err != nil {
		t.Errorf("after a while: %v", err)
	}
}

func TestRefusalsAreBoundedAndLoggedOnce(t *testing.T) {
	var r refusals
	told := 0
	for i := range 100 {
		if _, tell := r.add("term", "a", "too high", uint64(i)); tell {
			told++
		}
	}
	if list := r.all(); told != 1 || len(list) != 1 || list[0].Count != 100 || list[0].Last != 99 {
		t.Fatalf("told %d times, list %+v", told, list)
	}
	for i := range 2 * maxRefusals {
		r.add("term", string(rune('b'+i)), "too high", uint64(1_000+i))
	}
	if list := r.all(); len(list) != maxRefusals || list[0].Last != 1_000+2*maxRefusals-1 {
		t.Fatalf("%d kinds, the newest %+v", len(list), list[0])
	}
}
