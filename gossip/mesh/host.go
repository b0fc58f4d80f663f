package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multistream"
)

var (
	errHost     = errors.New("the host could not be made")
	errStanding = errors.New("the peer's standing does not allow it")
)

// host is libp2p without what a closed fleet does not need: no relays, no NAT
// traversal, no DHT, no address discovery. BlankHost negotiates protocols without
// a deadline, in both directions; host gives it one, and a say in which streams
// a peer may open.
type host struct {
	*blankhost.BlankHost
	swarm    *swarm.Swarm
	identify identify.IDService
	closers  []io.Closer // after the swarm, in order

	admit  func(peer.ID) bool                     // may open one more stream now
	permit func(peer.ID, protocol.ID) bool        // may use this protocol
	opened func(peer.ID, protocol.ID, Direction)  // nil unless observed
	denied func(stage denialStage, reason string) // counts
}

// newHost makes a host that does not listen yet.
func newHost(key ed25519.PrivateKey, gate *gater) (*host, error) {
	private, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("derive peer id: %w", err)
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("make peer store: %w", err)
	}
	h := &host{closers: []io.Closer{store}}
	if err := store.AddPrivKey(id, private); err != nil {
		return nil, h.fail("keep identity", err)
	}
	if err := store.AddPubKey(id, private.GetPublic()); err != nil {
		return nil, h.fail("keep identity", err)
	}
	resources, err := newResources(gate)
	if err != nil {
		return nil, h.fail("make resource limits", err)
	}
	h.closers = append(h.closers, resources)
	bus := eventbus.NewBus()
	h.swarm, err = swarm.NewSwarm(id, store, bus,
		swarm.WithConnectionGater(gate), swarm.WithResourceManager(resources),
		swarm.WithDialTimeout(dialTimeout), swarm.WithDialTimeoutLocal(dialTimeout),
		// Black holes are guessed from failures of strangers' addresses; ours are few and known.
		swarm.WithUDPBlackHoleSuccessCounter(nil), swarm.WithIPv6BlackHoleSuccessCounter(nil))
	if err != nil {
		return nil, h.fail("make swarm", err)
	}
	if err := h.addTransport(private, resources, gate); err != nil {
		return nil, h.fail("make transport", err)
	}
	h.BlankHost = blankhost.NewBlankHost(h.swarm, blankhost.WithEventBus(bus))
	if h.BlankHost == nil {
		return nil, h.fail("make host", errHost)
	}
	h.swarm.SetStreamHandler(h.accept)
	h.identify, err = identify.NewIDService(h, identify.UserAgent("quorate"), identify.ProtocolVersion("quorate/1"),
		identify.DisableSignedPeerRecord(), identify.WithTimeout(identifyTimeout))
	if err != nil {
		return nil, h.fail("make identify service", err)
	}
	return h, nil
}

// addTransport gives the swarm its one way to others: TCP, TLS 1.3, yamux.
func (h *host) addTransport(key crypto.PrivKey, resources network.ResourceManager, gate *gater) error {
	config := *yamux.DefaultTransport
	config.MaxStreamWindowSize = maxStreamWindow
	config.MaxIncomingStreams = maxStreamsPerPeer
	config.KeepAliveInterval, config.MeasureRTTInterval = keepAliveEvery, measureEvery
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: &config}}
	security, err := tls.New(tls.ID, key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, resources, gate, upgrader.WithAcceptTimeout(acceptTimeout))
	if err != nil {
		return err
	}
	// Without SO_REUSEPORT: nobody else of this machine takes half of our callers.
	transport, err := tcp.NewTCPTransport(up, resources, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(dialTimeout))
	if err != nil {
		return err
	}
	return h.swarm.AddTransport(transport)
}

// fail closes what there is of h and wraps err.
func (h *host) fail(doing string, err error) error {
	h.close()
	return fmt.Errorf("%s: %w", doing, err)
}

func (h *host) close() {
	if h.identify != nil {
		_ = h.identify.Close()
	}
	if h.swarm != nil {
		_ = h.swarm.Close()
	}
	for i := len(h.closers) - 1; i >= 0; i-- {
		_ = h.closers[i].Close()
	}
}

// accept negotiates the protocol of a stream that a peer opened, within a
// deadline, and hands the stream to its handler.
func (h *host) accept(s network.Stream) {
	from := s.Conn().RemotePeer()
	if !h.admit(from) {
		h.denied(stageStream, "rate")
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Now().Add(negotiateTimeout))
	id, handle, err := h.Mux().Negotiate(&negotiation{Stream: s})
	if err != nil {
		h.denied(stageStream, "negotiation")
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Time{})
	if !h.permit(from, id) {
		h.denied(stageStream, "standing")
		_ = s.Reset()
		return
	}
	if err := s.SetProtocol(id); err != nil {
		h.denied(stageStream, "resources")
		_ = s.Reset()
		return
	}
	if h.opened != nil {
		h.opened(from, id, Received)
	}
	_ = handle(id, s)
}

// negotiation is a stream while its protocol is agreed on. The greeting of
// multistream-select, which says nothing yet, goes out with what follows it: a packet
// less, and one waking less of both sides.
type negotiation struct {
	network.Stream
	greeting []byte
	greeted  bool
}

func (n *negotiation) Write(b []byte) (int, error) {
	if !n.greeted {
		n.greeting, n.greeted = append([]byte(nil), b...), true
		return len(b), nil
	}
	if _, err := n.Stream.Write(append(n.greeting, b...)); err != nil {
		return 0, err
	}
	n.greeting = nil
	return len(b), nil
}

// greet is what multistream-select has a caller say who wants one protocol: its own
// name and that one, each as its length with a line feed, below 128, and its text.
func greet(id protocol.ID) []byte {
	var b []byte
	for _, token := range []string{multistreamName, string(id)} {
		b = append(append(append(b, byte(len(token)+1)), token...), '\n')
	}
	return b
}

// readGreeting reads the answer to greet.
func readGreeting(r io.Reader, id protocol.ID) error {
	for _, want := range []string{multistreamName, string(id)} {
		token, err := multistream.ReadNextToken[string](r)
		switch {
		case err != nil:
			return fmt.Errorf("negotiate protocol: %w", err)
		case token != want:
			return fmt.Errorf("negotiate protocol: %q is answered by %q", want, token)
		}
	}
	return nil
}

const multistreamName = "/multistream/1.0.0"

// open opens a stream to a connected peer, as newStream does, for a request that
// begins with greet.
func (h *host) open(ctx context.Context, to peer.ID, id protocol.ID) (network.Stream, error) {
	s, err := h.newStream(ctx, to, id)
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(id); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	if h.opened != nil {
		h.opened(to, id, Sent)
	}
	return s, nil
}

// newStream opens a stream to a connected peer. It never dials: whom to dial, and
// where, is decided in one place.
func (h *host) newStream(ctx context.Context, to peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	for _, id := range protocols {
		if !h.permit(to, id) {
			return nil, fmt.Errorf("open stream: %w", errStanding)
		}
	}
	s, err := h.swarm.NewStream(network.WithNoDial(ctx, "mesh"), to)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

// NewStream is newStream, and agrees on one of the protocols.
func (h *host) NewStream(ctx context.Context, to peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	s, err := h.newStream(ctx, to, protocols...)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(negotiateTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = s.SetDeadline(deadline)
	selected, err := multistream.SelectOneOf(protocols, s)
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("negotiate protocol: %w", err)
	}
	_ = s.SetDeadline(time.Time{})
	if err := s.SetProtocol(selected); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("negotiate protocol: %w", err)
	}
	if h.opened != nil {
		h.opened(to, selected, Sent)
	}
	return s, nil
}

// ed25519ID begins the peer id of every Ed25519 key: an identity hash of 36 bytes,
// which are the key's kind and its 32 bytes in protobuf.
const ed25519ID = "\x00\x24\x08\x01\x12\x20"

// keyOf is the Ed25519 key inside a peer id. It is asked for every peer at every
// heartbeat, so the id is not unpacked by libp2p.
func keyOf(id peer.ID) (ed25519.PublicKey, bool) {
	key, ok := strings.CutPrefix(string(id), ed25519ID)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, false
	}
	return ed25519.PublicKey(key), true
}

func idOf(key ed25519.PublicKey) (peer.ID, error) {
	public, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", fmt.Errorf("read peer key: %w", err)
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("derive peer id: %w", err)
	}
	return id, nil
}
