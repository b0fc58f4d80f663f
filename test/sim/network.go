package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network joins the replicas in memory. Every direction between two of them has
// its own fate: cut, slow, stalled. Streams keep their order, as TCP's do: what a
// cut holds back is delivered when it heals, unless the stream was reset.
//
// Writing never blocks, so that nobody holds a lock while he waits for virtual
// time to pass, which would stop it.
type network struct {
	seed uint64

	mu       sync.Mutex
	hosts    map[string]*host // by address, the present process there
	links    map[link]*fate
	streams  map[*stream]struct{}
	changed  chan struct{} // closed and replaced when a cut or a listener changes
	recorder *recorder
}

// link is one direction.
type link struct{ from, to string }

// fate is what happens on one direction.
type fate struct {
	cut     int           // faults that cut it; open when 0
	slow    time.Duration // added to each delivery, up to it
	until   time.Time     // nothing is delivered before: a stall
	ordinal uint64        // segments sent so far
}

func newNetwork(seed uint64, r *recorder) *network {
	return &network{seed: seed, hosts: map[string]*host{}, links: map[link]*fate{}, streams: map[*stream]struct{}{},
		changed: make(chan struct{}), recorder: r}
}

// of requires mu.
func (n *network) of(l link) *fate {
	f := n.links[l]
	if f == nil {
		f = &fate{}
		n.links[l] = f
	}
	return f
}

// alter changes fates and wakes whoever waits for one.
func (n *network) alter(change func(of func(link) *fate)) {
	n.mu.Lock()
	change(n.of)
	n.wakeAll()
	n.mu.Unlock()
}

// wakeAll requires mu.
func (n *network) wakeAll() {
	close(n.changed)
	n.changed = make(chan struct{})
	for s := range n.streams {
		s.signal()
	}
}

// open says whether data passes on a direction now, and if not, when to look
// again; zero means when something changes.
func (n *network) open(l link) (bool, time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.of(l)
	if f.cut > 0 {
		return false, time.Time{}
	}
	if f.until.After(time.Now()) {
		return false, f.until
	}
	return true, time.Time{}
}

// delay is how long the next segment of a direction takes: a pure function of
// seed, direction and ordinal, so that the same traffic meets the same delays.
// No two directions share their delays, so few deliveries fall on one instant.
func (n *network) delay(l link) time.Duration {
	n.mu.Lock()
	f := n.of(l)
	f.ordinal++
	ordinal, slow := f.ordinal, f.slow
	n.mu.Unlock()
	h := mix(n.seed, l.from, l.to, ordinal)
	d := minimumDelay + time.Duration(h%uint64(ordinaryDelay))
	if slow > 0 {
		d += time.Duration((h >> 20) % uint64(slow))
	}
	return d
}

// reset breaks every stream between two replicas.
func (n *network) reset(a, b string) {
	n.mu.Lock()
	var broken []*stream
	for s := range n.streams {
		if s.from == a && s.to == b || s.from == b && s.to == a {
			broken = append(broken, s)
		}
	}
	n.mu.Unlock()
	for _, s := range broken {
		s.fail(syscall.ECONNRESET)
	}
}

// host is one process on the network. It is a replica.Network.
type host struct {
	net           *network
	name, address string

	mu       sync.Mutex
	down     bool
	listener *listener
	ports    int
}

var errDown = errors.New("the process is dead")

// host puts a new process at an address, in the place of an older one.
func (n *network) host(name, address string) *host {
	h := &host{net: n, name: name, address: address}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = h
	n.wakeAll()
	return h
}

// unplug ends a process: nothing that it says is heard any more, and its peers'
// streams to it break.
func (h *host) unplug() {
	h.mu.Lock()
	h.down = true
	l := h.listener
	h.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	h.net.mu.Lock()
	if h.net.hosts[h.address] == h {
		delete(h.net.hosts, h.address)
	}
	var broken []*stream
	for s := range h.net.streams {
		if s.source == h || s.sink == h {
			broken = append(broken, s)
		}
	}
	h.net.mu.Unlock()
	for _, s := range broken {
		s.fail(syscall.ECONNRESET)
	}
}

func (h *host) Listen(_ context.Context, address string) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	if address != h.address || h.listener != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, syscall.EADDRINUSE)
	}
	h.listener = &listener{host: h, wake: make(chan struct{}, 1), done: make(chan struct{})}
	h.net.alter(func(func(link) *fate) {})
	return h.listener, nil
}

// Dial waits while the way is cut, as a SYN that is sent again does.
func (h *host) Dial(ctx context.Context, address string) (net.Conn, error) {
	refuse := func(err error) error { return &net.OpError{Op: "dial", Net: "sim", Addr: addr(address), Err: err} }
	for {
		h.mu.Lock()
		down := h.down
		h.mu.Unlock()
		if down {
			return nil, refuse(errDown)
		}
		h.net.mu.Lock()
		there, changed := h.net.hosts[address], h.net.changed
		name := ""
		if there != nil {
			name = there.name
		}
		h.net.mu.Unlock()
		if there == nil {
			return nil, refuse(syscall.ECONNREFUSED)
		}
		out, again := h.net.open(link{h.name, name})
		back, _ := h.net.open(link{name, h.name})
		if !out || !back {
			if err := await(ctx, changed, again); err != nil {
				return nil, refuse(err)
			}
			continue
		}
		if err := await(ctx, nil, time.Now().Add(2*h.net.delay(link{h.name, name}))); err != nil {
			return nil, refuse(err)
		}
		if c := there.take(h); c != nil {
			return c, nil
		}
		return nil, refuse(syscall.ECONNREFUSED)
	}
}

// await waits for a change, for a time if there is one, or for the end of ctx.
func await(ctx context.Context, changed <-chan struct{}, at time.Time) error {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// take makes a connection from another host to this one's listener.
func (h *host) take(from *host) net.Conn {
	h.mu.Lock()
	l, down := h.listener, h.down
	h.mu.Unlock()
	if l == nil || down {
		return nil
	}
	from.mu.Lock()
	from.ports++
	local := addr(fmt.Sprintf("%s:%d", hostOf(from.address), 20_000+from.ports%40_000))
	from.mu.Unlock()
	there, back := newStream(from, h), newStream(h, from)
	near := &conn{in: back, out: there, local: local, remote: addr(h.address)}
	far := &conn{in: there, out: back, local: addr(h.address), remote: local}
	if !l.put(far) {
		there.fail(syscall.ECONNREFUSED)
		back.fail(syscall.ECONNREFUSED)
		return nil
	}
	return near
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

type addr string

func (addr) Network() string  { return "sim" }
func (a addr) String() string { return string(a) }

type listener struct {
	host *host
	wake chan struct{}
	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	backlog []net.Conn
	closed  bool
}

func (l *listener) put(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.backlog) >= maxBacklog {
		return false
	}
	l.backlog = append(l.backlog, c)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, net.ErrClosed
		}
		if len(l.backlog) > 0 {
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			l.mu.Unlock()
			return c, nil
		}
		l.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.done:
		}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		left := l.backlog
		l.backlog = nil
		l.mu.Unlock()
		close(l.done)
		for _, c := range left {
			_ = c.Close()
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.host.address) }

// stream is one direction of a connection.
type stream struct {
	net          *network
	source, sink *host
	link
	wake chan struct{} // capacity 1; one reads at a time

	mu       sync.Mutex
	queue    []segment
	last     time.Time // delivery of the newest segment
	size     int
	finished bool  // the writer closed: end of file after the queue
	shut     bool  // the reader closed
	broken   error // a reset
	deadline time.Time
	timer    *time.Timer
}

type segment struct {
	data []byte
	at   time.Time
}

func newStream(from, to *host) *stream {
	s := &stream{net: from.net, source: from, sink: to, link: link{from.name, to.name}, wake: make(chan struct{}, 1)}
	s.net.mu.Lock()
	s.net.streams[s] = struct{}{}
	s.net.mu.Unlock()
	return s
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.broken == nil {
		s.broken = err
	}
	s.queue = nil
	s.mu.Unlock()
	s.forget()
	s.signal()
}

func (s *stream) forget() {
	s.net.mu.Lock()
	delete(s.net.streams, s)
	s.net.mu.Unlock()
}

func (s *stream) write(p []byte) (int, error) {
	delay := s.net.delay(s.link)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return 0, s.broken
	case s.finished:
		return 0, net.ErrClosed
	case s.shut:
		return 0, syscall.EPIPE
	case s.size+len(p) > maxBuffered:
		s.broken = syscall.ENOBUFS
		return 0, s.broken
	}
	at := time.Now().Add(delay)
	if at.Before(s.last) {
		at = s.last
	}
	s.last = at
	s.size += len(p)
	s.queue = append(s.queue, segment{append([]byte(nil), p...), at})
	s.signal()
	return len(p), nil
}

func (s *stream) read(p []byte) (int, error) {
	for {
		passes, look := s.net.open(s.link)
		s.mu.Lock()
		now := time.Now()
		switch {
		case s.shut:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case s.broken != nil:
			s.mu.Unlock()
			return 0, s.broken
		case !s.deadline.IsZero() && !s.deadline.After(now):
			s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			s.mu.Unlock()
			return 0, nil
		case passes && len(s.queue) > 0 && !s.queue[0].at.After(now):
			n := s.drain(p, now)
			s.mu.Unlock()
			s.net.recorder.delivered(s.link, n)
			return n, nil
		case passes && len(s.queue) == 0 && s.finished:
			s.mu.Unlock()
			return 0, io.EOF
		}
		at := look
		if passes && len(s.queue) > 0 {
			at = s.queue[0].at
		}
		if !s.deadline.IsZero() && (at.IsZero() || s.deadline.Before(at)) {
			at = s.deadline
		}
		s.mu.Unlock()
		s.sleep(at)
	}
}

// drain requires mu.
func (s *stream) drain(p []byte, now time.Time) int {
	n := 0
	for len(s.queue) > 0 && n < len(p) && !s.queue[0].at.After(now) {
		took := copy(p[n:], s.queue[0].data)
		n += took
		if s.queue[0].data = s.queue[0].data[took:]; len(s.queue[0].data) == 0 {
			s.queue[0] = segment{}
			s.queue = s.queue[1:]
		}
	}
	s.size -= n
	return n
}

// sleep waits for a signal, or for a time if there is one.
func (s *stream) sleep(at time.Time) {
	if at.IsZero() {
		<-s.wake
		return
	}
	if s.timer == nil {
		s.timer = time.NewTimer(time.Until(at))
	} else {
		s.timer.Reset(time.Until(at))
	}
	select {
	case <-s.wake:
	case <-s.timer.C:
	}
	s.timer.Stop()
}

// conn is one end of a connection.
type conn struct {
	in, out       *stream
	local, remote net.Addr
	once          sync.Once
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.mu.Lock()
		c.out.finished = true
		c.out.mu.Unlock()
		c.out.signal()
		c.in.mu.Lock()
		c.in.shut = true
		c.in.queue = nil
		c.in.mu.Unlock()
		c.in.forget()
		c.in.signal()
	})
	return nil
}

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.deadline = t
	c.in.mu.Unlock()
	c.in.signal()
	return nil
}

// SetWriteDeadline has nothing to bound: writing never blocks.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
