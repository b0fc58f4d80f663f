package replica_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// forger sends what it likes over the pinned connections of one replica.
type forger struct {
	transport replica.GuardedTransport
	node      *replicatest.Node
}

func (f *forger) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(f.node.Record.KeyID().String()), Addr: []byte(f.node.Record.Peer)}
}

func target(n *replicatest.Node) (raft.ServerID, raft.ServerAddress) {
	return raft.ServerID(n.Record.KeyID().String()), raft.ServerAddress(n.Record.Peer)
}

func (f *forger) append(to *replicatest.Node, q *raft.AppendEntriesRequest) error {
	id, address := target(to)
	return f.transport.AppendEntries(id, address, q, &raft.AppendEntriesResponse{})
}

func (f *forger) vote(to *replicatest.Node, q *raft.RequestVoteRequest) error {
	id, address := target(to)
	return f.transport.RequestVote(id, address, q, &raft.RequestVoteResponse{})
}

// A replica with legitimate keys forges requests of every kind; each is refused
// for what it is, and the others go on as if nothing had been.
func TestForgedRequestsAreRefused(t *testing.T) {
	transports := map[string]*forger{}
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		f := &forger{}
		transports[cfg.Name] = f
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			f.transport = inner
			return inner
		}}
	})
	c.Lies = true
	leader := c.Leader()
	receipt := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	var liar, victim *replicatest.Node
	for _, n := range c.Nodes {
		switch {
		case n == leader:
		case liar == nil:
			liar = n
		default:
			victim = n
		}
	}
	victim.Await("it follows", func(s replica.Status) bool {
		return s.Ready && s.Leader == leader.Record.Name && s.Applied > receipt.Last
	})
	f := transports[liar.Record.Name]
	f.node = liar
	term := victim.Replica.Status().Term
	servers := func(of ...*replicatest.Node) []byte {
		var list []raft.Server
		for _, n := range of {
			id, address := target(n)
			list = append(list, raft.Server{ID: id, Address: address})
		}
		return raft.EncodeConfiguration(raft.Configuration{Servers: list})
	}
	stranger := &replicatest.Node{Identity: replicatest.NewIdentity(t, "r9", "op-a")}
	configuration := func(data []byte) func() error {
		return func() error {
			term := victim.Await("it follows the liar", func(s replica.Status) bool { return s.Leader == liar.Record.Name }).Term
			last, lastTerm := victim.Replica.RaftLast()
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term, PrevLogEntry: last, PrevLogTerm: lastTerm,
				Entries: []*raft.Log{{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: data}}})
		}
	}
	asStranger := f.header()
	asStranger.ID = []byte(stranger.Record.KeyID().String())
	asLeader := f.header()
	asLeader.ID, asLeader.Addr = []byte(leader.Record.KeyID().String()), []byte(leader.Record.Peer)
	raised := false // the configurations come from the liar as leader
	for _, lie := range []struct {
		name, rule string
		send       func() error
	}{
		{"a vote in term 2^63", "term", func() error {
			return f.vote(victim, &raft.RequestVoteRequest{RPCHeader: f.header(), Term: 1 << 63})
		}},
		{"a heartbeat in term 2^63", "term", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: 1 << 63})
		}},
		{"a vote past the leader", "transfer", func() error {
			return f.vote(victim, &raft.RequestVoteRequest{RPCHeader: f.header(), Term: term + 1, LeadershipTransfer: true})
		}},
		{"an order to stand for election", "transfer", func() error {
			id, address := target(victim)
			return f.transport.TimeoutNow(id, address, &raft.TimeoutNowRequest{RPCHeader: f.header()}, &raft.TimeoutNowResponse{})
		}},
		{"a stranger in the header", "sender", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: asStranger, Term: term})
		}},
		{"the leader in the header", "sender", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: asLeader, Term: term})
		}},
		{"a heartbeat beside the leader's", "leader", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term})
		}},
		{"the leader, that it follow", "leader", func() error {
			return f.append(leader, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term})
		}},
		{"a heartbeat of a term that it did not win", "election", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term + 1})
		}},
		{"a configuration of its own", "configuration", configuration(servers(liar, victim))},
		{"a configuration with a stranger", "configuration", configuration(servers(append([]*replicatest.Node{stranger}, c.Nodes...)...))},
		{"a configuration without one", "configuration", configuration(servers(c.Nodes[:3]...))},
		{"a configuration that does not decode", "malformed", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term,
				Entries: []*raft.Log{{Index: 1, Term: term, Type: raft.LogConfiguration, Data: []byte("x")}}})
		}},
		{"entries with a gap", "malformed", func() error {
			return f.append(victim, &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: term, Entries: []*raft.Log{{Index: 9, Term: term}}})
		}},
	} {
		if lie.rule == "configuration" && !raised {
			raised = true
			if now := victim.Replica.Status(); now.Term != term || now.Leader != leader.Record.Name {
				t.Errorf("%s leads in term %d, it was %s in %d", now.Leader, now.Term, leader.Record.Name, term)
			}
			if err := leader.Replica.TransferLeadership(c.Context(), liar.Record.Name); err != nil {
				t.Fatal(err)
			}
		}
		at := victim
		if lie.name == "the leader, that it follow" {
			at = leader
		}
		before := refusals(at.Replica.Status(), lie.rule)
		for tries := 0; ; tries++ {
			err := lie.send()
			if err != nil && strings.Contains(err.Error(), "refused by "+lie.rule) {
				break
			}
			// The log may have grown meanwhile, so that Raft itself refused it.
			if lie.rule != "configuration" || tries == 100 {
				t.Fatalf("%s: %v", lie.name, err)
			}
		}
		s := at.Replica.Status()
		if refusals(s, lie.rule) <= before || s.Refusals[0].Peer != liar.Record.Name {
			t.Errorf("%s: the status says %+v", lie.name, s.Refusals)
		}
	}
	for i, n := range c.Nodes {
		c.Submit(n, replica.WaitCertified, c.Record(c.Council[i%3], fmt.Sprint("after, at ", n.Record.Name)))
	}
	sameDigest(t, c)
	if s := victim.Replica.Status(); s.Quorum != 3 {
		t.Errorf("the victim's quorum is %d", s.Quorum)
	}
}

// Answers with an absurd term depose nobody.
func TestAnswersOfAbsurdTermsAreRefused(t *testing.T) {
	done := make(chan struct{})
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		if cfg.Name == "r4" {
			cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
				return &boasting{GuardedTransport: inner, done: done}
			}}
		}
	})
	t.Cleanup(func() { close(done) })
	c.Lies = true
	first := c.Leader()
	term := first.Replica.Status().Term
	for i := range 3 {
		c.Submit(first, replica.WaitCertified, c.Record(c.Council[i], "with a boaster"))
	}
	s := first.Await("it refused an answer", func(s replica.Status) bool { return refusals(s, "term") > 0 })
	if s.Role != replica.RoleLeader || s.Term != term {
		t.Errorf("%s in term %d, it was the leader of %d", s.Role, s.Term, term)
	}
}

// boasting answers every request with a term of 2^63, and never leads.
type boasting struct {
	replica.GuardedTransport
	done chan struct{}
}

func (b *boasting) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	return errors.New("it does not stand")
}

func (b *boasting) Consumer() <-chan raft.RPC {
	in := b.GuardedTransport.Consumer()
	go func() {
		for {
			select {
			case <-b.done:
				return
			case rpc := <-in:
				boast(rpc)
			}
		}
	}()
	return nil
}

func boast(rpc raft.RPC) {
	switch q := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1 << 63}, nil)
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{Term: 1 << 63}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{Term: 1 << 63}, nil)
	default:
		rpc.Respond(nil, fmt.Errorf("no answer to %T", q))
	}
}
