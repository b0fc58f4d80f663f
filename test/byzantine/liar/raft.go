package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// fork sends each of ?to=, names with commas, a history of its own: statements
// are left out of it, everything else is stamped some milliseconds later. The
// entries have the same indexes and terms, and are committed by the same commit
// indexes. What a victim signs of its own history, the liar signs too, for all.
func fork(l *liar, q url.Values) (*lie, error) {
	victims := map[string]uint64{}
	for i, name := range strings.Split(q.Get("to"), ",") {
		victims[name] = uint64(i) + 1
	}
	return &lie{
		entries: func(to string, request *raft.AppendEntriesRequest) {
			which, ok := victims[to]
			if !ok {
				return
			}
			for _, e := range request.Entries {
				if e.Type != raft.LogCommand {
					continue
				}
				c, err := ledger.ParseCommand(e.Data)
				if err != nil {
					continue
				}
				if c.Kind == ledger.CommandStatements {
					c.Kind, c.Statements = ledger.CommandTick, nil
					l.did("left a statement out of what %s gets", to)
				} else {
					l.did("gave %s other entries at the same indexes", to)
				}
				c.Stamp += which
				e.Data = c.Encode()
			}
		},
		service: l.signAlong,
	}, nil
}

// reconfigure sends, in place of the first command from now on, a configuration
// of Raft's that nobody decided: ?add= (name@address) is a voter more, ?remove=
// one less; ?garbage=1 is no configuration at all.
func reconfigure(l *liar, q url.Values) (*lie, error) {
	data, err := l.configuration(q)
	if err != nil {
		return nil, err
	}
	at := uint64(0)
	return &lie{entries: func(to string, request *raft.AppendEntriesRequest) {
		l.mu.Lock()
		for _, e := range request.Entries {
			if at == 0 && e.Type == raft.LogCommand {
				at = e.Index
			}
		}
		index := at
		l.mu.Unlock()
		for _, e := range request.Entries {
			if e.Index == index {
				e.Type, e.Data = raft.LogConfiguration, data
				l.did("sent %s a configuration that nobody decided", to)
			}
		}
	}}, nil
}

// configuration encodes the founding replicas as Raft's voters, altered.
func (l *liar) configuration(q url.Values) ([]byte, error) {
	if q.Get("garbage") != "" {
		return []byte("\xc1 no configuration"), nil
	}
	var c raft.Configuration
	for _, one := range l.founding.Replicas {
		if one.Name != q.Get("remove") {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(one.KeyID().String()), Address: raft.ServerAddress(one.Peer)})
		}
	}
	if id, address, ok := strings.Cut(q.Get("add"), "@"); ok {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(address)})
	}
	return raft.EncodeConfiguration(c), nil
}

// header is of the liar's own requests, or of another's when it poses as one.
func (l *liar) header(as string) (raft.RPCHeader, error) {
	for _, one := range l.founding.Replicas {
		if one.Name == as {
			return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(one.KeyID().String()), Addr: []byte(one.Peer)}, nil
		}
	}
	return raft.RPCHeader{}, fmt.Errorf("no replica %q", as)
}

// eachPeer calls send for every other replica, and tells how each answered.
func (l *liar) eachPeer(send func(id raft.ServerID, target raft.ServerAddress) error) string {
	var told []string
	for _, one := range l.founding.Replicas {
		if one.Name == l.settings.Name {
			continue
		}
		answer := "taken"
		if err := send(raft.ServerID(one.KeyID().String()), raft.ServerAddress(one.Peer)); err != nil {
			answer = err.Error()
		}
		told = append(told, one.Name+": "+answer)
	}
	return strings.Join(told, "; ")
}

// leap sends each peer a request of a term far ahead: ?by= votes, prevotes or
// appends, ?term=.
func leap(_ context.Context, l *liar, q url.Values) (string, error) {
	term, err := strconv.ParseUint(q.Get("term"), 0, 64)
	if err != nil {
		return "", err
	}
	header, err := l.header(l.settings.Name)
	if err != nil {
		return "", err
	}
	t := l.transport.GuardedTransport
	l.did("sent %s of term %d", q.Get("by"), term)
	switch q.Get("by") {
	case "votes":
		return l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
			return t.RequestVote(id, target, &raft.RequestVoteRequest{RPCHeader: header, Term: term,
				LastLogIndex: math.MaxUint32, LastLogTerm: term, LeadershipTransfer: true}, &raft.RequestVoteResponse{})
		}), nil
	case "prevotes":
		return l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
			return t.RequestPreVote(id, target, &raft.RequestPreVoteRequest{RPCHeader: header, Term: term,
				LastLogIndex: math.MaxUint32, LastLogTerm: term}, &raft.RequestPreVoteResponse{})
		}), nil
	case "appends":
		return l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
			return t.AppendEntries(id, target, &raft.AppendEntriesRequest{RPCHeader: header, Term: term}, &raft.AppendEntriesResponse{})
		}), nil
	}
	return "", errors.New("by votes, prevotes or appends")
}

// overwrite sends each peer, in the present term, another entry at an index that
// was committed long ago, and nothing after it that would mend their logs: ?as=
// poses as another replica.
func overwrite(_ context.Context, l *liar, q url.Values) (string, error) {
	as := q.Get("as")
	if as == "" {
		as = l.settings.Name
	}
	header, err := l.header(as)
	if err != nil {
		return "", err
	}
	status := l.replica.Status()
	index, before, err := l.oldEntry(status.RaftIndex, status.Term)
	if err != nil {
		return "", err
	}
	tick := (&ledger.Command{Kind: ledger.CommandTick, Stamp: 1}).Encode()
	l.tell(&lie{mute: true})
	l.did("sent another entry at committed index %d in term %d, as %s", index, status.Term, as)
	return l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
		var answer raft.AppendEntriesResponse
		err := l.transport.GuardedTransport.AppendEntries(id, target, &raft.AppendEntriesRequest{
			RPCHeader: header, Term: status.Term, LeaderCommitIndex: index,
			PrevLogEntry: before.Index, PrevLogTerm: before.Term,
			Entries: []*raft.Log{{Index: index, Term: status.Term, Type: raft.LogCommand, Data: tick}},
		}, &answer)
		if err == nil && !answer.Success {
			err = errors.New("not taken")
		}
		return err
	}), nil
}

// oldEntry is the index of the last but one committed entry of an earlier term,
// and the entry before it.
func (l *liar) oldEntry(applied, term uint64) (index uint64, before raft.Log, err error) {
	for index = applied; index > 2; index-- {
		var e raft.Log
		if err = l.log.GetLog(index, &e); err != nil {
			return 0, e, err
		}
		if e.Term < term {
			return index - 1, before, l.log.GetLog(index-2, &before)
		}
	}
	return 0, before, errors.New("no entry of an earlier term")
}

// disrupt sends, several times a second, what makes peers leave their leader:
// ?by= votes (of the next term, as after a transfer of leadership) or timeouts
// (which make the peer a candidate).
func disrupt(l *liar, q url.Values) (*lie, error) {
	header, err := l.header(l.settings.Name)
	if err != nil {
		return nil, err
	}
	var send func(id raft.ServerID, target raft.ServerAddress) error
	t := l.transport.GuardedTransport
	switch q.Get("by") {
	case "votes":
		send = func(id raft.ServerID, target raft.ServerAddress) error {
			term := l.replica.Status().Term + 1
			return t.RequestVote(id, target, &raft.RequestVoteRequest{RPCHeader: header, Term: term,
				LastLogIndex: math.MaxUint32, LastLogTerm: term, LeadershipTransfer: true}, &raft.RequestVoteResponse{})
		}
	case "timeouts":
		send = func(id raft.ServerID, target raft.ServerAddress) error {
			return t.TimeoutNow(id, target, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
		}
	default:
		return nil, errors.New("by votes or timeouts")
	}
	return &lie{loop: func(ctx context.Context) {
		for ctx.Err() == nil {
			l.eachPeer(send)
			l.did("sent all peers %s to unseat their leader", q.Get("by"))
			select {
			case <-ctx.Done():
			case <-time.After(disruptEvery):
			}
		}
	}}, nil
}
