package sim

import (
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// members follows, from the entries alone, who may be in Raft's configuration:
// whoever the ledger lists, with a vote once it is active. Every configuration
// that anybody's log takes must be one step from an earlier one, and stand on
// what was certified by then. The lock is that of checks.
type members struct {
	listed map[raft.ServerID]uint64 // seq from which the ledger knows a key
	active map[raft.ServerID]uint64 // and from which it is active
	names  map[string]raft.ServerID // of the listed ones, the newest key of each name
	seen   []configuration
}

// configuration is one of Raft's, as it first came to a log.
type configuration struct {
	by        string
	index     uint64
	term      uint64
	servers   []raft.Server
	certified uint64 // size of the newest certified head then
	judged    bool
}

func serverOf(public []byte) raft.ServerID {
	return raft.ServerID(ledger.Replica{Public: public}.KeyID().String())
}

func newMembers(f *founding) *members {
	m := &members{listed: map[raft.ServerID]uint64{}, active: map[raft.ServerID]uint64{}, names: map[string]raft.ServerID{}}
	for _, one := range f.genesis.Replicas {
		id := serverOf(one.Public)
		m.listed[id], m.active[id], m.names[one.Name] = 0, 0, id
	}
	return m
}

// list hears of a decision that names a replica's key.
func (m *members) list(one ledger.Replica, seq uint64) {
	id := serverOf(one.Public)
	m.listed[id], m.names[one.Name] = seq, id
}

// ready hears of a ready statement in the ledger.
func (m *members) ready(name string, seq uint64) {
	if id, ok := m.names[name]; ok {
		if _, already := m.active[id]; !already {
			m.active[id] = seq
		}
	}
}

// configured hears of a configuration that a log takes.
func (c *checks) configured(n *node, index, term uint64, servers []raft.Server) {
	if len(c.liars) > 0 || n.left.Load() {
		return
	}
	certified := uint64(0)
	if p := n.running(); p != nil {
		_, certified = p.replica.Checkpoint()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for size := range c.heads {
		certified = max(certified, size)
	}
	m := c.decision.members
	if slices.ContainsFunc(m.seen, func(one configuration) bool { return one.index == index && one.term == term }) {
		return
	}
	m.seen = append(m.seen, configuration{by: n.name(), index: index, term: term, servers: slices.Clone(servers), certified: certified})
}

// judge compares the configurations with what the entries say, as far as these
// were read.
func (m *members) judge(entries uint64) error {
	for i := range m.seen {
		c := &m.seen[i]
		if c.judged || c.certified > entries {
			continue
		}
		c.judged = true
		for _, s := range c.servers {
			since, known := m.listed[s.ID]
			if s.Suffrage == raft.Voter {
				since, known = m.active[s.ID]
			}
			if !known || since != 0 && since >= c.certified {
				return fmt.Errorf("%s: %s is a %s in Raft's configuration %d of term %d, when size %d was certified", c.by, s.ID, s.Suffrage, c.index, c.term, c.certified)
			}
		}
		if earlier := slices.ContainsFunc(m.seen, func(one configuration) bool { return one.index < c.index }); earlier &&
			!slices.ContainsFunc(m.seen, func(one configuration) bool { return one.index < c.index && steps(one.servers, c.servers) <= 1 }) {
			return fmt.Errorf("%s: Raft's configuration %d of term %d is more than a step from each before it: %v", c.by, c.index, c.term, c.servers)
		}
	}
	return nil
}

// steps counts the servers in which two configurations differ.
func steps(a, b []raft.Server) int {
	count := 0
	for _, s := range a {
		if !slices.ContainsFunc(b, func(o raft.Server) bool { return o.ID == s.ID }) {
			count++
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			count++
		}
	}
	return count
}
