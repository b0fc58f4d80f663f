package mesh

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/multiformats/go-multiaddr"
)

// denialStage is where somebody was turned away; a metric's label.
type denialStage string

const (
	stageAccept  denialStage = "accept"  // before the handshake
	stageSecured denialStage = "secured" // after it
	stageDial    denialStage = "dial"
	stageStream  denialStage = "stream"
)

// gater decides who is connected. Before the handshake it knows only an address
// and bounds how often one may try; after it, the peer's key, which must be a
// member's that is not excluded. It never touches a live connection: see
// peering.enforce.
//
// libp2p asks it from both swarm and upgrader: dialling, PeerDial, AddrDial,
// Secured, Upgraded; dialled, Accept, Secured, Upgraded.
type gater struct {
	member func(peer.ID) (Member, bool) // not excluded
	denied func(stage denialStage, reason string)

	strangers *allowance[netip.Addr] // handshakes of one address
	members   *allowance[netip.Addr]
	all       *allowance[struct{}] // handshakes of all strange addresses
	opening   *gauge[netip.Addr]   // half open

	mu        sync.Mutex
	met       map[netip.Addr]time.Time // where members were met, and when
	fleet     int                      // operators of active members; 0: not known yet
	operators map[string]int           // inbound connections
	inbound   map[string]string        // id of an inbound connection: its operator
	targets   map[peer.ID][]multiaddr.Multiaddr
}

func newGater(member func(peer.ID) (Member, bool), denied func(denialStage, string)) *gater {
	return &gater{
		member: member, denied: denied,
		strangers: newAllowance[netip.Addr](handshakesPerIP, handshakesPerIPBurst, maxTrackedIPs),
		members:   newAllowance[netip.Addr](handshakesPerMemberIP, handshakesMemberBurst, maxTrackedIPs),
		all:       newAllowance[struct{}](handshakesStrange, handshakesStrangeBurst, 1),
		opening:   newGauge[netip.Addr](maxHalfOpen, maxHalfOpenPerIP),
		met:       map[netip.Addr]time.Time{},
		operators: map[string]int{},
		inbound:   map[string]string{},
		targets:   map[peer.ID][]multiaddr.Multiaddr{},
	}
}

// noRateLimit lets everything through.
func noRateLimit() *rate.Limiter { return &rate.Limiter{} }

// knows says whether a member was met at ip lately.
func (g *gater) knows(ip netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.met[ip]
	return ok && now.Sub(at) < memberIPKeptFor
}

// meet remembers that a member is at ip.
func (g *gater) meet(ip netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.met[ip]; !ok && len(g.met) >= maxTrackedIPs {
		for old := range g.met {
			delete(g.met, old) // any: it costs its members a stricter rate
			break
		}
	}
	g.met[ip] = now
}

// aim allows dials of p at these addresses and no others, until the returned
// function is called.
func (g *gater) aim(p peer.ID, addresses []multiaddr.Multiaddr) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.targets[p] = addresses
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.targets, p)
	}
}

// InterceptPeerDial allows members.
func (g *gater) InterceptPeerDial(p peer.ID) bool {
	if _, ok := g.member(p); !ok {
		g.denied(stageDial, "standing")
		return false
	}
	return true
}

// InterceptAddrDial allows the addresses that the dial was made for: what a peer
// says of itself in passing is not dialled.
func (g *gater) InterceptAddrDial(p peer.ID, address multiaddr.Multiaddr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, target := range g.targets[p] {
		if target.Equal(address) {
			return true
		}
	}
	return false
}

// InterceptAccept bounds how often an address may begin a handshake. Strange
// addresses share a total, so that many of them don't take the processor; those
// where members were met don't share it, so that strangers don't lock members out.
func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	now, ip := time.Now(), ipOf(c.RemoteMultiaddr())
	known := g.knows(ip, now)
	allowed := known && g.members.allow(ip, now) || !known && g.strangers.allow(ip, now) && g.all.allow(struct{}{}, now)
	if !allowed {
		g.denied(stageAccept, "rate")
	}
	return allowed
}

// enterHalfOpen keeps a quarter for addresses where members were met.
func (g *gater) enterHalfOpen(ip netip.Addr) bool {
	total := maxHalfOpen
	if !g.knows(ip, time.Now()) {
		total -= maxHalfOpen / 4
	}
	return g.opening.enterBelow(ip, total)
}

func (g *gater) leaveHalfOpen(ip netip.Addr) { g.opening.leave(ip) }

// InterceptSecured sees the peer's key for the first time.
func (g *gater) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	if _, ok := g.member(p); !ok {
		g.denied(stageSecured, "standing")
		return false
	}
	g.meet(ipOf(c.RemoteMultiaddr()), time.Now())
	return true
}

// InterceptUpgraded bounds what one operator takes of the places for others.
func (g *gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	member, ok := g.member(c.RemotePeer())
	if !ok {
		g.denied(stageSecured, "standing")
		return false, 0
	}
	if c.Stat().Direction != network.DirInbound {
		return true, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.room(member.Operator) {
		g.denied(stageSecured, "operator")
		return false, 0
	}
	return true, 0
}

// room says whether an operator may have one more inbound connection. Once many
// are taken, those that hold several get no more: a few operators with many nodes
// must not keep the others out of a node that knows nobody else. Of a fleet of few
// operators each gets its equal part of the places beyond those. g.mu is held.
func (g *gater) room(operator string) bool {
	most := maxPerOperator
	if g.fleet > 0 {
		most = max(most, (maxInbound-crowdedInbound)/g.fleet)
	}
	return len(g.inbound) < crowdedInbound || g.operators[operator] < most
}

// counts takes how many operators have active members.
func (g *gater) counts(operators int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fleet = operators
}

// connected and disconnected count inbound connections by operator.
func (g *gater) connected(c network.Conn, operator string) {
	if c.Stat().Direction != network.DirInbound {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inbound[c.ID()] = operator
	g.operators[operator]++
}

func (g *gater) disconnected(c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	operator, ok := g.inbound[c.ID()]
	if !ok {
		return
	}
	delete(g.inbound, c.ID())
	if g.operators[operator]--; g.operators[operator] == 0 {
		delete(g.operators, operator)
	}
}
