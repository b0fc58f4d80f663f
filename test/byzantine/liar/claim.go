package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// claim says again and again to all that the liar won the next term, with a
// heartbeat and with an entry in the place of the newest one, and vouches for
// itself when it is asked who won.
func claim(l *liar, _ url.Values) (*lie, error) {
	header, err := l.header(l.settings.Name)
	if err != nil {
		return nil, err
	}
	id, err := ledger.ParseHash(string(header.ID))
	if err != nil {
		return nil, err
	}
	return &lie{
		service: func(w http.ResponseWriter, q *http.Request, from string) bool {
			if q.URL.Path != pathElection {
				return false
			}
			l.did("vouched for itself at %s", from)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{"voted": string(header.Addr), "follows": id.String()})
			return true
		},
		loop: func(ctx context.Context) {
			for ctx.Err() == nil {
				term := l.replica.Status().Term + 1
				l.claims(header, term)
				l.did("claimed a term that it did not win")
				select {
				case <-ctx.Done():
				case <-time.After(claimEvery):
				}
			}
		},
	}, nil
}

// claims sends one claim of a term to all.
func (l *liar) claims(header raft.RPCHeader, term uint64) {
	last, err := l.log.LastIndex()
	var before raft.Log
	if err != nil || last < 2 || l.log.GetLog(last-1, &before) != nil {
		return
	}
	t := l.transport.GuardedTransport
	var sent sync.WaitGroup
	defer sent.Wait() // each answer takes a while
	for _, entries := range [][]*raft.Log{{{Index: last, Term: term, Type: raft.LogNoop}}, nil} {
		l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
			sent.Go(func() {
				_ = t.AppendEntries(id, target, &raft.AppendEntriesRequest{RPCHeader: header, Term: term,
					PrevLogEntry: before.Index, PrevLogTerm: before.Term, Entries: entries}, &raft.AppendEntriesResponse{})
			})
			return nil
		})
	}
}
