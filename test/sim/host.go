package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

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
