package main

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
)

var errMute = errors.New("the liar is silent")

// transport is what the liar's Raft sends through.
type transport struct {
	replica.GuardedTransport
	liar *liar
}

// AppendEntries sends what the lie makes of the request.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
	if t.liar.lie.Load().mute || t.starves(id) {
		return errMute
	}
	if entries := t.liar.lie.Load().entries; entries != nil {
		changed := *request
		changed.Entries = make([]*raft.Log, len(request.Entries))
		for i, e := range request.Entries {
			c := *e
			changed.Entries[i] = &c
		}
		entries(t.liar.names[string(id)], &changed)
		request = &changed
	}
	return t.GuardedTransport.AppendEntries(id, target, request, answer)
}
