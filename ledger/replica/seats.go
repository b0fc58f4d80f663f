package replica

import (
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// A replica is known to Raft, and to its peers' tables, by the id of the key under
// which it was seated: its server. That stays when it rotates its key, so that a
// rotation changes no member of Raft and puts no quorum at risk. Signatures go by
// the key, everything about membership by the server.

// serverOf is a replica's id in Raft.
func serverOf(one fsm.ReplicaRecord) raft.ServerID { return raft.ServerID(one.Server().String()) }

// seats tells whose server a key of the authority chain is. The records have keys
// alone: a replica that is active in one record and in the next, under another key,
// rotated it; whoever is re-keyed joins anew.
type seats struct {
	servers map[ledger.Hash]ledger.Hash // by key id, of all records so far
	last    map[string]seat             // by name, of the newest
}

type seat struct {
	key    ledger.Hash
	active bool
}

// seatsOf walks a whole chain.
func seatsOf(chain *ledger.Chain) *seats {
	s := &seats{servers: map[ledger.Hash]ledger.Hash{}}
	for n := range chain.Len() {
		authority, _ := chain.At(n)
		s.follow(authority)
	}
	return s
}

// follow takes the next record of the chain.
func (s *seats) follow(a ledger.Authority) {
	now := make(map[string]seat, len(a.Replicas))
	for _, one := range a.Replicas {
		key := one.KeyID()
		was, seated := s.last[one.Name]
		switch {
		case seated && was.active && !one.Joining:
			s.servers[key] = s.servers[was.key]
		case !seated || was.key != key:
			s.servers[key] = key
		}
		now[one.Name] = seat{key, !one.Joining}
	}
	s.last = now
}

// server is the server of a replica of the chain.
func (s *seats) server(one ledger.AuthorityReplica) raft.ServerID {
	key := one.KeyID()
	if server, ok := s.servers[key]; ok {
		return raft.ServerID(server.String())
	}
	return raft.ServerID(key.String())
}
