package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

var errHints = errors.New("the addresses make no sense")

// link is a member that is connected.
type link struct {
	member  Member // as it was when it connected: a change of standing ends the connection
	since   time.Time
	conns   int
	outward bool // we dialled it
	told    bool // the peer said what it subscribes to
	whole   bool // gossip went both ways once
}

// notifee keeps links as connections come and go.
func (m *Mesh) notifee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			member, ok := m.admitted(c.RemotePeer())
			m.gate.connected(c, member.Operator)
			m.mu.Lock()
			l := m.links[c.RemotePeer()]
			if l == nil {
				l = &link{member: member, since: time.Now()}
				m.links[c.RemotePeer()] = l
			}
			l.conns++
			l.outward = l.outward || c.Stat().Direction == network.DirOutbound
			m.mu.Unlock()
			if !ok {
				m.Refresh() // excluded while it connected
			}
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			m.gate.disconnected(c)
			m.mu.Lock()
			if l := m.links[c.RemotePeer()]; l != nil {
				if l.conns--; l.conns <= 0 {
					delete(m.links, c.RemotePeer())
				}
			}
			m.mu.Unlock()
			m.stir()
		},
	}
}

// stir wakes the peering loop.
func (m *Mesh) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// keepPeering holds the connections that this node wants, until ctx ends.
func (m *Mesh) keepPeering(ctx context.Context, h *host) {
	ticker := time.NewTicker(peeringTick)
	defer ticker.Stop()
	nextExchange := time.Now().Add(exchangeEvery/2 + rand.N(exchangeEvery))
	nextLook := time.Now().Add(rejoinEvery)
	for {
		if m.changed.Swap(false) {
			m.enforce(h)
		}
		m.choose(ctx, h)
		m.trim(h)
		if now := time.Now(); now.After(nextLook) {
			nextLook = now.Add(rejoinEvery)
			m.rejoin(ctx, h, now)
		}
		if now := time.Now(); now.After(nextExchange) {
			nextExchange = now.Add(exchangeEvery/2 + rand.N(exchangeEvery))
			m.exchangeWithAny(ctx, h)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-ticker.C:
		}
	}
}

// enforce closes the connections that the ledger no longer allows, and those
// whose standing changed: GossipSub looks at a peer when it connects.
func (m *Mesh) enforce(h *host) {
	m.book.keep(func(key ed25519.PublicKey) bool { _, ok := m.config.Directory.Peer(key); return ok })
	others, operators := 0, map[string]bool{}
	m.config.Directory.Members(func(member Member) bool {
		if member.Standing == Active && !m.isSelf(&member) {
			others++
			operators[member.Operator] = true
		}
		if len(member.Also) > 0 {
			m.book.inherit(&member)
		}
		for _, address := range member.Addresses[:min(len(member.Addresses), maxConfiguredAddress)] {
			if at, err := netip.ParseAddrPort(address); err == nil && member.Standing != Excluded {
				m.gate.meet(at.Addr().Unmap(), time.Now())
			}
		}
		return true
	})
	m.gate.counts(len(operators))
	m.mu.Lock()
	m.others = others
	var cut []peer.ID
	standings := map[string]int{Active: 0, Quarantined: 0}
	for id, l := range m.links {
		now, ok := m.admitted(id)
		if !ok || now.Standing != l.member.Standing {
			cut = append(cut, id)
			continue
		}
		l.member = now
		standings[now.Standing]++
	}
	m.mu.Unlock()
	for standing, n := range standings {
		m.metrics.peers.WithLabelValues(standing).Set(float64(n))
	}
	for _, id := range cut {
		m.log.Info("peer is cut off", "peer", id.String())
		_ = h.swarm.ClosePeer(id)
	}
}

// candidate is a member that could be dialled now.
type candidate struct {
	member Member
	id     peer.ID
	rank   [8]byte
}

// choose dials members until enough are connected: all of a small fleet, of a
// large one some of each operator, picked by a secret of this process so that
// nobody can stand where we will look. However many dialled us, ownChoice are of
// our choosing: those who would surround a node can call, but not be called.
func (m *Mesh) choose(ctx context.Context, h *host) {
	m.mu.Lock()
	connected, outward, operators := tally(m.links)
	busy, others := len(m.dialing), m.others
	m.mu.Unlock()
	if connected >= targetPeers && outward >= ownChoice || connected >= others {
		return
	}
	if room := min(dialsPerTick, maxDialsAtOnce-busy); room > 0 {
		for _, c := range pick(m.candidates(), operators, room) {
			m.dialInBackground(ctx, h, c.id, c.member)
		}
	}
}

// tally counts the active members that are connected, those that we dialled, and what
// each operator has of them. One that changes its peer key has two links, and is one.
func tally(links map[peer.ID]*link) (connected, outward int, operators map[string]int) {
	dialled := map[string]bool{} // by name: whether we dialled it
	operators = map[string]int{}
	for _, l := range links {
		if l.member.Standing != Active {
			continue
		}
		ours, counted := dialled[l.member.Name]
		dialled[l.member.Name] = ours || l.outward
		if !counted {
			operators[l.member.Operator]++
		}
	}
	for _, ours := range dialled {
		if ours {
			outward++
		}
	}
	return len(dialled), outward, operators
}

// candidates are the active members that are not connected and whose turn it is.
func (m *Mesh) candidates() []candidate {
	now := time.Now()
	var list []candidate
	m.config.Directory.Members(func(member Member) bool {
		if member.Standing != Active || m.isSelf(&member) {
			return true
		}
		rank, may := m.book.turn(member, now)
		if !may {
			return true
		}
		_, linked := m.linkedAs(&member)
		if id, err := idOf(member.Peer); err == nil && !linked {
			list = append(list, candidate{member, id, rank})
		}
		return true
	})
	return list
}

// pick takes n, one after the other of the operator that has least by then; among
// its members and among equals, the lowest rank. has is what operators have.
func pick(candidates []candidate, has map[string]int, n int) []candidate {
	slices.SortFunc(candidates, func(a, b candidate) int { return bytes.Compare(a.rank[:], b.rank[:]) })
	var picked []candidate
	for len(picked) < n && len(candidates) > 0 {
		least := 0
		for i, c := range candidates {
			if has[c.member.Operator] < has[candidates[least].member.Operator] {
				least = i
			}
		}
		c := candidates[least]
		candidates = slices.Delete(candidates, least, least+1)
		has[c.member.Operator]++
		picked = append(picked, c)
	}
	return picked
}

func (m *Mesh) isLinked(id peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[id] != nil
}

// dial is one attempt to connect; all who want that peer wait for it.
type dial struct {
	done    chan struct{}
	reached peer.ID // once done, unless err
	err     error   // once done
}

// dialInBackground begins to connect, unless somebody has.
func (m *Mesh) dialInBackground(ctx context.Context, h *host, id peer.ID, member Member) *dial {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.dialing[id]; d != nil {
		return d
	}
	d := &dial{done: make(chan struct{})}
	if m.ended {
		d.err = ErrNotRunning
		close(d.done)
		return d
	}
	m.dialing[id] = d
	m.background.Go(func() {
		d.reached, d.err = m.dialMember(ctx, h, member)
		m.mu.Lock()
		delete(m.dialing, id)
		m.mu.Unlock()
		close(d.done)
		if d.err == nil {
			m.exchange(ctx, h, d.reached)
		}
		m.stir()
	})
	return d
}

// dial connects to member within the bounds of time.
func (m *Mesh) dial(ctx context.Context, h *host, id peer.ID, member Member) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	targets := resolve(ctx, m.book.addresses(member))
	if len(targets) == 0 {
		m.book.missed(member.Peer, time.Now())
		m.metrics.dials.WithLabelValues("no-address").Inc()
		return ErrNoAddress
	}
	defer m.gate.aim(id, targets)()
	h.Peerstore().ClearAddrs(id)
	h.Peerstore().AddAddrs(id, targets, peerstore.TempAddrTTL)
	h.swarm.Backoff().Clear(id) // the book has its own
	c, err := h.swarm.DialPeer(ctx, id)
	if err != nil {
		m.book.missed(member.Peer, time.Now())
		m.metrics.dials.WithLabelValues("failed").Inc()
		return err
	}
	m.metrics.dials.WithLabelValues("connected").Inc()
	address := ""
	if c.Stat().Direction == network.DirOutbound {
		address = hostPort(c.RemoteMultiaddr())
	}
	m.book.reached(member.Peer, address)
	return nil
}

// connect is for requests: it waits for a connection to member, and gives its peer id.
func (m *Mesh) connect(ctx context.Context, r *running, member Member) (peer.ID, error) {
	for _, key := range member.keys() {
		if id, err := idOf(key); err == nil && r.host.swarm.Connectedness(id) == network.Connected {
			return id, nil
		}
	}
	id, err := idOf(member.Peer)
	if err != nil {
		return "", err
	}
	d := m.dialInBackground(r.ctx, r.host, id, member)
	select {
	case <-d.done:
		return d.reached, d.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// trim closes connections that nobody chose when there are too many, oldest
// probes and inbound ones alike, at random.
func (m *Mesh) trim(h *host) {
	m.mu.Lock()
	var spare []peer.ID
	over := len(m.links) - trimAbove
	if over > 0 {
		for id, l := range m.links {
			if time.Since(l.since) > settleTime && !l.outward {
				spare = append(spare, id)
			}
		}
	}
	m.mu.Unlock()
	for _, id := range spare[:max(0, min(over, len(spare)))] {
		_ = h.swarm.ClosePeer(id)
	}
}

// exchange tells a peer where this node listens and asks where others do.
func (m *Mesh) exchange(ctx context.Context, h *host, with peer.ID) {
	request, err := m.ownHints().encode()
	if err != nil {
		return
	}
	response, err := m.ask(ctx, h, m.exchanges, with, request)
	if err != nil {
		return
	}
	if conns := h.swarm.ConnsToPeer(with); len(conns) > 0 {
		_ = m.learn(with, ipOf(conns[0].RemoteMultiaddr()), response)
	}
}

// exchangeWithAny asks one connected peer, so that news of addresses gets about.
func (m *Mesh) exchangeWithAny(ctx context.Context, h *host) {
	m.mu.Lock()
	var any peer.ID
	for id := range m.links { // in random order
		any = id
		break
	}
	m.mu.Unlock()
	if any != "" {
		m.background.Go(func() { m.exchange(ctx, h, any) })
	}
}

// answerExchange is the other side of exchange.
func (m *Mesh) answerExchange(_ Member, s network.Stream, request []byte) ([]byte, error) {
	if err := m.learn(s.Conn().RemotePeer(), ipOf(s.Conn().RemoteMultiaddr()), request); err != nil {
		return nil, err
	}
	return m.ownHints().encode()
}

func (m *Mesh) ownHints() *hints {
	return &hints{
		Addresses: m.announcement(),
		Members: m.book.share(func(key ed25519.PublicKey) bool {
			member, ok := m.config.Directory.Peer(key)
			return ok && member.Standing != Excluded
		}),
	}
}

// learn takes a peer's hints into the book: about itself, and about members.
func (m *Mesh) learn(from peer.ID, at netip.Addr, frame []byte) error {
	h, err := parseHints(frame)
	if err != nil {
		return err
	}
	if key, ok := keyOf(from); ok {
		m.book.announced(key, usable(h.Addresses, at))
	}
	for _, told := range h.Members {
		member, ok := m.config.Directory.Peer(told.Peer)
		if !ok || member.Standing == Excluded || bytes.Equal(told.Peer, m.self) {
			continue
		}
		for _, address := range told.Addresses {
			if strings.HasPrefix(address, ":") { // only a peer's own may lack the host
				return errHints
			}
		}
		m.book.told(told.Peer, usable(told.Addresses, at))
	}
	m.stir()
	return nil
}

// announcement is where others are told to dial this node.
func (m *Mesh) announcement() []string {
	if len(m.config.Announce) > 0 {
		return m.config.Announce[:min(len(m.config.Announce), maxAnnouncedAddress)]
	}
	addresses := []string{}
	for _, address := range m.Listening() {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			continue
		}
		if at.Addr().IsUnspecified() {
			_, port, _ := net.SplitHostPort(address)
			address = ":" + port
		}
		if len(addresses) < maxAnnouncedAddress && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// hostPort is "" for what is no TCP address.
func hostPort(address multiaddr.Multiaddr) string {
	at, err := manet.ToNetAddr(address)
	if err != nil {
		return ""
	}
	return at.String()
}
