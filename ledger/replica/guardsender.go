package replica

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// pinnedPeers lists whose certificate an accepted connection has: two while a
// re-keyed replica keeps its TLS key.
func (p *pins) pinnedPeers(conn net.Conn) []*peer {
	accepted, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	pin, err := peerPin(accepted.ConnectionState())
	if err != nil {
		return nil
	}
	return p.now.Load().pinned(pin)
}

// mayVote says whether any source that the pins stand on has a replica as
// active: the applied state alone may be behind the leader's.
func (p *pins) mayVote(id ledger.Hash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range [][]*peer{p.applied, p.learned, p.founding} {
		for _, one := range list {
			if one.id == id && one.standing == fsm.ReplicaActive {
				return true
			}
		}
	}
	for _, one := range p.leaving {
		if one.id == id && one.standing == fsm.ReplicaActive {
			return true
		}
	}
	return false
}

// refuseMalformed refuses what Raft would take at its word, or panic at. What an
// old leader still sends, it may read from a log that follows the new one by now:
// Raft refuses that for its term. current is Raft's own.
func refuseMalformed(current func() uint64) guardRule {
	return guardRule{"malformed", func(q *request) error {
		switch c := q.Command.(type) {
		case *raft.AppendEntriesRequest:
			return wellFormed(c, max(c.Term, current()))
		case *raft.InstallSnapshotRequest:
			if c.SnapshotVersion != raft.SnapshotVersionMax || c.Size < 0 {
				return fmt.Errorf("snapshot version %d, size %d", c.SnapshotVersion, c.Size)
			}
			if c.LastLogTerm > c.Term || c.ConfigurationIndex > c.LastLogIndex {
				return errors.New("a snapshot from beyond its own term or index")
			}
			_, err := decodeConfiguration(c.Configuration)
			return err
		case *raft.RequestVoteRequest:
			if c.LastLogTerm > c.Term {
				return errors.New("a log from beyond its own term")
			}
		case *raft.RequestPreVoteRequest:
			if c.LastLogTerm > c.Term {
				return errors.New("a log from beyond its own term")
			}
		}
		return nil
	}}
}

// wellFormed checks that entries follow each other and their predecessor, none of
// a term above the newest.
func wellFormed(c *raft.AppendEntriesRequest, newest uint64) error {
	index, term := c.PrevLogEntry, c.PrevLogTerm
	if term > newest {
		return errors.New("a predecessor from beyond the request's term")
	}
	for _, entry := range c.Entries {
		if entry == nil || entry.Index != index+1 || entry.Term < term || entry.Term > newest {
			return fmt.Errorf("the entry after %d is out of order", index)
		}
		switch entry.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			if _, err := decodeConfiguration(entry.Data); err != nil {
				return fmt.Errorf("entry %d: %w", entry.Index, err)
			}
		default: // the deprecated ways to add and remove a peer among them
			return fmt.Errorf("entry %d is of type %d", entry.Index, entry.Type)
		}
		index, term = entry.Index, entry.Term
	}
	return nil
}

// refuseSender refuses a request whose header names another replica than the
// certificate of its connection, and one that only a voter may send from who
// is none as far as the ledger is known here. unknown is then told, so that the
// replica set is asked for.
//
// An address is the ledger's word, not the sender's: what the header says is
// replaced by it, unless it is somebody else's.
func refuseSender(p *pins, unknown func()) guardRule {
	return guardRule{"sender", func(q *request) error {
		header, leader := rpcHeader(q.Command)
		if header == nil {
			return fmt.Errorf("a request of type %T", q.Command)
		}
		for _, one := range q.pinned {
			if string(header.ID) == string(one.serverID()) {
				q.sender = one
			}
		}
		if q.sender == nil {
			return fmt.Errorf("it names %.64q, which is not whose connection it came on", header.ID)
		}
		for _, said := range [][]byte{header.Addr, *leader} {
			if len(said) == 0 || string(said) == q.sender.Peer {
				continue
			}
			for _, other := range p.now.Load().atAddress(string(said)) {
				if other.Name != q.sender.Name {
					return fmt.Errorf("it names the address of %s", other.Name)
				}
			}
		}
		address := []byte(q.sender.Peer)
		header.Addr = address
		if *leader != nil {
			*leader = bytes.Clone(address)
		}
		if !p.mayVote(q.sender.id) {
			unknown()
			return fmt.Errorf("%s has no vote", q.sender.Name)
		}
		return nil
	}}
}

// rpcHeader gives a request's header, and the deprecated field that Raft reads
// when the header has no address.
func rpcHeader(command any) (header *raft.RPCHeader, address *[]byte) {
	var none []byte
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		//lint:ignore SA1019 Raft still reads it
		return &c.RPCHeader, &c.Leader
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 Raft still reads it
		return &c.RPCHeader, &c.Candidate
	case *raft.RequestPreVoteRequest:
		return &c.RPCHeader, &none
	case *raft.InstallSnapshotRequest:
		return &c.RPCHeader, &c.Leader
	case *raft.TimeoutNowRequest:
		return &c.RPCHeader, &none
	}
	return nil, nil
}

// handovers remembers to whom each leader said that it hands on. Raft lets a
// request for votes pass a living leader if it says of itself that the leader
// asked for it; here the leader's own word is wanted.
type handovers struct {
	mu   sync.Mutex
	said map[raft.ServerID]handedOn // by leader
}

type handedOn struct {
	to raft.ServerID
	at time.Time
}

func (h *handovers) say(leader, to raft.ServerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.said == nil {
		h.said = map[raft.ServerID]handedOn{}
	}
	for id, one := range h.said {
		if time.Since(one.at) > handedOnFresh {
			delete(h.said, id)
		}
	}
	h.said[leader] = handedOn{to, time.Now()}
}

func (h *handovers) to(leader, candidate raft.ServerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	one, ok := h.said[leader]
	return ok && one.to == candidate && time.Since(one.at) <= handedOnFresh
}

// refuseTransfers refuses a leadership transfer that the leader known here has
// not asked for: an order to stand for election from another than the leader,
// and a request for votes past a living leader.
func refuseTransfers(h *handovers, leader func() raft.ServerID) guardRule {
	return guardRule{"transfer", func(q *request) error {
		now := leader()
		switch c := q.Command.(type) {
		case *raft.TimeoutNowRequest:
			if now != q.sender.serverID() {
				return errors.New("it orders an election and does not lead")
			}
		case *raft.RequestVoteRequest:
			if c.LeadershipTransfer && now != "" && now != q.sender.serverID() && !h.to(now, q.sender.serverID()) {
				return errors.New("the leader did not hand on to it")
			}
		}
		return nil
	}}
}
