package model

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
)

// The times of gossip/agent.
const (
	headJitter      = 150 * time.Millisecond
	replicaPatience = 500 * time.Millisecond
	relayDelay      = 2 * time.Second
	relaySoon       = 200 * time.Millisecond
	peerEvery       = 5 * time.Second
	replaying       = 5 * time.Millisecond // entries and head, until they are the view
	signing         = time.Millisecond
	firstPause      = 10 * time.Millisecond // before a head is asked for again
	lastPause       = time.Second
)

const none = -1

// agent is one node: the real judge, and what gossip/agent does with it.
type agent struct {
	w              *world
	number         int
	member         memorytest.Member
	silent         bool // Byzantine: it says and relays nothing
	replica        int  // that it follows; none: it reaches none
	judge          *gossip.Judge
	version        int      // of the certified state that it holds
	newest         headName // that it has seen or published
	streamed       int      // version whose entries its replica sent
	fetching, want bool     // a head
	seq            uint64   // its next

	early early // statements of the next epoch

	enforcing time.Duration // since when it drops the offender
	certain   time.Duration // since when it knows the certified verdict
}

func (a *agent) view() *view { return a.w.core.versions[a.version].view }

// say signs a statement under the key and in the epoch of its view, gossips it and
// submits it.
func (a *agent) say(typ string, body any) {
	a.w.clock.after(signing, func() { a.spread(a.sign(typ, body)) })
}

func (a *agent) sign(typ string, body any) *ledger.Statement {
	view := a.view()
	n, _ := view.state.Node(a.member.Name)
	envelope, err := a.w.book.EnvelopeIn(view.rules.Epoch, keys.ID(n.Key), n.Name, typ, a.seq, body)
	if err != nil {
		panic(err) // the model's own bug
	}
	a.seq++
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		panic(err)
	}
	return st
}

func (a *agent) spread(st *ledger.Statement) {
	rules := a.view().rules
	a.judge.Note(&rules, st)
	a.w.gossip.publish(a.number, a.w.gossip.message(topicStatements, len(st.Envelope), st))
	if a.replica != none {
		a.w.core.submit(a.number, a.replica, st)
	}
}

// hear is what an agent does with a message of gossip; pass relays it.
func (a *agent) hear(from int, m *message, pass func()) {
	if h, isHead := m.content.(headName); isHead {
		if a.hearHead(from, h) {
			pass()
		}
		return
	}
	st := m.content.(*ledger.Statement)
	_, ruling := a.judge.Statement(a.view(), memorytest.Trusting{}, gossip.Statements, st.Envelope)
	if ruling.Reason == gossip.EarlyEpoch && a.await(from, st, func() { a.hear(from, m, pass) }) {
		return
	}
	a.w.rulings[ruling.Reason]++
	if ruling.Proof != nil {
		a.enforce()
	}
	if ruling.Reason == gossip.Good || ruling.Reason == gossip.Replayed {
		a.w.boundary.heard(a, st)
	}
	if ruling.Reason == gossip.Good {
		a.relay(st)
	}
	if ruling.Verdict() == gossip.Accept {
		pass()
	}
}

// relay brings another's statement to the ledger if it is not there by then.
func (a *agent) relay(st *ledger.Statement) {
	if a.replica == none {
		return
	}
	delay := relayDelay
	if st.Payload.Type == ledger.TypeEvidence {
		delay = relaySoon
	}
	a.w.clock.after(a.w.between(delay, delay), func() {
		if !a.settled(st) {
			a.w.core.submit(a.number, a.replica, st)
		}
	})
}

// settled reports whether a statement is on the ledger as far as the agent
// knows.
func (a *agent) settled(st *ledger.Statement) bool {
	version, certified := a.w.core.where[st.ID]
	return certified && version <= a.version
}

// hearHead takes note of a head; from whoever shows one that is ahead an agent
// fetches what it covers, unless its replica is quicker.
func (a *agent) hearHead(from int, h headName) bool {
	if !h.fresher(a.newest) {
		return false
	}
	a.newest = h
	if a.version < h.version && !a.w.config.NoRepair {
		patience := replicaPatience
		if a.replica == none {
			patience = 0
		}
		a.w.clock.after(patience, func() { a.claim(from, h) })
	}
	return true
}

// claim asks a peer for what a head covers. The peer may not have it yet itself:
// with AskAgain, as gossip/agent does, others are asked then.
func (a *agent) claim(peer int, h headName) {
	if a.version >= h.version {
		return
	}
	a.ask(peer)
	if a.w.config.AskAgain {
		a.w.clock.after(replicaPatience, func() {
			peers := a.w.gossip.peers[a.number]
			a.claim(peers[a.w.random.IntN(len(peers))], h)
		})
	}
}

// wantHead has an agent ask its replica for the newest head, one question at a
// time, and again soon while a seal came that no head covers.
func (a *agent) wantHead(kind traffic) {
	if a.fetching {
		a.want = true
		return
	}
	a.fetching = true
	a.fetchHead(kind, firstPause)
}

func (a *agent) fetchHead(kind traffic, pause time.Duration) {
	net, replica := a.w.net, a.replica
	a.want = false
	net.carry(a.number, net.agents+replica, aroundRequest, kind, func() {
		h := a.w.core.head(replica)
		net.carry(net.agents+replica, a.number, a.w.book.fullHead+aroundRequest, kind, func() {
			if h.version <= a.streamed {
				a.adopt(h.version)
				a.offer(h)
			}
			switch {
			case a.want:
				a.fetchHead(kind, firstPause)
			case h.version != a.streamed && a.version < a.streamed && pause < lastPause:
				a.w.clock.after(pause, func() { a.fetchHead(kind, 2*pause) })
			default:
				a.fetching = false
			}
		})
	})
}

// refresh asks for the head from time to time, since it is signed anew.
func (a *agent) refresh() {
	a.w.clock.after(a.w.between(refreshEvery*3/4, refreshEvery/2), func() {
		a.wantHead(refreshing)
		a.refresh()
	})
}

// ask has a peer give what it has and we have not.
func (a *agent) ask(peer int) {
	net, core := a.w.net, a.w.core
	net.carry(a.number, peer, aroundRequest, following, func() {
		other := a.w.agents[peer]
		if other.silent || other.version <= a.version {
			return
		}
		number := other.version
		bytes := (core.since(a.version, number)+a.w.book.fullHead)*4/3 + aroundRequest
		net.carry(peer, a.number, bytes, following, func() { a.adopt(number) })
	})
}

// poll is what an agent without a replica does besides.
func (a *agent) poll() {
	a.w.clock.after(peerEvery, func() {
		peers := a.w.gossip.peers[a.number]
		a.ask(peers[a.w.random.IntN(len(peers))])
		a.poll()
	})
}

// adopt believes a certified state.
func (a *agent) adopt(number int) {
	a.w.clock.after(replaying, func() {
		if number <= a.version {
			return
		}
		before := a.version
		a.version, a.streamed = number, max(a.streamed, number)
		rules := a.view().rules
		a.judge.Advance(rules.Epoch)
		for _, v := range a.w.core.versions[before+1 : number+1] {
			for _, st := range v.statements {
				a.judge.Note(&rules, st)
				if a.w.learnt != nil {
					a.w.learnt(a, st)
				}
			}
			for _, o := range v.offences {
				a.judge.Settle(o)
			}
		}
		a.enforce()
		if rules.Epoch > a.w.core.versions[before].view.rules.Epoch {
			a.enter()
		}
	})
}

// offer publishes a head that a replica gave, unless another did first.
func (a *agent) offer(h headName) {
	if !h.fresher(a.newest) {
		return
	}
	a.w.clock.after(time.Duration(a.w.random.Int64N(int64(headJitter))), func() {
		if !h.fresher(a.newest) {
			return
		}
		a.newest = h
		a.w.published++
		a.w.gossip.publish(a.number, a.w.head(h))
	})
}

// enforce takes note of when the agent began to drop the offender, if it does.
func (a *agent) enforce() {
	offender := a.w.offender()
	n, ok := a.view().state.Node(offender.member.Name)
	decided := ok && n.Standing != fsm.NodeActive
	if a.enforcing == never && (decided || a.judge.Banned(ledger.Hash(a.w.book.IDs[offender.member.Name]))) {
		a.enforcing = a.w.clock.now
	}
	if a.certain == never && decided {
		a.certain = a.w.clock.now
	}
}
