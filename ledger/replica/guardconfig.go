package replica

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// memberRule takes entries that change Raft's configuration only if each is one
// authorised step from the one before it in the log. DESIGN.md has the argument.
type memberRule struct {
	log      raft.LogStore
	raft     func() raftView
	founders func() []raft.Server                 // of the entry at index 1
	restored func() (raft.Configuration, uint64)  // of the newest snapshot, and its index; 0: none
	sets     func() [][]fsm.ReplicaRecord         // replica sets of the ledger that are known here, applied and certified
	changed  func() <-chan struct{}               // closed when they change
	vouched  func(index uint64, data []byte) bool // enough others hold this very entry
	give     func(raft.RPC) bool                  // to Raft
	stop     <-chan struct{}
	refused  func(rule, name string, reason error)
	patience time.Duration // for the applied state to catch up with the log

	mu sync.Mutex // from judging a step until Raft has it
}

// raftView is what Raft says of itself.
type raftView struct {
	term, last uint64
	latest     raft.Configuration
}

// ruleConfiguration is the name that its refusals go by.
const ruleConfiguration = "configuration"

// take passes a request on in pieces: what is before a configuration first, so
// that what decided it can be applied; then the configuration, if it is
// authorised. An answer is Raft's to the last piece; when a configuration is
// refused, what was before it is kept and nothing acknowledged.
func (m *memberRule) take(q *request) (*raft.AppendEntriesResponse, error) {
	whole := q.Command.(*raft.AppendEntriesRequest)
	if whole.Term < m.raft().term {
		return m.pass(*whole)
	}
	rest := *whole
	for {
		at := slices.IndexFunc(rest.Entries, m.new)
		if at < 0 {
			return m.pass(rest)
		}
		answer, err := m.pass(cutAppend(rest, 0, at))
		if err != nil || !answer.Success {
			return answer, err
		}
		if answer, err = m.step(cutAppend(rest, at, at+1)); err != nil || !answer.Success {
			if errors.Is(err, errStep) {
				m.refused(ruleConfiguration, q.name(), err)
				err = fmt.Errorf("refused by %s: %w", ruleConfiguration, err)
			}
			return answer, err
		}
		if rest = cutAppend(rest, at+1, len(rest.Entries)); len(rest.Entries) == 0 {
			return answer, nil
		}
	}
}

// new says whether an entry is a configuration that Raft does not have yet.
func (m *memberRule) new(entry *raft.Log) bool {
	if entry.Type != raft.LogConfiguration {
		return false
	}
	var stored raft.Log
	return m.log.GetLog(entry.Index, &stored) != nil || stored.Term != entry.Term
}

// cutAppend is the part of a request with the entries from a to b. It commits
// nothing beyond them: what Raft has there may be what they replace.
func cutAppend(whole raft.AppendEntriesRequest, a, b int) raft.AppendEntriesRequest {
	part := whole
	if a > 0 {
		part.PrevLogEntry, part.PrevLogTerm = whole.Entries[a-1].Index, whole.Entries[a-1].Term
	}
	part.Entries = whole.Entries[a:b]
	part.LeaderCommitIndex = min(whole.LeaderCommitIndex, part.PrevLogEntry+uint64(b-a))
	return part
}

// pass gives Raft a request and waits for its answer.
func (m *memberRule) pass(part raft.AppendEntriesRequest) (*raft.AppendEntriesResponse, error) {
	answers := make(chan raft.RPCResponse, 1)
	if !m.give(raft.RPC{Command: &part, RespChan: answers}) {
		return nil, raft.ErrTransportShutdown
	}
	var answer raft.RPCResponse
	select {
	case answer = <-answers:
	case <-m.stop:
		return nil, raft.ErrTransportShutdown
	}
	response, ok := answer.Response.(*raft.AppendEntriesResponse)
	if !ok && answer.Error == nil {
		return nil, fmt.Errorf("an answer of type %T", answer.Response)
	}
	return response, answer.Error
}

// errStep is wrapped by every refusal of a step.
var errStep = errors.New("not an authorised step")

// step passes one configuration on once it is authorised. It waits for the
// applied state, which may be behind the log, and asks others at last.
func (m *memberRule) step(part raft.AppendEntriesRequest) (*raft.AppendEntriesResponse, error) {
	entry := part.Entries[0]
	deadline := time.NewTimer(m.patience)
	defer deadline.Stop()
	vouched, asked := false, false
	for {
		changed := m.changed()
		m.mu.Lock()
		err := m.judge(entry, vouched)
		if err == nil {
			defer m.mu.Unlock()
			return m.pass(part)
		}
		m.mu.Unlock()
		if asked || !errors.Is(err, errUnknownStep) {
			return nil, fmt.Errorf("entry %d: %w: %w", entry.Index, errStep, err)
		}
		select {
		case <-changed:
		case <-m.stop:
			return nil, raft.ErrTransportShutdown
		case <-deadline.C:
			asked, vouched = true, m.vouched(entry.Index, entry.Data)
		}
	}
}

// errUnknownStep: nothing that is known here authorises the step.
var errUnknownStep = errors.New("the ledger, as it is known here, has not decided it")

func (m *memberRule) judge(entry *raft.Log, vouched bool) error {
	next, err := decodeConfiguration(entry.Data)
	if err != nil {
		return err
	}
	if entry.Index == 1 {
		return sameServers(m.founders(), next.Servers)
	}
	before, err := m.before(entry.Index)
	if err != nil {
		return err
	}
	change, err := oneStep(before, next)
	if err != nil || vouched {
		return err
	}
	return change.authorised(m.sets())
}

// before is the configuration that holds below an index.
func (m *memberRule) before(index uint64) (raft.Configuration, error) {
	now := m.raft()
	if now.last < index {
		if len(now.latest.Servers) == 0 {
			return now.latest, errors.New("there is no configuration before it")
		}
		return now.latest, nil
	}
	// Raft will replace what it has from here on: look below.
	first, err := m.log.FirstIndex()
	if err != nil {
		return raft.Configuration{}, err
	}
	for i := index - 1; i >= max(first, 1); i-- {
		var entry raft.Log
		if err := m.log.GetLog(i, &entry); err != nil {
			return raft.Configuration{}, err
		}
		if entry.Type == raft.LogConfiguration {
			return decodeConfiguration(entry.Data)
		}
	}
	restored, at := m.restored()
	if at == 0 || at >= index {
		return restored, errors.New("there is no configuration before it")
	}
	return restored, nil
}

// sameServers says how the first configuration is not the founders'.
func sameServers(want, got []raft.Server) error {
	if len(want) != len(got) {
		return fmt.Errorf("%d servers found the cluster, want %d", len(got), len(want))
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			return fmt.Errorf("%.64q at %q is no founder", s.ID, s.Address)
		}
	}
	return nil
}

// change is what one step changes: at most one server.
type change struct {
	removed raft.ServerID // "" when none is
	server  raft.Server   // added, promoted or moved; zero when none is
}

// oneStep compares two configurations.
func oneStep(before, next raft.Configuration) (change, error) {
	var c change
	steps := 0
	for _, s := range before.Servers {
		at := slices.IndexFunc(next.Servers, func(n raft.Server) bool { return n.ID == s.ID })
		switch {
		case at < 0:
			c.removed = s.ID
			steps++
		case next.Servers[at] == s:
		case s.Suffrage == raft.Voter && next.Servers[at].Suffrage != raft.Voter:
			return c, fmt.Errorf("it takes the vote from %s", s.ID)
		default:
			c.server = next.Servers[at]
			steps++
		}
	}
	for _, s := range next.Servers {
		if !slices.ContainsFunc(before.Servers, func(b raft.Server) bool { return b.ID == s.ID }) {
			c.server = s
			steps++
		}
	}
	if steps > 1 {
		return c, fmt.Errorf("it changes %d servers at once", steps)
	}
	return c, nil
}

// authorised says whether one of the replica sets has the change: whoever is
// added or moved is in it at that address, with a vote only if active; whoever
// is removed is not.
func (c change) authorised(sets [][]fsm.ReplicaRecord) error {
	if c == (change{}) {
		return nil
	}
	for _, set := range sets {
		at := slices.IndexFunc(set, func(one fsm.ReplicaRecord) bool {
			return serverOf(one) == c.server.ID || serverOf(one) == c.removed
		})
		switch {
		case c.removed != "":
			if at < 0 {
				return nil
			}
		case at < 0 || set[at].Peer != string(c.server.Address):
		case c.server.Suffrage != raft.Voter || set[at].Standing == fsm.ReplicaActive:
			return nil
		}
	}
	if c.removed != "" {
		return fmt.Errorf("%w: %.12s is removed", errUnknownStep, c.removed)
	}
	return fmt.Errorf("%w: %.12s at %s as %s", errUnknownStep, c.server.ID, c.server.Address, c.server.Suffrage)
}

// foundingServers is the configuration that a ledger's genesis bootstraps Raft
// with.
func foundingServers(g *ledger.Genesis) []raft.Server {
	var servers []raft.Server
	for _, one := range g.Replicas {
		servers = append(servers, raft.Server{ID: raft.ServerID(one.KeyID().String()), Address: raft.ServerAddress(one.Peer)})
	}
	return servers
}

// configures says whether a request brings entries that change the
// configuration.
func configures(command any) bool {
	request, ok := command.(*raft.AppendEntriesRequest)
	if !ok {
		return false
	}
	for _, entry := range request.Entries {
		if entry.Type == raft.LogConfiguration {
			return true
		}
	}
	return false
}

// decodeConfiguration is raft.DecodeConfiguration without its panic, and checks
// what can be without knowing the ledger: servers with distinct ids and
// addresses, each with a vote or without, and one at least with.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode configuration: %v", p)
		}
	}()
	c = raft.DecodeConfiguration(b)
	ids, addresses, voters := map[raft.ServerID]bool{}, map[raft.ServerAddress]bool{}, 0
	for _, s := range c.Servers {
		if s.ID == "" || s.Address == "" || ids[s.ID] || addresses[s.Address] {
			return c, fmt.Errorf("configuration: server %.64q at %.64q is without name, or twice there", s.ID, s.Address)
		}
		ids[s.ID], addresses[s.Address] = true, true
		switch s.Suffrage {
		case raft.Voter:
			voters++
		case raft.Nonvoter:
		default:
			return c, fmt.Errorf("configuration: suffrage %d", s.Suffrage)
		}
	}
	if voters == 0 {
		return c, errors.New("configuration: nobody has a vote")
	}
	return c, nil
}
