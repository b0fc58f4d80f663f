package replica

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leaders remembers who is followed in the newest terms: the first whose claim to
// lead passed every rule, for as long as it is heard as often as Raft asks.
//
// Raft's own word is no help to tell a usurper by. It handles heartbeats beside
// its main loop, so that one of the old leader, checked before a vote raised the
// term and carried out after, leaves that leader standing in the new term; the
// true one would be refused until this replica stood for election itself.
type leaders struct {
	patience time.Duration // Raft's heartbeat timeout

	mu sync.Mutex
	of map[uint64]heard
}

// heard is a leader, and when it spoke last.
type heard struct {
	id raft.ServerID
	at time.Time
}

func (l *leaders) in(term uint64) raft.ServerID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now(term)
}

// now requires mu.
func (l *leaders) now(term uint64) raft.ServerID {
	one, ok := l.of[term]
	if !ok || time.Since(one.at) > l.patience {
		return ""
	}
	return one.id
}

// follow notes a leader of a term, unless another is followed in it. Whom we voted
// for takes the place of whoever spoke up earlier.
func (l *leaders) follow(term uint64, id raft.ServerID, voted bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if had := l.now(term); had != "" && had != id && !voted {
		return errUsurper(term)
	}
	if l.of == nil {
		l.of = map[uint64]heard{}
	}
	l.of[term] = heard{id, time.Now()}
	for old := range l.of {
		if len(l.of) > maxElections && old+maxElections <= term {
			delete(l.of, old)
		}
	}
	return nil
}

func errUsurper(term uint64) error { return fmt.Errorf("term %d has another leader", term) }

// ruleLeader is the name that a usurper's refusal goes by.
const ruleLeader = "leader"

// refuseUsurpers refuses a second leader of one term. Raft follows whoever says
// that it leads, and compares entries by index and term alone: one that appends
// in another's term makes an acknowledgement mean something else than the leader
// thinks, and a leader step down. Whom we voted for in the term is never the
// usurper, however early another spoke up. leads gives who leads a term, "" when
// that is not known.
func refuseUsurpers(leads, votedFor func(term uint64) raft.ServerID) guardRule {
	return guardRule{ruleLeader, func(q *request) error {
		term, claims := claimed(q.Command)
		if !claims {
			return nil
		}
		leader := leads(term)
		if leader == "" || leader == q.sender.serverID() || votedFor(term) == q.sender.serverID() {
			return nil
		}
		return errUsurper(term)
	}}
}

// followLeaders comes last: whoever passed all other rules is followed in a term.
// One of a term below ours is Raft's to refuse.
func followLeaders(l *leaders, current func() uint64, votedFor func(term uint64) raft.ServerID) guardRule {
	return guardRule{ruleLeader, func(q *request) error {
		term, claims := claimed(q.Command)
		if !claims || term < current() {
			return nil
		}
		return l.follow(term, q.sender.serverID(), votedFor(term) == q.sender.serverID())
	}}
}

// leaderOf is who leads a term as far as this replica knows by itself: itself, or
// whom it followed in it; "" for nobody yet.
func (r *Replica) leaderOf(term uint64) raft.ServerID {
	self := raft.ServerID(r.id.String())
	if now, leader := r.termAndLeader(); now == term && leader == self && r.votedFor(term) == self {
		return self
	}
	return r.followed.in(term)
}

// follows says whether this replica follows the sender of a heartbeat in its term
// already, and so whether it may be handled beside Raft's main loop. One that
// makes Raft give up its leadership, or takes it to another term, is not: the main
// loop would go on meanwhile, and order what it has at hand, as leader of a term
// that another won.
func (r *Replica) follows(q *request) bool {
	node := r.node.Load()
	term, claims := claimed(q.Command)
	if node == nil || !claims || node.State() != raft.Follower {
		return false
	}
	now, leader := r.termAndLeader()
	return now == term && leader == q.sender.serverID()
}

func (r *Replica) termAndLeader() (uint64, raft.ServerID) {
	return ofOneMoment(r.raftTerm, r.raftLeader)
}

// ofOneMoment reads two things of Raft's that change one after the other: the
// leader goes before the term rises, and the new one comes after it.
func ofOneMoment(readTerm func() uint64, readLeader func() raft.ServerID) (uint64, raft.ServerID) {
	for {
		term := readTerm()
		leader := readLeader()
		if readTerm() == term {
			return term, leader
		}
	}
}
