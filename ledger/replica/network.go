package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// The protocols of the one peer listener.
const (
	protocolRaft = "quorate-raft/1"
	protocolHTTP = "http/1.1"
)

// wire listens and dials for peers: TLS 1.3, both sides pinned.
type wire struct {
	network    Network
	own        atomic.Pointer[ownCertificates]
	unsure     func() bool // whether the ledger has gone on without us, as it may be
	turn       atomic.Uint64
	pins       *pins
	limits     Limits
	strangers  func() // counts refused handshakes
	generation func() uint64

	mu      sync.Mutex
	shaking []*pinnedConn            // handshakes under way, oldest first
	conns   map[*pinnedConn]struct{} // of pinned replicas
	dialed  map[*dialedConn]struct{} // Raft's, by us
}

// ownCertificates is one immutable version of what this replica shows.
type ownCertificates struct {
	use   *tls.Certificate
	maybe *tls.Certificate            // that peers may want by now instead; nil: none
	named map[string]*tls.Certificate // all that are its own, by the hint of their pins
}

// pinHint is how a dialer names, in the place of a host's name, the pin that it
// wants: a peer that has not applied a rotation yet knows the former one alone.
func pinHint(pin ledger.Hash) string { return pin.String()[:32] }

// shown gives the certificate for a connection that a peer dialed.
func (w *wire) shown(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	own := w.own.Load()
	if named := own.named[hello.ServerName]; named != nil {
		return named, nil
	}
	return own.use, nil
}

// chosen gives the certificate for a connection that we dial: the one in use, and
// while it can't be known whether peers want the next one already, either in turn.
func (w *wire) chosen() *tls.Certificate {
	own := w.own.Load()
	if own.maybe != nil && w.unsure() && w.turn.Add(1)%2 == 0 {
		return own.maybe
	}
	return own.use
}

func newWire(cfg *Config, p *pins, g *ring, strangers func()) *wire {
	w := &wire{network: cfg.Network, pins: p, unsure: func() bool { return false }, limits: cfg.Limits,
		strangers: strangers, generation: func() uint64 { return 0 }, conns: map[*pinnedConn]struct{}{}, dialed: map[*dialedConn]struct{}{}}
	w.own.Store(g.certificates())
	return w
}

// config is what both sides share. Curve preferences stay Go's, which put the
// hybrid X25519MLKEM768 first; no tickets, so that each connection is checked
// against the pins of its own time.
func (w *wire) config(verify func(tls.ConnectionState) error, protocols ...string) *tls.Config {
	return &tls.Config{
		GetCertificate:         w.shown,
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // names and issuers say nothing here: VerifyConnection checks the pin
		VerifyConnection:       verify,
		NextProtos:             protocols,
		SessionTicketsDisabled: true,
	}
}

// dial connects to an address, whose certificate must satisfy accept; hint is the
// pin that is asked for, or zero.
func (w *wire) dial(ctx context.Context, address, protocol string, hint ledger.Hash, accept func(ledger.Hash) bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, w.limits.HandshakeLimit)
	defer cancel()
	raw, err := w.network.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	config := w.config(func(state tls.ConnectionState) error {
		pin, err := peerPin(state)
		if err != nil {
			return err
		}
		if !accept(pin) || state.NegotiatedProtocol != protocol {
			return errUnpinned
		}
		return nil
	}, protocol)
	mine := w.chosen()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return mine, nil }
	if !hint.IsZero() {
		config.ServerName = pinHint(hint)
	}
	if protocol != protocolHTTP {
		raw = w.remember(raw, mine)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake with %s: %w", address, err)
	}
	return conn, nil
}

// pinnedConn is an accepted raw connection, remembered by its pin so that it
// can be cut when the ledger drops the pin.
type pinnedConn struct {
	net.Conn
	wire *wire
	host string
	pin  ledger.Hash // after the handshake
	once sync.Once
}

func (c *pinnedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.wire.mu.Lock()
		delete(c.wire.conns, c)
		c.wire.shaken(c)
		c.wire.mu.Unlock()
	})
	return err
}

// shake counts a handshake. Beyond maxDialers it cuts the oldest one of the host
// that has the most, so that no stranger keeps the others from their turn.
func (w *wire) shake(c *pinnedConn) {
	w.mu.Lock()
	w.shaking = append(w.shaking, c)
	var cut *pinnedConn
	if len(w.shaking) > maxDialers {
		of, most := map[string]int{}, ""
		for _, one := range w.shaking {
			if of[one.host]++; of[one.host] > of[most] {
				most = one.host
			}
		}
		cut = w.shaking[slices.IndexFunc(w.shaking, func(one *pinnedConn) bool { return one.host == most })]
	}
	w.mu.Unlock()
	if cut != nil {
		_ = cut.Close()
	}
}

// shaken requires mu.
func (w *wire) shaken(c *pinnedConn) {
	w.shaking = slices.DeleteFunc(w.shaking, func(one *pinnedConn) bool { return one == c })
}

// keep counts a connection whose handshake is done, unless its replica was
// unpinned meanwhile, or it or all have too many.
func (w *wire) keep(c *pinnedConn, pin ledger.Hash, protocol string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.shaking, c) {
		return false // cut
	}
	w.shaken(c)
	same := 0
	for one := range w.conns {
		if one.pin == pin {
			same++
		}
	}
	if !w.pins.admits(pin, protocol) || same >= w.limits.ConnsPerPeer || len(w.conns) >= w.limits.PeerConns {
		return false
	}
	c.pin = pin
	w.conns[c] = struct{}{}
	return true
}

// dialedConn is a raw connection of Raft's that we made, remembered so that it can
// be made anew once another certificate is to be shown.
type dialedConn struct {
	net.Conn
	wire *wire
	mine *tls.Certificate
}

func (w *wire) remember(raw net.Conn, mine *tls.Certificate) net.Conn {
	c := &dialedConn{Conn: raw, wire: w, mine: mine}
	w.mu.Lock()
	w.dialed[c] = struct{}{}
	w.mu.Unlock()
	return c
}

func (c *dialedConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.dialed, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// know takes further certificates for who asks for them by name; the one in use
// stays until show.
func (w *wire) know(own *ownCertificates) {
	own.use = w.own.Load().use
	w.own.Store(own)
}

// show shows other certificates from now on. Raft's own connections would stay for
// ever under the former one, and be refused once peers drop its pin; a request that
// is cut is made again.
func (w *wire) show(own *ownCertificates) {
	w.own.Store(own)
	var former []*dialedConn
	w.mu.Lock()
	for c := range w.dialed {
		if c.mine != own.use {
			former = append(former, c)
		}
	}
	w.mu.Unlock()
	for _, c := range former {
		_ = c.Close()
	}
}

// prune cuts the accepted connections of those who are no longer pinned.
func (w *wire) prune() {
	set := w.pins.now.Load()
	var gone []*pinnedConn
	w.mu.Lock()
	for c := range w.conns {
		if set.byPin(c.pin) == nil && !set.outcasts[c.pin] {
			gone = append(gone, c)
		}
	}
	w.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}

// serve accepts until ctx ends or the listener fails, and hands each
// connection to the listener of its protocol. It waits for its handshakes.
func (w *wire) serve(ctx context.Context, l net.Listener, raftConns, httpConns *handoff) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer w.closeAll()
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				if !pause(ctx, 50*time.Millisecond) {
					return nil
				}
				continue
			}
			return fmt.Errorf("accept peer: %w", err)
		}
		host, _, err := net.SplitHostPort(raw.RemoteAddr().String())
		if err != nil {
			host = raw.RemoteAddr().String()
		}
		c := &pinnedConn{Conn: raw, wire: w, host: host}
		w.shake(c)
		wg.Go(func() { w.accept(ctx, c, raftConns, httpConns) })
	}
}

func (w *wire) closeAll() {
	w.mu.Lock()
	conns := slices.Clone(w.shaking)
	for c := range w.conns {
		conns = append(conns, c)
	}
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

func (w *wire) accept(ctx context.Context, c *pinnedConn, raftConns, httpConns *handoff) {
	ctx, cancel := context.WithTimeout(ctx, w.limits.HandshakeLimit)
	defer cancel()
	var pin ledger.Hash
	conn := tls.Server(c, w.config(func(state tls.ConnectionState) error {
		var err error
		if pin, err = peerPin(state); err != nil {
			return err
		}
		if !w.pins.admits(pin, state.NegotiatedProtocol) {
			return errUnpinned
		}
		return nil
	}, raftProtocol(w.generation()), protocolHTTP))
	if err := conn.HandshakeContext(ctx); err != nil {
		w.strangers()
		_ = c.Close()
		return
	}
	protocol := conn.ConnectionState().NegotiatedProtocol
	if !w.keep(c, pin, protocol) {
		_ = c.Close()
		return
	}
	to := httpConns
	if protocol != protocolHTTP {
		to = raftConns
	}
	if !to.give(ctx, conn) {
		_ = conn.Close()
	}
}

// handoff is a net.Listener that is given its connections.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

func (h *handoff) give(ctx context.Context, c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
	case <-ctx.Done():
	}
	return false
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handoff) Addr() net.Addr { return h.addr }

// streams is Raft's stream layer over the wire.
type streams struct {
	*handoff
	wire *wire
	ctx  context.Context // Raft's own interface has none: ends with the replica
}

// Dial connects to the replica that the ledger places at the address.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	at := s.wire.pins.now.Load().atAddress(string(address))
	var hint ledger.Hash
	if len(at) > 0 {
		hint = at[0].TLSPin
	}
	conn, err := s.wire.dial(ctx, string(address), raftProtocol(s.wire.generation()), hint, func(pin ledger.Hash) bool {
		return slices.ContainsFunc(at, func(p *peer) bool { return p.TLSPin == pin })
	})
	if err != nil {
		return nil, err
	}
	return &answersConn{Conn: conn}, nil
}

// peerAddr is a net.Addr that is only a text.
type peerAddr string

func (peerAddr) Network() string  { return "tcp" }
func (a peerAddr) String() string { return string(a) }

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
