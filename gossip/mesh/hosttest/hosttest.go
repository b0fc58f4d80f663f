// Package hosttest makes a libp2p host with a node's legitimate peer key and
// nothing of gossip/mesh: no gater, no limits, no judge. Attacks and
// measurements of tests stand on it. Like the mesh it speaks TCP, TLS 1.3 and
// yamux, and dials only when told to.
package hosttest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Gossip is the protocol of GossipSub that the mesh speaks.
const Gossip = protocol.ID("/meshsub/1.2.0")

// dialTimeout bounds a dial and its handshakes.
const dialTimeout = 5 * time.Second

// Host is such a host.
type Host struct {
	*blankhost.BlankHost
	Swarm *swarm.Swarm

	store     peerstore.Peerstore
	transport *tcp.TcpTransport
	identify  identify.IDService
}

// Option is of how a host dials.
type Option = tcp.Option

// From has a host's connections begin at an address of its own.
func From(ip string) Option {
	return tcp.WithDialerForAddr(func(multiaddr.Multiaddr) (tcp.ContextDialer, error) {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}, nil
	})
}

// New makes a host that neither listens nor tells anybody what it speaks.
func New(key ed25519.PrivateKey, options ...Option) (*Host, error) {
	private, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.AddPrivKey(id, private), store.AddPubKey(id, private.GetPublic())); err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	s, err := swarm.NewSwarm(id, store, bus, swarm.WithUDPBlackHoleSuccessCounter(nil), swarm.WithIPv6BlackHoleSuccessCounter(nil))
	if err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := tls.New(tls.ID, private, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, &network.NullResourceManager{}, nil)
	if err != nil {
		return nil, err
	}
	dialer, err := tcp.NewTCPTransport(up, &network.NullResourceManager{}, nil, append(options, tcp.DisableReuseport())...)
	if err != nil {
		return nil, err
	}
	if err := s.AddTransport(dialer); err != nil {
		return nil, err
	}
	return &Host{BlankHost: blankhost.NewBlankHost(s, blankhost.WithEventBus(bus)), Swarm: s, store: store, transport: dialer}, nil
}

// Identify has the host tell its peers from now on what it speaks: after the
// handlers are set, before it listens.
func (h *Host) Identify() (err error) {
	h.identify, err = identify.NewIDService(h, identify.DisableSignedPeerRecord())
	if err == nil {
		h.identify.Start()
	}
	return err
}

// Listen opens the listener at host:port.
func (h *Host) Listen(address string) error {
	a, err := multiaddrOf(address)
	if err != nil {
		return err
	}
	return h.Swarm.Listen(a)
}

// Meet connects to whoever has a peer key and listens at host:port.
func (h *Host) Meet(ctx context.Context, key ed25519.PublicKey, address string) (peer.ID, error) {
	public, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", err
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return "", err
	}
	a, err := multiaddrOf(address)
	if err != nil {
		return "", err
	}
	h.store.AddAddr(id, a, peerstore.PermanentAddrTTL)
	h.Swarm.Backoff().Clear(id)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := h.Swarm.DialPeer(ctx, id); err != nil {
		return "", fmt.Errorf("meet %s: %w", address, err)
	}
	return id, nil
}

// Held is a connection that is only held.
type Held struct{ conn transport.CapableConn }

// Open says whether the other side still holds it too.
func (h *Held) Open() bool { return !h.conn.IsClosed() }

// Close ends it.
func (h *Held) Close() { _ = h.conn.Close() }

// Hold makes one more connection to a peer than the swarm would: it completes the
// handshakes, opens no stream and refuses those that the peer opens.
func (h *Host) Hold(ctx context.Context, id peer.ID, address string) (*Held, error) {
	a, err := multiaddrOf(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := h.transport.Dial(ctx, a, id)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			s, err := c.AcceptStream()
			if err != nil {
				_ = c.Close()
				return
			}
			_ = s.Reset()
		}
	}()
	return &Held{c}, nil
}

// Connected says whether there is a connection to a peer.
func (h *Host) Connected(id peer.ID) bool {
	return h.Swarm.Connectedness(id) == network.Connected
}

// Close ends it, and waits.
func (h *Host) Close() error {
	var errs []error
	if h.identify != nil {
		errs = append(errs, h.identify.Close())
	}
	return errors.Join(append(errs, h.BlankHost.Close(), h.store.Close())...)
}

func multiaddrOf(address string) (multiaddr.Multiaddr, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	return manet.FromNetAddr(at)
}
