package model

import (
	"slices"
	"time"
)

// GossipSub as gossip/mesh sets it up: the parameters of go-libp2p-pubsub that
// it leaves as they are, and its own number of connections.
const (
	degree        = 6  // D
	degreeHigh    = 12 // Dhi
	lazyDegree    = 6  // Dlazy
	lazyQuarter   = 4  // 1/GossipFactor
	heartbeat     = time.Second
	gossipTurns   = 3                // HistoryGossip: heartbeats in which a message is offered
	judging       = time.Millisecond // from a frame to the ruling on it: the queue and a signature
	targetPeers   = 24               // gossip/mesh/limits.go
	ownChoice     = 12               // of these
	idLength      = 34               // of a message id in a control frame
	controlAround = 20               // of a control frame beside its ids
	aroundMessage = 96               // of a message beside its content: topic and framing
	dontWantFrom  = 1_024            // bytes from which IDONTWANT is said
)

type topic int

const (
	topicStatements topic = iota
	topicHeads
	topics
)

// message is one content on a topic, whoever publishes it.
type message struct {
	topic   topic
	size    int
	content any
	number  int
	seen    []time.Duration // by agent: when it came first; never: not yet
}

const never = time.Duration(-1)

// gossipsub is the meshes of all agents.
type gossipsub struct {
	net     *network
	repair  bool // offers by IHAVE
	silent  func(agent int) bool
	judge   func(agent, from int, m *message, pass func()) // calls pass when it accepts, maybe later
	peers   [][]int
	mesh    [topics][][]int
	recent  [][]recentMessage
	beating []bool
	phase   []time.Duration
	count   int
}

type recentMessage struct {
	message *message
	turns   int
}

// newGossipsub connects agents as gossip/mesh does, each of its own operator as
// little as it can, and lets their meshes settle.
func newGossipsub(net *network, operator []int) *gossipsub {
	n := net.agents
	g := &gossipsub{
		net: net, repair: true, peers: make([][]int, n), recent: make([][]recentMessage, n), beating: make([]bool, n), phase: make([]time.Duration, n),
	}
	for i := range g.phase {
		g.phase[i] = time.Duration(net.random.Int64N(int64(heartbeat)))
	}
	g.connect(operator)
	for t := range g.mesh {
		g.mesh[t] = g.graft()
	}
	return g
}

// connect has everybody dial until it has enough, in rounds, as gossip/mesh's
// choose does: each time of the operator of which it has fewest, at random.
func (g *gossipsub) connect(operator []int) {
	n := len(operator)
	linked := make([]map[int]bool, n)
	outward := make([]int, n)
	operators := make([]map[int]int, n)
	byOperator := map[int][]int{}
	for i, o := range operator {
		linked[i], operators[i] = map[int]bool{i: true}, map[int]int{}
		byOperator[o] = append(byOperator[o], i)
	}
	names := sortedInts(byOperator)
	target, own := min(targetPeers, n-1), min(ownChoice, n-1)
	for again := true; again; {
		again = false
		for _, i := range g.net.random.Perm(n) {
			if len(g.peers[i]) >= target && outward[i] >= own || len(g.peers[i]) == n-1 {
				continue
			}
			j := g.candidate(i, names, byOperator, linked[i], operators[i])
			if j < 0 {
				continue
			}
			again = true
			outward[i]++
			linked[i][j], linked[j][i] = true, true
			g.peers[i], g.peers[j] = append(g.peers[i], j), append(g.peers[j], i)
			operators[i][operator[j]]++
			operators[j][operator[i]]++
		}
	}
	for _, p := range g.peers {
		slices.Sort(p)
	}
}

func (g *gossipsub) candidate(i int, names []int, byOperator map[int][]int, linked map[int]bool, has map[int]int) int {
	fewest := -1
	var best []int
	for _, o := range names {
		free := slices.ContainsFunc(byOperator[o], func(j int) bool { return !linked[j] })
		switch {
		case !free:
		case fewest < 0 || has[o] < fewest:
			fewest, best = has[o], []int{o}
		case has[o] == fewest:
			best = append(best, o)
		}
	}
	if fewest < 0 {
		return -1
	}
	members := byOperator[best[g.net.random.IntN(len(best))]]
	for {
		if j := members[g.net.random.IntN(len(members))]; !linked[j] {
			return j
		}
	}
}

// graft gives a mesh in which everybody has D to Dhi of its peers.
func (g *gossipsub) graft() [][]int {
	mesh := make([][]int, len(g.peers))
	for _, i := range g.net.random.Perm(len(g.peers)) {
		for _, at := range g.net.random.Perm(len(g.peers[i])) {
			j := g.peers[i][at]
			if len(mesh[i]) >= degree {
				break
			}
			if len(mesh[j]) < degreeHigh && !slices.Contains(mesh[i], j) {
				mesh[i], mesh[j] = append(mesh[i], j), append(mesh[j], i)
			}
		}
	}
	return mesh
}

func (g *gossipsub) message(t topic, size int, content any) *message {
	g.count++
	m := &message{topic: t, size: size + aroundMessage, content: content, number: g.count, seen: make([]time.Duration, len(g.peers))}
	for i := range m.seen {
		m.seen[i] = never
	}
	return m
}

// publish floods one's own message to all that are connected.
func (g *gossipsub) publish(i int, m *message) {
	if m.seen[i] != never || g.silent(i) {
		return
	}
	m.seen[i] = g.net.clock.now
	g.keep(i, m)
	for _, j := range g.peers[i] {
		g.give(i, j, m)
	}
}

// give pushes a message, unless the other has said that it has it.
func (g *gossipsub) give(i, j int, m *message) {
	if at := m.seen[j]; at != never && m.size >= dontWantFrom && slices.Contains(g.mesh[m.topic][i], j) && !g.silent(j) &&
		at+g.net.way(j, i) <= g.net.clock.now && g.net.random.Float64() >= g.net.loss {
		return
	}
	g.net.push(i, j, m.size, m.traffic(), func() { g.receive(j, i, m) })
}

func (m *message) traffic() traffic {
	switch h, ok := m.content.(headName); {
	case ok && h.round > 0:
		return refreshing
	case ok:
		return heads
	}
	return statements
}

func (g *gossipsub) receive(j, from int, m *message) {
	if m.seen[j] != never || g.silent(j) {
		return
	}
	m.seen[j] = g.net.clock.now
	if m.size >= dontWantFrom {
		for _, k := range g.mesh[m.topic][j] {
			g.tell(j, k, 1)
		}
	}
	g.net.clock.after(judging, func() {
		g.judge(j, from, m, func() {
			g.keep(j, m)
			for _, k := range g.mesh[m.topic][j] {
				if k != from {
					g.give(j, k, m)
				}
			}
		})
	})
}

// tell counts a control frame whose arrival the model looks up, not plans.
func (g *gossipsub) tell(from, to, ids int) {
	bytes := controlAround + idLength*ids
	g.net.leave(from, bytes, control)
	g.net.received[to][control] += wire(bytes)
}

// keep has a message offered in the next heartbeats.
func (g *gossipsub) keep(i int, m *message) {
	g.recent[i] = append(g.recent[i], recentMessage{m, gossipTurns})
	if g.beating[i] {
		return
	}
	g.beating[i] = true
	now := g.net.clock.now
	next := now - now%heartbeat + g.phase[i]
	if next <= now {
		next += heartbeat
	}
	g.net.clock.at(next, func() { g.beat(i) })
}

// beat offers what came lately to some that are not in the mesh.
func (g *gossipsub) beat(i int) {
	for t := range topics {
		var offer []*message
		for _, r := range g.recent[i] {
			if r.message.topic == t {
				offer = append(offer, r.message)
			}
		}
		if len(offer) == 0 || !g.repair {
			continue
		}
		var lazy []int
		for _, j := range g.peers[i] {
			if !slices.Contains(g.mesh[t][i], j) {
				lazy = append(lazy, j)
			}
		}
		few := min(max(lazyDegree, len(lazy)/lazyQuarter), len(lazy))
		for at := range few {
			swap := at + g.net.random.IntN(len(lazy)-at)
			lazy[at], lazy[swap] = lazy[swap], lazy[at]
			j := lazy[at]
			g.net.push(i, j, controlAround+idLength*len(offer), control, func() { g.wanted(j, i, offer) })
		}
	}
	left := g.recent[i][:0]
	for _, r := range g.recent[i] {
		if r.turns--; r.turns > 0 {
			left = append(left, r)
		}
	}
	g.recent[i] = left
	if g.beating[i] = len(left) > 0; g.beating[i] {
		g.net.clock.after(heartbeat, func() { g.beat(i) })
	}
}

// wanted asks for what an offer has and j has not.
func (g *gossipsub) wanted(j, from int, offer []*message) {
	if g.silent(j) {
		return
	}
	var want []*message
	for _, m := range offer {
		if m.seen[j] == never {
			want = append(want, m)
		}
	}
	if len(want) == 0 {
		return
	}
	g.net.push(j, from, controlAround+idLength*len(want), control, func() {
		for _, m := range want {
			g.net.push(from, j, m.size, m.traffic(), func() { g.receive(j, from, m) })
		}
	})
}

func sortedInts[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
