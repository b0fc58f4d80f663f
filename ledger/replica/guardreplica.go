package replica

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// newReplicaGuard puts this replica's rules together, the cheap ones first; the
// term counts what it lets pass, so it comes last but for the one that asks others.
func (r *Replica) newReplicaGuard(ctx context.Context, conns *handoff) *guard {
	conns.addr = peerAddr(r.serverAddress())
	config := &raft.NetworkTransportConfig{
		Stream:  &streams{handoff: newHandoff(conns.addr), wire: r.wire, ctx: ctx},
		MaxPool: 3, Timeout: r.limits.PeerTimeout,
		MaxRPCsInFlight: 1, // a stalled follower can wedge a pipeline, which is also slower
		Logger:          r.raftLogger("transport"),
	}
	t := newTerms(r.now, r.founding.Created, termRefill*r.cfg.Raft.Election, r.raftTerm)
	g := newGuard(config, conns, r.pins.pinnedPeers, r.refused,
		refuseWhen("halted", r.halted),
		refuseMalformed(r.raftTerm),
		refuseSender(r.pins, r.doubtPins),
		refuseTransfers(&r.handovers, r.raftLeader),
		refuseUsurpers(r.leaderOf, r.votedFor),
		cutCommits(),
		refuseOverwrites(r.raftCommitted, r.raftStored, r.store.GetLog, r.raftSnapshot),
		refuseSnapshots(r.raftCommitted, func(index, term uint64) bool { return r.indexVouched(ctx, index, term) }),
		refuseStampsAhead(r.now, func() uint64 {
			// A time that the ledger has reached already is no news: it stays there
			// until clocks that were put right come up with it.
			state := r.shell.now.Load().state
			return max(state.Policy().MaxSkewMillis, state.Stamp()-min(state.Stamp(), r.now()))
		}),
		refuseVotes(func() error { return r.watchdog.stalled() }),
		refuseCensor(r.censors, r.votedFor),
		refuseTerms(t),
		refuseUnelected(ctx, r.elections, r.mustProve),
		followLeaders(&r.followed, r.raftTerm, r.votedFor))
	g.settled = r.follows
	g.answers = func(to raft.ServerID, _, term uint64) error {
		err := t.allow(to, term, true)
		if err != nil {
			name := ""
			if p := r.pins.now.Load().byServer(to); p != nil {
				name = p.Name
			}
			r.refused("term", name, err)
		}
		return err
	}
	g.handing = func(to raft.ServerID) { r.sayHanding(ctx, to) }
	members := &memberRule{
		log: r.store, raft: r.raftView, founders: r.raftFounders, restored: r.restoredConfiguration,
		sets: r.knownSets, changed: r.changed.wait, give: g.give, stop: g.stop, refused: r.refused, patience: stepWait,
		vouched: func(index uint64, data []byte) bool { return r.stepVouched(ctx, index, data) },
	}
	g.changes = members.take
	g.have = func(s *raft.InstallSnapshotRequest) bool {
		// An entry in the log that is not known to be committed yet will do: what a
		// snapshot has beyond its seal is proven by nothing, the log by its leaders.
		held := s.LastLogIndex <= r.raftCommitted() || s.LastLogTerm > 0 && r.heldTerm(s.LastLogIndex) == s.LastLogTerm
		return held && s.Term >= r.raftTerm()
	}
	return g
}

func (r *Replica) raftView() (v raftView) {
	node := r.node.Load()
	if node == nil {
		return v
	}
	v.term, v.last = node.CurrentTerm(), node.LastIndex()
	if future := node.GetConfiguration(); future.Error() == nil {
		v.latest = future.Configuration()
	}
	return v
}

// raftFounders is the configuration at index 1 of Raft's log. A recovery leaves
// none there: it begins with a snapshot, whose configuration is what the next
// one is compared with.
func (r *Replica) raftFounders() []raft.Server { return foundingServers(r.founding) }

// knownSets lists the replica sets of the ledger that are known here: of the
// applied state, and of the newest certified one, which the leader goes by.
func (r *Replica) knownSets() [][]fsm.ReplicaRecord {
	sets := [][]fsm.ReplicaRecord{r.shell.now.Load().state.Replicas()}
	if sealed := r.shell.certified.Load(); sealed != nil {
		sets = append(sets, sealed.state.Replicas())
	}
	return sets
}

// restored lists the snapshots on disk, the newest first.
func (r *Replica) restored() []*raft.SnapshotMeta {
	store := r.snapshots.Load()
	if store == nil {
		return nil
	}
	list, err := store.List()
	if err != nil {
		return nil
	}
	return list
}

// restoredConfiguration is that of the newest snapshot on disk, and the index
// that it was written at; 0 when there is none.
func (r *Replica) restoredConfiguration() (raft.Configuration, uint64) {
	list := r.restored()
	if len(list) == 0 {
		return raft.Configuration{}, 0
	}
	return list[0].Configuration, list[0].ConfigurationIndex
}

// heldConfiguration is the configuration entry at an index of Raft's log, or of
// a snapshot; nil when there is none here.
func (r *Replica) heldConfiguration(index uint64) []byte {
	if index == 0 {
		return nil // it asks for something else
	}
	var entry raft.Log
	if err := r.store.GetLog(index, &entry); err == nil {
		if entry.Type != raft.LogConfiguration {
			return nil
		}
		return entry.Data
	}
	for _, one := range r.restored() {
		if one.ConfigurationIndex == index && index > 0 {
			return raft.EncodeConfiguration(one.Configuration)
		}
	}
	return nil
}

// positionMessage is what a replica says of its Raft log.
type positionMessage struct {
	Commit        uint64      `json:"commit"`
	Term          uint64      `json:"term"`          // of the entry at the index asked for; 0: none here
	Configuration ledger.Hash `json:"configuration"` // SHA-256 of the entry at the index asked for; zero: none here
	Size          uint64      `json:"size"`          // of the ledger once all up to the index asked for is applied; 0: not known
	Root          ledger.Hash `json:"root"`          // and its root
}

func (r *Replica) servePosition(w http.ResponseWriter, q *http.Request, _ *peer) error {
	index, err := strconv.ParseUint(q.FormValue("index"), 10, 64)
	if err != nil {
		return err
	}
	var said positionMessage
	if node := r.node.Load(); node != nil {
		said.Commit, said.Term = r.raftCommitted(), r.heldTerm(index)
		said.Size, said.Root = r.position(index)
		if data := r.heldConfiguration(index); data != nil {
			said.Configuration = sha256.Sum256(data)
		}
	}
	return answerJSON(w, http.StatusOK, said)
}

// positions asks every active replica, and counts those whose word holds.
func (r *Replica) positions(ctx context.Context, index uint64, holds func(positionMessage) bool) int {
	ctx, cancel := context.WithTimeout(ctx, stepWait)
	defer cancel()
	count := 0
	r.peers.askAll(ctx, fmt.Sprintf("%s?index=%d", pathPosition, index), maxPeerNotes, func(from *peer, answer []byte) {
		var said positionMessage
		if json.Unmarshal(answer, &said) == nil && r.pins.mayVote(from.id) && holds(said) {
			count++
		}
	})
	return count
}

// stepVouched says whether more replicas than may lie, and two at least, hold
// this very configuration at this index: then an honest one judged it when it
// was new, with the ledger as it was. Where none may lie, of two or three, nobody
// but the leader may be there to ask: its word will do then, for a configuration
// of nobody but replicas that this ledger has or had.
func (r *Replica) stepVouched(ctx context.Context, index uint64, data []byte) bool {
	want := ledger.Hash(sha256.Sum256(data))
	faults := r.mostFaults()
	enough := max(faults+1, 2)
	if faults == 0 && r.everServers(data) {
		enough = 1
	}
	return r.positions(ctx, index, func(said positionMessage) bool { return said.Configuration == want }) >= enough
}

// mostFaults is how many may lie among the replicas, by the largest set that is
// known here: the applied state of one that lags may be of a time when they were
// fewer. Until a recovery is certified, the certified set is the one that lost
// its quorum, and says nothing.
func (r *Replica) mostFaults() int {
	faults := ledger.Faults(len(r.pins.voters(r.id)) + 1)
	if r.certifier.latest().Generation < r.generation.Load() {
		return faults
	}
	for _, set := range r.electorates() {
		faults = max(faults, ledger.Faults(len(set)))
	}
	return faults
}

func (r *Replica) raftTerm() uint64 {
	if node := r.node.Load(); node != nil {
		return node.CurrentTerm()
	}
	return 0
}

func (r *Replica) raftLeader() raft.ServerID {
	if node := r.node.Load(); node != nil {
		_, id := node.LeaderWithID()
		return id
	}
	return ""
}

// votedFor is whom this replica voted for in a term, as Raft keeps it; "" when
// it did not.
func (r *Replica) votedFor(term uint64) raft.ServerID {
	in, address := r.store.ballot.cast()
	if in != term || address == "" {
		return ""
	}
	for _, one := range r.pins.now.Load().atAddress(address) {
		if r.pins.mayVote(one.id) {
			return one.serverID()
		}
	}
	return ""
}

// doubtPins has the replica set asked for: a peer acts in a role that the
// ledger, as far as it is known here, does not give it. It may have come by it
// since.
func (r *Replica) doubtPins() {
	select {
	case r.doubts <- struct{}{}:
	default:
	}
}

// handingMessage says to whom a leader hands on.
type handingMessage struct {
	To ledger.Hash `json:"to"`
}

// sayHanding tells the others that this leader hands on, before its successor
// asks for their votes. Whoever does not hear it does not vote past us.
func (r *Replica) sayHanding(ctx context.Context, to raft.ServerID) {
	id, err := ledger.ParseHash(string(to))
	if err != nil {
		return
	}
	r.handovers.say(raft.ServerID(r.id.String()), to)
	body, err := json.Marshal(handingMessage{id})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handingWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, one := range r.peers.others() {
		if one.id == id || !r.pins.mayVote(one.id) {
			continue
		}
		wg.Go(func() { _, _ = r.peers.do(ctx, one, http.MethodPost, pathHanding, body, maxPeerNotes) })
	}
	wg.Wait()
}

func (r *Replica) serveHanding(_ http.ResponseWriter, q *http.Request, _ *peer) error {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxPeerNotes))
	if err != nil {
		return err
	}
	var said handingMessage
	if err := json.Unmarshal(body, &said); err != nil {
		return err
	}
	leader := r.raftLeader()
	if !r.calls(q, func(p *peer) bool { return p.serverID() == leader }) {
		return errors.New("you do not lead")
	}
	r.handovers.say(leader, raft.ServerID(said.To.String()))
	return nil
}

// pauseOrDoubt waits, but no longer than until the pins are in doubt; it says
// which, and whether ctx is still alive.
func (r *Replica) pauseOrDoubt(ctx context.Context, d time.Duration) (doubted, alive bool) {
	if !pause(ctx, min(d, doubtPause)) { // so often at most
		return false, false
	}
	timer := time.NewTimer(max(0, d-doubtPause))
	defer timer.Stop()
	select {
	case <-r.doubts:
		return true, true
	case <-timer.C:
		return false, true
	case <-ctx.Done():
		return false, false
	}
}

// heldTerm is the term of the entry at an index of Raft's log; 0 when it is not
// there.
func (r *Replica) heldTerm(index uint64) uint64 {
	var entry raft.Log
	if r.store.GetLog(index, &entry) != nil {
		return 0
	}
	return entry.Term
}

// indexVouched says whether more replicas than may lie have committed up to an
// index, or hold the entry there: after all were started anew nobody knows of a
// commit before a majority has the next one, for which we may be needed.
func (r *Replica) indexVouched(ctx context.Context, index, term uint64) bool {
	faults := r.mostFaults()
	if faults == 0 {
		return true // nobody but the leader may be there to ask, and nobody is to lie
	}
	return r.positions(ctx, index, func(said positionMessage) bool { return said.Commit >= index || term > 0 && said.Term == term }) > faults
}

// proveServers checks a snapshot's configuration against the replicas that it
// proves, in its state and its authority chain, and those that are known here:
// what the snapshot's own seal does not have yet.
func (r *Replica) proveServers(p *provenSnapshot, c raft.Configuration) error {
	ever, active := map[raft.ServerID]bool{}, map[raft.ServerID]bool{}
	for n := range p.chain.Len() {
		authority, _ := p.chain.At(n)
		for _, one := range authority.Replicas {
			ever[raft.ServerID(one.KeyID().String())] = true
		}
	}
	for _, one := range p.state.Replicas() {
		ever[serverOf(one)] = true
		active[serverOf(one)] = one.Standing == fsm.ReplicaActive
	}
	for _, one := range r.pins.now.Load().peers {
		ever[one.serverID()] = true
		if r.pins.mayVote(one.id) {
			active[one.serverID()] = true
		}
	}
	return knownServers(c, ever, active)
}

// mustProve says whether elections are proven by those who voted in them.
func (r *Replica) mustProve() bool { return r.shell.now.Load().state.Meta().Format >= electionFormat }
