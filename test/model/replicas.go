package model

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// The replicas, as test/bench measured them at rest: from sending to certified
// a decision takes 70 ms at p99. The rules that they apply are the real ones.
const (
	commitLeast    = 6 * time.Millisecond // from the leader's socket to applied: two fsyncs and a round
	commitSpread   = 12 * time.Millisecond
	certifyLeast   = 20 * time.Millisecond // from a seal to its certified head at all replicas
	certifySpread  = 25 * time.Millisecond
	sealInterval   = 250 * time.Millisecond // ledger/replica/limits.go
	sealGather     = 50 * time.Millisecond
	urgentInterval = 50 * time.Millisecond
	aroundRequest  = 400 // bytes of an HTTP request or answer beside its content
	aroundEntry    = 200 // of an entry in a stream beside its base64
	submitTimeout  = 10 * time.Second
	refreshEvery   = 10 * time.Second // the newest head is signed anew
)

// core is the replicas. Replica 0 leads; the last one may withhold: it serves an
// old head for ever and swallows what is submitted to it.
type core struct {
	w           *world
	withholding bool
	ordered     map[ledger.Hash]bool // statements that reached the leader
	where       map[ledger.Hash]int  // version in which a statement is certified
	open        version              // what was applied and not sealed
	sealing     bool
	lastSeal    time.Duration
	versions    []version // certified states, ascending
	submissions int
	followers   [replicas][]int
}

// version is a certified state and what led to it.
type version struct {
	view       *view
	at         time.Duration // when it was certified
	bytes      int           // of its entries
	entries    int
	statements []*ledger.Statement
	offences   []*ledger.Offence
}

func (c *core) withholds(replica int) bool { return c.withholding && replica == replicas-1 }

// submit brings a statement to a replica, as gossip/agent does: after a time
// without an answer to the next one.
func (c *core) submit(agent, replica int, st *ledger.Statement) {
	c.submissions++
	w := c.w
	w.net.carry(agent, w.net.agents+replica, len(st.Envelope)+aroundRequest, submitting, func() {
		if c.withholds(replica) {
			w.clock.after(submitTimeout, func() { c.submit(agent, (replica+1)%replicas, st) })
			return
		}
		w.net.carry(w.net.agents+replica, w.net.agents, len(st.Envelope)+aroundRequest, submitting, func() { c.order(st) })
	})
}

// order commits a statement, once.
func (c *core) order(st *ledger.Statement) {
	if c.ordered[st.ID] {
		return
	}
	c.ordered[st.ID] = true
	c.w.clock.after(c.w.between(commitLeast, commitSpread), func() {
		result := c.apply(ledger.CommandStatements, st.Envelope)
		if len(result.Entries) == 0 {
			return // refused: said of somebody who is gone already
		}
		c.open.statements = append(c.open.statements, st)
		if st.Payload.Type == ledger.TypeEvidence {
			c.open.offences = append(c.open.offences, offenceOf(st))
		}
		c.planSeal(result.Urgent)
	})
}

func (c *core) apply(kind ledger.CommandKind, statements ...[]byte) fsm.Result {
	c.w.book.Now = c.w.stamp()
	next, result := fsm.Apply(c.w.book.State, &ledger.Command{Kind: kind, Stamp: c.w.book.Now, Statements: statements}, memorytest.Trusting{})
	c.w.book.State = next
	for _, e := range result.Entries {
		c.open.entries++
		c.open.bytes += len(e)
	}
	for _, v := range result.Verdicts {
		c.w.codes[v.Code]++
	}
	return result
}

func (c *core) planSeal(urgent bool) {
	at := max(c.lastSeal+sealInterval, c.w.clock.now+sealGather)
	if urgent {
		at = max(c.lastSeal+urgentInterval, c.w.clock.now)
	} else if c.sealing {
		return
	}
	c.sealing = true
	c.w.clock.at(at, c.seal)
}

func (c *core) seal() {
	if !c.sealing {
		return // an urgent one came first
	}
	c.sealing, c.lastSeal = false, c.w.clock.now
	c.apply(ledger.CommandSeal)
	sealed := c.open
	sealed.view = newView(c.w.book.State)
	c.open = version{}
	c.w.clock.after(c.w.between(certifyLeast, certifySpread), func() { c.certified(sealed) })
}

// certified tells the replicas' followers.
func (c *core) certified(v version) {
	v.at = c.w.clock.now
	c.versions = append(c.versions, v)
	number := len(c.versions) - 1
	for _, st := range v.statements {
		c.where[st.ID] = number
	}
	for replica := range replicas {
		if c.withholds(replica) {
			continue
		}
		list := c.followers[replica]
		c.w.net.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, agent := range list {
			c.w.net.carry(c.w.net.agents+replica, agent, v.bytes*4/3+v.entries*aroundEntry, following, func() {
				a := c.w.agents[agent]
				a.streamed = max(a.streamed, number)
				a.wantHead(following)
			})
		}
	}
}

// headName is a head by what an agent compares: the version that it covers, and
// how often its replicas have signed it anew.
type headName struct{ version, round int }

func (h headName) fresher(than headName) bool {
	return h.version > than.version || h.version == than.version && h.round > than.round
}

// head is the newest that a replica gives.
func (c *core) head(replica int) headName {
	if c.withholds(replica) {
		return headName{}
	}
	newest := len(c.versions) - 1
	return headName{newest, int((c.w.clock.now - c.versions[newest].at) / refreshEvery)}
}

// since gives how many bytes of entries lie between two versions.
func (c *core) since(from, to int) int {
	bytes := 0
	for _, v := range c.versions[from+1 : to+1] {
		bytes += v.bytes
	}
	return bytes
}

func offenceOf(st *ledger.Statement) *ledger.Offence {
	body, err := ledger.DecodeBody[ledger.Evidence](st)
	if err != nil {
		return nil
	}
	var exhibits []*ledger.Statement
	for _, envelope := range body.Exhibits {
		x, err := ledger.ParseStatement(envelope)
		if err != nil {
			return nil
		}
		exhibits = append(exhibits, x)
	}
	proof, err := gossip.Prove(body.Kind, 0, exhibits...)
	if err != nil {
		return nil
	}
	return &proof.Offence
}
