package mesh

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

var errHalfOpen = errors.New("too many connections that have not shown who they are")

// resources bounds connections, streams and memory by libp2p's own accounts, and
// counts by itself the connections whose peer is not known yet: an attacker
// without a key can hold nothing else.
type resources struct {
	network.ResourceManager
	gate *gater
}

func newResources(gate *gater) (*resources, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConnections, ConnsInbound: maxInbound, ConnsOutbound: maxOutbound, FD: maxConnections + maxHalfOpen,
			Streams: maxStreams, StreamsInbound: maxStreams / 2, StreamsOutbound: maxStreams / 2, Memory: maxStreamMemory,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: maxHalfOpen, ConnsInbound: maxHalfOpen, ConnsOutbound: maxHalfOpen, FD: maxHalfOpen,
			Streams: maxStreams / 4, StreamsInbound: maxStreams / 4, StreamsOutbound: maxStreams / 4, Memory: maxStreamMemory / 4,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxPerPeer, ConnsInbound: maxPerPeer, ConnsOutbound: maxPerPeer, FD: maxPerPeer,
			Streams: 2 * maxStreamsPerPeer, StreamsInbound: maxStreamsPerPeer, StreamsOutbound: maxStreamsPerPeer,
			Memory: maxStreamMemoryPeer,
		},
	}
	one := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxPerIP}}
	six := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: maxPerIP}}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(), rcmgr.WithLimitPerSubnet(one, six),
		// By default loopback is exempt; a local process is no friend either.
		rcmgr.WithNetworkPrefixLimit([]rcmgr.NetworkPrefixLimit{}, []rcmgr.NetworkPrefixLimit{}),
		rcmgr.WithConnRateLimiters(noRateLimit())) // the gater has its own, which knows members
	if err != nil {
		return nil, err
	}
	return &resources{manager, gate}, nil
}

// OpenConnection counts an inbound connection as half open until its peer is known.
func (r *resources) OpenConnection(dir network.Direction, usefd bool, endpoint multiaddr.Multiaddr) (network.ConnManagementScope, error) {
	if dir != network.DirInbound {
		return r.ResourceManager.OpenConnection(dir, usefd, endpoint)
	}
	ip := ipOf(endpoint)
	if !r.gate.enterHalfOpen(ip) {
		r.gate.denied(stageAccept, "half-open")
		return nil, errHalfOpen
	}
	scope, err := r.ResourceManager.OpenConnection(dir, usefd, endpoint)
	if err != nil {
		r.gate.leaveHalfOpen(ip)
		r.gate.denied(stageAccept, "resources")
		return nil, err
	}
	return &halfOpen{ConnManagementScope: scope, gate: r.gate, ip: ip}, nil
}

// halfOpen leaves the count once, when the peer is known or the connection ends.
type halfOpen struct {
	network.ConnManagementScope
	gate *gater
	ip   netip.Addr
	left sync.Once
}

func (h *halfOpen) leave() { h.left.Do(func() { h.gate.leaveHalfOpen(h.ip) }) }

// SetPeer is called after the handshake.
func (h *halfOpen) SetPeer(p peer.ID) error {
	if err := h.ConnManagementScope.SetPeer(p); err != nil {
		h.gate.denied(stageSecured, "resources")
		return err
	}
	h.leave()
	return nil
}

// Done is called at the connection's end, perhaps more than once.
func (h *halfOpen) Done() {
	h.leave()
	h.ConnManagementScope.Done()
}

// ipOf is the zero Addr for what has no IP address.
func ipOf(address multiaddr.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(address)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
