// Package mesh connects the nodes of one ledger: gossip among all of them, and
// direct requests between two. It is the only importer of libp2p. Who may
// connect, gossip and be asked is read from the certified ledger and from
// nowhere else; what a frame means is the Judge's business.
//
// Channels are TCP with TLS 1.3 and Ed25519 peer keys that the ledger binds to
// nodes. They authenticate the last hop only: every statement inside carries its
// author's own signature.
package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/ledger/keys"
)

// Topic is one of the three that a mesh gossips.
type Topic string

// The topics; on the wire /quorate/<ledger>/<topic>/1.
const (
	Statements Topic = "statements" // bound for the ledger
	Heads      Topic = "heads"      // certified heads
	Entries    Topic = "entries"    // with proof, for nodes that reach no replica
)

// Errors of Publish, Probe and Ask.
var (
	ErrNotRunning = errors.New("the mesh is not running")
	ErrNoMember   = errors.New("no member has this peer key, or it is excluded")
	ErrNoAddress  = errors.New("no address is known")
	ErrTooLarge   = errors.New("the frame is too large")
	ErrNoTopic    = errors.New("no such topic")
	ErrRefused    = errors.New("the peer refused to answer")
)

// Config is what a mesh is made of. Fields not marked optional are required.
type Config struct {
	Ledger   string             // genesis hash in hex; part of every topic's name
	Identity ed25519.PrivateKey // of the peer key that the ledger binds to this node
	Listen   []string           // host:port, numeric host; may be empty for a node that only dials
	// Announce, host:port, is what others are told to dial. Optional: without it
	// the ports of Listen, at the address that a peer sees.
	Announce  []string
	Directory Directory
	Judge     Judge
	Logger    *slog.Logger          // optional
	Metrics   prometheus.Registerer // optional
	// Observe is called with each frame that is sent or taken in, synchronously.
	// For tests; nil in every program.
	Observe func(Frame)
}

func (c *Config) validate() error {
	switch {
	case len(c.Ledger) == 0 || len(c.Ledger) > 64:
		return errors.New("ledger: want the genesis hash in hex")
	case len(c.Identity) != ed25519.PrivateKeySize:
		return errors.New("identity: want an Ed25519 private key")
	case c.Directory == nil || c.Judge == nil:
		return errors.New("a mesh needs a directory and a judge")
	}
	for _, address := range c.Listen {
		if _, err := listenMultiaddr(address); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	for _, address := range c.Announce {
		if !isAddress(address) {
			return fmt.Errorf("announce: %q is not host:port", address)
		}
	}
	return nil
}

// Mesh is a node's place among the others. Its methods may be called at any time
// by any goroutine.
type Mesh struct {
	config    Config
	log       *slog.Logger
	self      ed25519.PublicKey
	id        peer.ID
	metrics   *metrics
	gate      *gater
	book      *book
	channels  []*channel
	rpcs      *allowance[peer.ID] // frames of gossip
	rejects   *allowance[peer.ID] // invalid messages of a hop
	streams   *allowance[peer.ID] // streams that a peer opens
	authors   *allowance[keys.ID] // statements that were accepted
	lines     *allowance[line]    // statements that a hop brings of an author
	probes    *service
	shared    *service // probes that may ask several
	syncs     *service
	exchanges *service

	wake       chan struct{}
	changed    atomic.Bool // the directory, since it was enforced
	began      atomic.Bool
	ready      chan struct{} // closed when it listens
	live       atomic.Pointer[running]
	background sync.WaitGroup

	mu       sync.Mutex
	links    map[peer.ID]*link
	speaking map[peer.ID]struct{} // GossipSub has a stream to them
	muted    map[peer.ID]muted    // were connected anew of late
	others   int                  // active members but this node, as enforce saw them
	dialing  map[peer.ID]*dial
	ended    bool // nothing more begins in the background
}

// running is what there is while Run runs.
type running struct {
	ctx       context.Context // Run's
	host      *host
	listening []string
}

// New checks config. It starts nothing.
func New(config Config) (*Mesh, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure mesh: %w", err)
	}
	self := config.Identity.Public().(ed25519.PublicKey)
	id, err := idOf(self)
	if err != nil {
		return nil, fmt.Errorf("configure mesh: %w", err)
	}
	m := &Mesh{
		config: config, log: config.Logger, self: self, id: id,
		metrics:  newMetrics(config.Metrics),
		channels: channels(config.Ledger),
		rpcs:     newAllowance[peer.ID](rpcsPerHop, rpcsPerHopBurst, maxTrackedPeers),
		rejects:  newAllowance[peer.ID](rejectsPerHop, rejectsPerHopBurst, maxTrackedPeers),
		streams:  newAllowance[peer.ID](streamsPerPeer, streamsPerPeerBurst, maxTrackedPeers),
		authors:  newAllowance[keys.ID](statementsPerAuthor, statementsAuthorBurst, maxTrackedAuthors),
		lines:    newAllowance[line](statementsPerLine, statementsLineBurst, maxTrackedLines),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
		links:    map[peer.ID]*link{},
		speaking: map[peer.ID]struct{}{},
		muted:    map[peer.ID]muted{},
		dialing:  map[peer.ID]*dial{},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	m.book = newBook(secret)
	m.gate = newGater(m.admitted, m.metrics.denied)
	m.makeServices()
	return m, nil
}

// Run connects the node until ctx ends, and then returns nil; it returns an error
// when it cannot begin. It runs once.
func (m *Mesh) Run(ctx context.Context) error {
	if m.began.Swap(true) {
		return errors.New("a mesh runs once")
	}
	ctx, cancel := context.WithCancel(ctx)
	h, err := newHost(m.config.Identity, m.gate)
	if err != nil {
		cancel()
		return fmt.Errorf("run mesh: %w", err)
	}
	defer func() {
		m.live.Store(nil)
		cancel()
		m.mu.Lock()
		m.ended = true
		m.mu.Unlock()
		h.close()
		m.background.Wait()
	}()
	h.admit = func(p peer.ID) bool { return m.streams.allow(p, time.Now()) }
	h.permit = m.permit
	h.denied = m.metrics.denied
	if m.config.Observe != nil {
		h.opened = func(p peer.ID, id protocol.ID, way Direction) {
			key, _ := keyOf(p)
			m.config.Observe(Frame{Direction: way, Channel: string(id), Peer: key, Opened: true,
				Internal: !CarriesStatements(string(id))})
		}
	}
	h.swarm.Notify(m.notifee())
	for _, v := range []*service{m.probes, m.shared, m.syncs, m.exchanges} {
		h.SetStreamHandler(v.name, func(s network.Stream) { m.serve(v, s) })
	}
	if err := m.joinGossip(ctx, h); err != nil {
		return fmt.Errorf("run mesh: %w", err)
	}
	h.identify.Start() // it tells of the protocols that there are when it starts
	if err := m.listen(ctx, h); err != nil {
		return fmt.Errorf("run mesh: %w", err)
	}
	m.changed.Store(true)
	m.keepPeering(ctx, h)
	return nil
}

// listen comes last: whoever connects finds everything in its place.
func (m *Mesh) listen(ctx context.Context, h *host) error {
	at, err := h.listen(m.config.Listen)
	if err != nil {
		return err
	}
	r := &running{ctx: ctx, host: h, listening: at}
	m.live.Store(r)
	close(m.ready)
	return nil
}

// Ready is closed when the mesh listens.
func (m *Mesh) Ready() <-chan struct{} { return m.ready }

// Listening is where it listens, ip:port, once it is ready.
func (m *Mesh) Listening() []string {
	if r := m.live.Load(); r != nil {
		return slices.Clone(r.listening)
	}
	return nil
}

// Peers are the members that are connected now.
func (m *Mesh) Peers() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	peers := make([]Member, 0, len(m.links))
	for _, l := range m.links {
		peers = append(peers, l.member)
	}
	return peers
}

// Refresh says that the directory changed. It returns at once; peers that may no
// longer be connected are cut off by Run's loop. Frames are judged by the
// directory as it is, with or without Refresh.
func (m *Mesh) Refresh() {
	m.changed.Store(true)
	m.stir()
}

// Publish gossips data, a frame of at most the topic's size that this node
// judges good. It returns when the frame is queued for the peers that there are;
// none is no error. What was published in the last seenTTL is not sent again.
func (m *Mesh) Publish(ctx context.Context, topic Topic, data []byte) error {
	r := m.live.Load()
	if r == nil {
		return ErrNotRunning
	}
	for _, c := range m.channels {
		if c.topic != topic {
			continue
		}
		if len(data) == 0 || len(data) > c.size {
			return fmt.Errorf("publish to %s: %w", topic, ErrTooLarge)
		}
		if err := c.handle.Publish(ctx, data); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		return nil
	}
	return ErrNoTopic
}

// Probe sends a probe to a member, connecting to it if need be, and returns its
// ack: a signed envelope that is not yet judged.
func (m *Mesh) Probe(ctx context.Context, to ed25519.PublicKey, envelope []byte) ([]byte, error) {
	v := m.probes
	if m.SharesProbes(to) {
		v = m.shared
	}
	return m.request(ctx, v, to, envelope)
}

// SharesProbes reports whether a member said that it answers a probe that asks others
// beside it. Of one that is not connected nothing is known.
func (m *Mesh) SharesProbes(to ed25519.PublicKey) bool {
	r := m.live.Load()
	if r == nil {
		return false
	}
	id, err := idOf(to)
	if err != nil {
		return false
	}
	speaks, err := r.host.Peerstore().SupportsProtocols(id, ProtocolShared)
	return err == nil && len(speaks) > 0
}

// Ask sends a sync request to a member, connecting to it if need be, and returns
// its response, not yet judged.
func (m *Mesh) Ask(ctx context.Context, to ed25519.PublicKey, request []byte) ([]byte, error) {
	return m.request(ctx, m.syncs, to, request)
}

func (m *Mesh) request(ctx context.Context, v *service, to ed25519.PublicKey, request []byte) ([]byte, error) {
	r := m.live.Load()
	if r == nil {
		return nil, ErrNotRunning
	}
	id, err := idOf(to)
	if err != nil {
		return nil, err
	}
	member, ok := m.admitted(id)
	if !ok {
		return nil, ErrNoMember
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+v.timeout)
	defer cancel()
	id, err = m.connect(ctx, r, member)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", member.Name, err)
	}
	response, err := m.ask(ctx, r.host, v, id, request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member.Name, err)
	}
	return response, nil
}

// find is what the directory says of a peer.
func (m *Mesh) find(p peer.ID) (Member, bool) {
	key, ok := keyOf(p)
	if !ok {
		return Member{}, false
	}
	return m.config.Directory.Peer(key)
}

// admitted is a member that may be connected.
func (m *Mesh) admitted(p peer.ID) (Member, bool) {
	member, ok := m.find(p)
	return member, ok && (member.Standing == Active || member.Standing == Quarantined)
}

// permit says which protocols a peer's standing opens: a quarantined one may
// probe and be probed, and say which protocols it speaks.
func (m *Mesh) permit(p peer.ID, id protocol.ID) bool {
	member, ok := m.admitted(p)
	switch {
	case !ok:
		return false
	case member.Standing == Active:
		return true
	}
	return id != gossipProtocol && id != ProtocolSync && id != ProtocolPeers
}
