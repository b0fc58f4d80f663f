package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// elections knows who won the terms that this replica has heard of. Raft's
// requests carry no proof of an election, so whoever claims a term is followed
// in it only once enough voters vouch that they elected it. DESIGN.md says how
// many are enough, and why that ends by itself if they are gone.
type elections struct {
	self    raft.ServerID
	current func() uint64                                                        // Raft's term
	voted   func() (term uint64, candidate string)                               // our own vote, by address
	sets    func() [][]raft.ServerID                                             // of voters, each of which will do
	others  func() []*peer                                                       // who may vote, but for us
	ask     func(ctx context.Context, to *peer, term uint64) (voteMessage, bool) // what it knows of a term
	wait    time.Duration                                                        // for the vouchers of one claim

	mu     sync.Mutex
	won    map[uint64]raft.ServerID // of the newest terms
	asking map[raft.ServerID]chan struct{}
}

// voteMessage is what a replica says of one term.
type voteMessage struct {
	Voted   string      `json:"voted,omitempty"`  // the address of the candidate it voted for; "": for none
	Follows ledger.Hash `json:"follows,omitzero"` // whose election was proven to it
}

func newElections(r *Replica) *elections {
	return &elections{
		self: raft.ServerID(r.id.String()), current: r.raftTerm, voted: func() (uint64, string) { return r.store.ballot.cast() },
		sets: r.electorates, others: func() []*peer { return r.pins.mayVoteBut(r.id) }, ask: r.askVote, wait: r.cfg.Raft.LeaderLease,
		won: map[uint64]raft.ServerID{}, asking: map[raft.ServerID]chan struct{}{},
	}
}

// electionFormat is the format from which every replica vouches for elections.
// In a ledger of an earlier one, programs that do not may run beside this one.
const electionFormat = 2

// refuseUnelected is the rule, once it is in force. A term below ours is Raft's
// to refuse, whose answer tells an old leader of the newer one.
func refuseUnelected(ctx context.Context, e *elections, inForce func() bool) guardRule {
	return guardRule{"election", func(q *request) error {
		term, leads := claimed(q.Command)
		if !leads || term < e.current() || !inForce() {
			return nil
		}
		return e.prove(ctx, q.sender, term)
	}}
}

// claimed is the term that a request claims to lead.
func claimed(command any) (term uint64, leads bool) {
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		return c.Term, true
	case *raft.InstallSnapshotRequest:
		return c.Term, true
	}
	return 0, false
}

// prove returns nil once the election of a leader is vouched for. The requests
// of a claimant wait for each other, so that it has one round of questions asked
// at a time, on however many connections it claims.
func (e *elections) prove(ctx context.Context, from *peer, term uint64) error {
	id := from.serverID()
	for {
		e.mu.Lock()
		won, known := e.won[term]
		asked := e.asking[id]
		if !known && asked == nil {
			done := make(chan struct{})
			e.asking[id] = done
			e.mu.Unlock()
			err := e.inquire(ctx, from, term)
			e.mu.Lock()
			delete(e.asking, id)
			if err == nil {
				e.note(term, id)
			}
			e.mu.Unlock()
			close(done)
			return err
		}
		e.mu.Unlock()
		if known && won != id {
			return fmt.Errorf("another won term %d", term)
		}
		if known {
			return nil
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// note requires mu.
func (e *elections) note(term uint64, id raft.ServerID) {
	e.won[term] = id
	for old := range e.won {
		if len(e.won) > maxElections && old+maxElections <= term {
			delete(e.won, old)
		}
	}
}

// inquire asks the others until enough of them vouch.
func (e *elections) inquire(ctx context.Context, from *peer, term uint64) error {
	found := vouchers{votes: map[raft.ServerID]bool{from.serverID(): true}, follow: map[raft.ServerID]bool{}}
	enough := func() error {
		if in, candidate := e.voted(); in == term && candidate == from.Peer {
			found.votes[e.self] = true
		}
		return found.enough(e.sets())
	}
	err := enough()
	if err == nil {
		return nil // the common case of three: the candidate's vote and ours
	}
	type answer struct {
		id   raft.ServerID
		said voteMessage
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	answers := make(chan answer)
	for _, to := range e.others() {
		if to.id == from.id {
			continue
		}
		wg.Go(func() {
			for again := true; again; again = pause(ctx, askAgain) {
				said, ok := e.ask(ctx, to, term)
				if !ok {
					continue
				}
				select {
				case answers <- answer{to.serverID(), said}:
				case <-ctx.Done():
				}
			}
		})
	}
	for {
		select {
		case one := <-answers:
			found.votes[one.id] = one.said.Voted == from.Peer
			found.follow[one.id] = one.said.Follows == from.id
			if err = enough(); err == nil {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("term %d: %w", term, err)
		}
	}
}

// vouchers are those who voted for a candidate, and those to whom its election
// was proven.
type vouchers struct {
	votes, follow map[raft.ServerID]bool
}

// enough says whether a majority of one of the sets voted for the candidate, or
// more follow it than can lie beside it: it can't win by its own lie unless it
// is one of the f liars, so that f others have an honest one among them.
func (v vouchers) enough(sets [][]raft.ServerID) error {
	follow, faults, best := 0, 1, ""
	for _, set := range sets {
		votes := 0
		for _, one := range set {
			if v.votes[one] {
				votes++
			}
		}
		if len(set) > 0 && votes > len(set)/2 {
			return nil
		}
		faults = max(faults, ledger.Faults(len(set)))
		best = fmt.Sprintf("%d of %d voters vouch for its election", votes, len(set))
	}
	for _, follows := range v.follow {
		if follows {
			follow++
		}
	}
	if follow >= faults {
		return nil
	}
	return fmt.Errorf("%s, %d others follow it", best, follow)
}

// electorates are the sets of voters that an election may have been held among:
// Raft's newest configuration here, and what the ledger has decided, which the
// former follows. A replica that replays or has been away goes by the newest set
// that was proven to it.
func (r *Replica) electorates() [][]raft.ServerID {
	var sets [][]raft.ServerID
	if node := r.node.Load(); node != nil {
		if future := node.GetConfiguration(); future.Error() == nil {
			var set []raft.ServerID
			for _, s := range future.Configuration().Servers {
				if s.Suffrage == raft.Voter {
					set = append(set, s.ID)
				}
			}
			if len(set) > 0 {
				sets = append(sets, set)
			}
		}
	}
	proven, decided := r.pins.proven()
	if proven == nil {
		proven = r.certifier.latestServers()
	}
	sets = append(sets, proven)
	if decided != nil {
		sets = append(sets, decided)
	}
	return sets
}

// proven lists who is active by the set that a seed proved, nil without one, and
// by the applied state once this replica has caught up with the ledger.
func (p *pins) proven() (learned, applied []raft.ServerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	active := func(list []*peer) (ids []raft.ServerID) {
		for _, one := range list {
			if one.standing == fsm.ReplicaActive {
				ids = append(ids, one.serverID())
			}
		}
		return ids
	}
	if p.settled {
		applied = active(p.applied)
	}
	return active(p.learned), applied
}

// mayVoteBut lists whoever may vote, but for one.
func (p *pins) mayVoteBut(self ledger.Hash) []*peer {
	var list []*peer
	for _, one := range p.now.Load().peers {
		if one.id != self && p.mayVote(one.id) {
			list = append(list, one)
		}
	}
	return list
}

// askVote asks one replica what it knows of the election of a term.
func (r *Replica) askVote(ctx context.Context, to *peer, term uint64) (said voteMessage, ok bool) {
	answer, err := r.peers.do(ctx, to, http.MethodGet, fmt.Sprintf("%s?term=%d", pathElection, term), nil, maxPeerNotes)
	return said, err == nil && json.Unmarshal(answer, &said) == nil
}

// serveElection answers what this replica knows of the election of a term.
func (r *Replica) serveElection(w http.ResponseWriter, q *http.Request, _ *peer) error {
	term, err := strconv.ParseUint(q.FormValue("term"), 10, 64)
	if err != nil {
		return err
	}
	var said voteMessage
	if in, candidate := r.store.ballot.cast(); in == term {
		said.Voted = candidate
	}
	r.elections.mu.Lock()
	won := r.elections.won[term]
	r.elections.mu.Unlock()
	if id, err := ledger.ParseHash(string(won)); err == nil {
		said.Follows = id
	}
	return answerJSON(w, http.StatusOK, said)
}
