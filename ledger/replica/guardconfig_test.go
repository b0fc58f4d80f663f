package replica

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// fakeRaft takes entries as Raft does, in memory, and applies a command by
// setting the ledger's replica set to the one of that index.
type fakeRaft struct {
	*raft.InmemStore
	term      uint64
	commit    uint64
	decisions map[uint64][]fsm.ReplicaRecord // by the index of the entry that decides them
	set       []fsm.ReplicaRecord
	passed    [][2]uint64 // first index and number of entries of each request that reached it
}

func (f *fakeRaft) give(rpc raft.RPC) bool {
	c := rpc.Command.(*raft.AppendEntriesRequest)
	f.passed = append(f.passed, [2]uint64{c.PrevLogEntry + 1, uint64(len(c.Entries))})
	last, _ := f.LastIndex()
	if c.Term < f.term || c.PrevLogEntry > last {
		rpc.Respond(&raft.AppendEntriesResponse{Term: f.term, LastLog: last}, nil)
		return true
	}
	f.term = c.Term
	for _, entry := range c.Entries {
		var stored raft.Log
		if f.GetLog(entry.Index, &stored) == nil && stored.Term != entry.Term {
			_ = f.DeleteRange(entry.Index, last)
		}
		_ = f.StoreLog(entry)
	}
	last, _ = f.LastIndex()
	for f.commit < min(c.LeaderCommitIndex, last) {
		f.commit++
		if set := f.decisions[f.commit]; set != nil {
			f.set = set
		}
	}
	rpc.Respond(&raft.AppendEntriesResponse{Term: f.term, LastLog: last, Success: true}, nil)
	return true
}

func (f *fakeRaft) view() raftView {
	last, _ := f.LastIndex()
	v := raftView{term: f.term, last: last}
	for i := last; i > 0; i-- {
		var entry raft.Log
		if f.GetLog(i, &entry) == nil && entry.Type == raft.LogConfiguration {
			v.latest = raft.DecodeConfiguration(entry.Data)
			break
		}
	}
	return v
}

// ruleOn is the rule on a fake Raft, with founders a, b and c.
func ruleOn(f *fakeRaft, founders []raft.Server, vouched func(uint64, []byte) bool, refusals *int) *memberRule {
	never := make(chan struct{})
	return &memberRule{
		log: f, raft: f.view, founders: func() []raft.Server { return founders },
		restored: func() (raft.Configuration, uint64) { return raft.Configuration{}, 0 },
		sets:     func() [][]fsm.ReplicaRecord { return [][]fsm.ReplicaRecord{f.set} },
		changed:  func() <-chan struct{} { return never }, vouched: vouched, give: f.give,
		refused: func(string, string, error) { *refusals++ }, patience: time.Millisecond,
	}
}

func server(r fsm.ReplicaRecord, suffrage raft.ServerSuffrage) raft.Server {
	return raft.Server{ID: serverOf(r), Address: raft.ServerAddress(r.Peer), Suffrage: suffrage}
}

func configEntry(index uint64, servers ...raft.Server) *raft.Log {
	return &raft.Log{Index: index, Term: 2, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: servers})}
}

func TestConfigurationIsOneAuthorisedStep(t *testing.T) {
	a, b, c := member("a", "h:1", fsm.ReplicaActive, 1), member("b", "h:2", fsm.ReplicaActive, 2), member("c", "h:3", fsm.ReplicaActive, 3)
	joining, active := member("d", "h:4", fsm.ReplicaJoining, 4), member("d", "h:4", fsm.ReplicaActive, 4)
	stranger := member("x", "h:9", fsm.ReplicaActive, 9)
	rekeyed := member("b", "h:2", fsm.ReplicaJoining, 5)
	voter, nonvoter := raft.Voter, raft.Nonvoter
	old := []raft.Server{server(a, voter), server(b, voter), server(c, voter)}
	with := func(more ...raft.Server) []raft.Server { return append(slices.Clone(old), more...) }
	founders := []fsm.ReplicaRecord{a, b, c}
	command := func(index uint64) *raft.Log { return &raft.Log{Index: index, Term: 2} }
	moved := server(b, voter)
	moved.Address = "h:8"
	for _, one := range []struct {
		name    string
		set     []fsm.ReplicaRecord // of the applied state
		decide  []fsm.ReplicaRecord // by entry 3, if it is sent
		entries []*raft.Log         // after the founding one
		commit  uint64
		vouched bool
		last    uint64 // index that Raft has at the end
		refused bool
	}{
		{"nobody changes", founders, nil, []*raft.Log{configEntry(2, old...)}, 0, false, 2, false},
		{"one joins", []fsm.ReplicaRecord{a, b, c, joining}, nil, []*raft.Log{configEntry(2, with(server(joining, nonvoter))...)}, 0, false, 2, false},
		{"one joins with a vote", []fsm.ReplicaRecord{a, b, c, joining}, nil, []*raft.Log{configEntry(2, with(server(joining, voter))...)}, 0, false, 1, true},
		{"one that is active joins with a vote", []fsm.ReplicaRecord{a, b, c, active}, nil, []*raft.Log{configEntry(2, with(server(active, voter))...)}, 0, false, 2, false},
		{"a stranger", founders, nil, []*raft.Log{configEntry(2, with(server(stranger, nonvoter))...)}, 0, false, 1, true},
		{"a stranger, for whom enough others vouch", founders, nil, []*raft.Log{configEntry(2, with(server(stranger, nonvoter))...)}, 0, true, 2, false},
		{"two at once, whoever vouches", []fsm.ReplicaRecord{a, b, c, joining}, nil,
			[]*raft.Log{configEntry(2, with(server(joining, nonvoter), server(stranger, nonvoter))...)}, 0, true, 1, true},
		{"one in place of another", []fsm.ReplicaRecord{a, b, c, joining}, nil,
			[]*raft.Log{configEntry(2, server(a, voter), server(b, voter), server(joining, nonvoter))}, 0, true, 1, true},
		{"a member moved", founders, nil, []*raft.Log{configEntry(2, server(a, voter), moved, server(c, voter))}, 0, false, 1, true},
		{"a vote taken", founders, nil, []*raft.Log{configEntry(2, server(a, voter), server(b, voter), server(c, nonvoter))}, 0, true, 1, true},
		{"a member thrown out", founders, nil, []*raft.Log{configEntry(2, server(a, voter), server(b, voter))}, 0, false, 1, true},
		{"one that was removed", []fsm.ReplicaRecord{a, b}, nil, []*raft.Log{configEntry(2, server(a, voter), server(b, voter))}, 0, false, 2, false},
		{"one that was re-keyed goes, then comes", []fsm.ReplicaRecord{a, rekeyed, c}, nil,
			[]*raft.Log{configEntry(2, server(a, voter), server(c, voter)), configEntry(3, server(a, voter), server(c, voter), server(rekeyed, nonvoter))}, 0, false, 3, false},
		{"joins and is promoted in one batch", []fsm.ReplicaRecord{a, b, c, active}, nil,
			[]*raft.Log{configEntry(2, with(server(active, nonvoter))...), command(3), configEntry(4, with(server(active, voter))...), command(5)}, 0, false, 5, false},
		{"the second of a batch is no step", []fsm.ReplicaRecord{a, b, c, joining}, nil,
			[]*raft.Log{configEntry(2, with(server(joining, nonvoter))...), command(3), configEntry(4, old...), command(5)}, 0, false, 3, true},
		{"decided before it in its own batch", founders, []fsm.ReplicaRecord{a, b, c, joining},
			[]*raft.Log{command(2), command(3), configEntry(4, with(server(joining, nonvoter))...), command(5)}, 3, false, 5, false},
		{"decided before it, and not committed", founders, []fsm.ReplicaRecord{a, b, c, joining},
			[]*raft.Log{command(2), command(3), configEntry(4, with(server(joining, nonvoter))...), command(5)}, 2, false, 3, true},
	} {
		t.Run(one.name, func(t *testing.T) {
			f := &fakeRaft{InmemStore: raft.NewInmemStore(), set: one.set, decisions: map[uint64][]fsm.ReplicaRecord{}}
			if one.decide != nil {
				f.decisions[3] = one.decide
			}
			refusals := 0
			rule := ruleOn(f, old, func(uint64, []byte) bool { return one.vouched }, &refusals)
			founding := configEntry(1, server(c, voter), server(a, voter), server(b, voter)) // in another order
			if _, err := rule.take(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: 2, Entries: []*raft.Log{founding}}}}); err != nil {
				t.Fatal(err)
			}
			send := &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 1, PrevLogTerm: 2, Entries: one.entries, LeaderCommitIndex: one.commit}
			answer, err := rule.take(&request{RPC: raft.RPC{Command: send}})
			last, _ := f.LastIndex()
			if one.refused != errors.Is(err, errStep) || last != one.last || (refusals == 1) != one.refused {
				t.Fatalf("answer %+v, %v; %d refusals, Raft has up to %d", answer, err, refusals, last)
			}
			if !one.refused && (!answer.Success || answer.LastLog != one.last) {
				t.Fatalf("answer %+v", answer)
			}
			if one.refused && answer != nil {
				t.Fatalf("refused, and answered %+v", answer)
			}
		})
	}
}

// A founding configuration is genesis' own; a recovery gives another.
func TestFoundingConfiguration(t *testing.T) {
	a, b, x := member("a", "h:1", fsm.ReplicaActive, 1), member("b", "h:2", fsm.ReplicaActive, 2), member("x", "h:9", fsm.ReplicaActive, 9)
	founders := []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}
	for name, c := range map[string]struct {
		servers []raft.Server
		ok      bool
	}{
		"genesis'":           {founders, true},
		"one less":           {founders[:1], false},
		"a stranger":         {[]raft.Server{server(a, raft.Voter), server(x, raft.Voter)}, false},
		"one more":           {append(slices.Clone(founders), server(x, raft.Voter)), false},
		"one without a vote": {[]raft.Server{server(a, raft.Voter), server(b, raft.Nonvoter)}, false},
	} {
		f := &fakeRaft{InmemStore: raft.NewInmemStore(), set: []fsm.ReplicaRecord{a, b, x}}
		refusals := 0
		rule := ruleOn(f, founders, func(uint64, []byte) bool { return true }, &refusals)
		_, err := rule.take(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{configEntry(1, c.servers...)}}}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := &fakeRaft{InmemStore: raft.NewInmemStore()}
	refusals := 0
	rule := ruleOn(f, founders, func(uint64, []byte) bool { return true }, &refusals)
	_ = f.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogNoop})
	_, err := rule.take(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{configEntry(2, founders...)}}}})
	if err == nil || !strings.Contains(err.Error(), "no configuration before it") {
		t.Errorf("a configuration out of nowhere: %v", err)
	}
}

// A configuration that replaces one which was never committed is judged by the
// one before both, and what Raft has already is not judged again.
func TestConfigurationReplacesAnother(t *testing.T) {
	a, b := member("a", "h:1", fsm.ReplicaActive, 1), member("b", "h:2", fsm.ReplicaActive, 2)
	one, two := member("c", "h:3", fsm.ReplicaJoining, 3), member("d", "h:4", fsm.ReplicaJoining, 4)
	founders := []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}
	f := &fakeRaft{InmemStore: raft.NewInmemStore(), set: []fsm.ReplicaRecord{a, b, one, two}}
	refusals := 0
	rule := ruleOn(f, founders, func(uint64, []byte) bool { return false }, &refusals)
	send := func(term uint64, entries ...*raft.Log) error {
		for _, e := range entries {
			e.Term = term
		}
		entries = append([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: configEntry(1, founders...).Data}}, entries...)
		_, err := rule.take(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: term, Entries: entries}}})
		return err
	}
	first := configEntry(2, append(slices.Clone(founders), server(one, raft.Nonvoter))...)
	if err := send(2, first); err != nil {
		t.Fatal(err)
	}
	f.set = []fsm.ReplicaRecord{a, b, two} // and one is gone
	if err := send(2, first, &raft.Log{Index: 3}); err != nil {
		t.Fatalf("sent again: %v", err)
	}
	if err := send(3, configEntry(2, append(slices.Clone(founders), server(two, raft.Nonvoter))...)); err != nil {
		t.Fatalf("in its place: %v", err)
	}
	if v := f.view(); len(v.latest.Servers) != 3 || v.latest.Servers[2].ID != serverOf(two) || v.last != 2 {
		t.Fatalf("Raft has %+v", v)
	}
	before := len(f.passed)
	if err := send(2, configEntry(2, founders[:1]...)); err != nil || len(f.passed) != before+1 {
		t.Errorf("a leader of an older term: %v; Raft answers it", err)
	}
	if v := f.view(); len(v.latest.Servers) != 3 {
		t.Errorf("Raft has %+v", v)
	}
}

func TestCommitsAreCutDown(t *testing.T) {
	for _, c := range []struct {
		prev, entries, commit, want uint64
	}{{3, 1, 1 << 63, 4}, {3, 1, 2, 2}, {0, 0, 5, 0}, {0, 0, 0, 0}, {7, 0, 7, 7}} {
		q := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, Entries: make([]*raft.Log, c.entries), LeaderCommitIndex: c.commit}
		if err := cutCommits().check(&request{RPC: raft.RPC{Command: q}}); err != nil || q.LeaderCommitIndex != c.want {
			t.Errorf("%+v: commits up to %d, %v", c, q.LeaderCommitIndex, err)
		}
	}
}

func TestSnapshotServers(t *testing.T) {
	a, b, c := member("a", "h:1", fsm.ReplicaActive, 1), member("b", "h:2", fsm.ReplicaActive, 2), member("c", "h:3", fsm.ReplicaActive, 3)
	x := member("x", "h:9", fsm.ReplicaActive, 9)
	ever := map[raft.ServerID]bool{serverOf(a): true, serverOf(b): true, serverOf(c): true}
	active := map[raft.ServerID]bool{serverOf(a): true, serverOf(b): true}
	for _, one := range []struct {
		name    string
		servers []raft.Server
		ok      bool
	}{
		{"the present ones", []raft.Server{server(a, raft.Voter), server(b, raft.Voter)}, true},
		{"one yet to be removed", []raft.Server{server(a, raft.Voter), server(b, raft.Voter), server(c, raft.Voter)}, true},
		{"a stranger", []raft.Server{server(a, raft.Voter), server(b, raft.Voter), server(x, raft.Nonvoter)}, false},
		{"half of them gone", []raft.Server{server(a, raft.Voter), server(c, raft.Voter)}, false},
	} {
		if err := knownServers(raft.Configuration{Servers: one.servers}, ever, active); (err == nil) != one.ok {
			t.Errorf("%s: %v", one.name, err)
		}
	}
	rule := refuseSnapshots(func() uint64 { return 7 }, func(index, _ uint64) bool { return index == 9 })
	for index, ok := range map[uint64]bool{7: true, 8: false, 9: true, 1 << 62: false} {
		if err := rule.check(&request{RPC: raft.RPC{Command: &raft.InstallSnapshotRequest{LastLogIndex: index}}}); (err == nil) != ok {
			t.Errorf("a snapshot at %d: %v", index, err)
		}
	}
}

// A piece commits no further than it reaches: what Raft has beyond it may be
// what the next piece replaces.
func TestPiecesCommitNoFurtherThanTheyReach(t *testing.T) {
	whole := raft.AppendEntriesRequest{PrevLogEntry: 3, PrevLogTerm: 1, LeaderCommitIndex: 9,
		Entries: []*raft.Log{{Index: 4, Term: 2}, {Index: 5, Term: 3}, {Index: 6, Term: 3}}}
	for _, c := range []struct {
		a, b                  int
		prev, term, n, commit uint64
	}{{0, 0, 3, 1, 0, 3}, {0, 1, 3, 1, 1, 4}, {1, 2, 4, 2, 1, 5}, {2, 3, 5, 3, 1, 6}} {
		part := cutAppend(whole, c.a, c.b)
		if part.PrevLogEntry != c.prev || part.PrevLogTerm != c.term || uint64(len(part.Entries)) != c.n || part.LeaderCommitIndex != c.commit {
			t.Errorf("%d to %d: %+v", c.a, c.b, part)
		}
	}
}
