package model

import (
	"math"
	"math/rand/v2"
	"time"
)

// The network: everybody has a place on a square, and a frame takes as long as
// the way is, plus some jitter, plus its turn at the sender's uplink.
const (
	nearest     = 2 * time.Millisecond  // one way, at no distance
	across      = 70 * time.Millisecond // one way, along a side of the square
	jitter      = 2 * time.Millisecond  // on average, exponential
	agentUplink = 12_500_000            // bytes a second: 100 Mbit/s
	coreUplink  = 125_000_000           // of a replica: 1 Gbit/s
	firstResend = 200 * time.Millisecond
	lastResend  = 5 * time.Second
)

// traffic is what a frame is part of.
type traffic int

const (
	probes     traffic = iota // probes and acks
	statements                // gossip of statements
	heads                     // gossip of heads
	control                   // GossipSub's own frames
	following                 // entries and heads from replicas and peers
	submitting
	refreshing // heads that are signed anew, from replicas and by gossip
	kinds
)

// network carries frames between agents 0 to agents-1 and the replicas after
// them.
type network struct {
	clock  *clock
	random *rand.Rand
	loss   float64
	agents int

	places [][2]float64
	free   []time.Duration // when an uplink is next idle

	sent, received [][kinds]uint64 // bytes on the wire
	lost           int             // gossip frames
}

func newNetwork(c *clock, random *rand.Rand, agents, replicas int, loss float64) *network {
	all := agents + replicas
	n := &network{
		clock: c, random: random, loss: loss, agents: agents, places: make([][2]float64, all), free: make([]time.Duration, all),
		sent: make([][kinds]uint64, all), received: make([][kinds]uint64, all),
	}
	for i := range n.places {
		n.places[i] = [2]float64{random.Float64(), random.Float64()}
	}
	return n
}

// way is how long the way takes without jitter.
func (n *network) way(from, to int) time.Duration {
	a, b := n.places[from], n.places[to]
	return nearest + time.Duration(float64(across)*math.Hypot(a[0]-b[0], a[1]-b[1]))
}

// wire is what bytes of a libp2p or TLS stream are on the wire: yamux 12, TLS 22,
// and for each segment of 1,448 bytes Ethernet, IP, TCP and its timestamp 66.
func wire(bytes int) uint64 {
	return uint64(bytes + 12 + 22 + 66*((bytes+34+1_447)/1_448))
}

// leave takes the sender's uplink and gives when the frame is out.
func (n *network) leave(from, bytes int, kind traffic) time.Duration {
	rate := agentUplink
	if from >= n.agents {
		rate = coreUplink
	}
	size := wire(bytes)
	n.sent[from][kind] += size
	n.free[from] = max(n.free[from], n.clock.now) + time.Duration(size)*time.Second/time.Duration(rate)
	return n.free[from]
}

func (n *network) arrive(at time.Duration, to, bytes int, kind traffic, deliver func()) {
	n.clock.at(at, func() {
		n.received[to][kind] += wire(bytes)
		deliver()
	})
}

func (n *network) travel(from, to int) time.Duration {
	return n.way(from, to) + time.Duration(n.random.ExpFloat64()*float64(jitter))
}

// push sends a frame of gossip, which is lost for good if it is lost: as by a
// full queue, which is worse than what TCP does to a packet.
func (n *network) push(from, to, bytes int, kind traffic, deliver func()) {
	at := n.leave(from, bytes, kind) + n.travel(from, to)
	if n.loss > 0 && n.random.Float64() < n.loss {
		n.lost++
		return
	}
	n.arrive(at, to, bytes, kind, deliver)
}

// carry sends a frame of a request or an answer, or of a stream that a replica
// writes: what is lost is sent again, as TCP does.
func (n *network) carry(from, to, bytes int, kind traffic, deliver func()) {
	at := n.leave(from, bytes, kind) + n.travel(from, to)
	for wait := firstResend; n.loss > 0 && n.random.Float64() < n.loss; wait = min(2*wait, lastResend) {
		at += wait
		n.sent[from][kind] += wire(bytes)
	}
	n.arrive(at, to, bytes, kind, deliver)
}
