package replica

import (
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// cutCommits refuses nothing: it cuts what a request commits down to what it
// shows. Raft commits as far as its own log goes, be it what this very leader is
// about to replace, or what a liar never had.
func cutCommits() guardRule {
	return guardRule{"", func(q *request) error {
		if c, ok := q.Command.(*raft.AppendEntriesRequest); ok {
			c.LeaderCommitIndex = min(c.LeaderCommitIndex, c.PrevLogEntry+uint64(len(c.Entries)))
		}
		return nil
	}}
}

// refuseSnapshots refuses one whose index nobody else has committed: its
// content proves itself, its place in Raft's log does not, and a replica that
// is put far ahead would win every election.
func refuseSnapshots(committed func() uint64, vouched func(index, term uint64) bool) guardRule {
	return guardRule{"snapshot", func(q *request) error {
		request, ok := q.Command.(*raft.InstallSnapshotRequest)
		if !ok || request.LastLogIndex <= committed() || vouched(request.LastLogIndex, request.LastLogTerm) {
			return nil
		}
		return fmt.Errorf("too few replicas have committed its index %d", request.LastLogIndex)
	}}
}

// knownServers checks a snapshot's configuration, which its proof does not
// cover: every server is or was a replica of the ledger, and most of those with
// a vote still are.
func knownServers(c raft.Configuration, ever, active map[raft.ServerID]bool) error {
	voters, present := 0, 0
	for _, s := range c.Servers {
		if !ever[s.ID] {
			return fmt.Errorf("configuration: %.12s at %s is no replica of the ledger", s.ID, s.Address)
		}
		if s.Suffrage == raft.Voter {
			voters++
			if active[s.ID] {
				present++
			}
		}
	}
	if 2*present <= voters {
		return fmt.Errorf("configuration: %d of %d voters are active replicas", present, voters)
	}
	return nil
}

// everServers says whether each server of a configuration is or was a replica of
// the ledger, by what is certified, applied or pinned here.
func (r *Replica) everServers(data []byte) bool {
	c, err := decodeConfiguration(data)
	if err != nil {
		return false
	}
	ever := map[raft.ServerID]bool{}
	r.certifier.chainMu.RLock()
	for n := range r.certifier.chain.Len() {
		authority, _ := r.certifier.chain.At(n)
		for _, one := range authority.Replicas {
			ever[raft.ServerID(one.KeyID().String())] = true
		}
	}
	r.certifier.chainMu.RUnlock()
	for _, one := range r.shell.now.Load().state.Replicas() {
		ever[serverOf(one)] = true
	}
	for _, one := range r.pins.now.Load().peers {
		ever[one.serverID()] = true
	}
	return !slices.ContainsFunc(c.Servers, func(s raft.Server) bool { return !ever[s.ID] })
}
