package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

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
