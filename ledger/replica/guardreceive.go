package replica

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// receiving counts what peers have sent of requests that are not answered yet:
// Raft's decoder takes a request of any size, and keeps it all in memory.
type receiving struct {
	mu   sync.Mutex
	held map[string]int // bytes, by peer
}

// hold adds bytes of a peer's, or says that they are too many.
func (r *receiving) hold(name string, n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[name]+n > maxReceiving {
		return fmt.Errorf("unanswered requests of more than %d bytes", maxReceiving)
	}
	if r.held == nil {
		r.held = map[string]int{}
	}
	if r.held[name] += n; r.held[name] == 0 {
		delete(r.held, name)
	}
	return nil
}

// measuredConn is an accepted connection of Raft's. Each request on it is
// measured as it comes in, before it is decoded; one beyond the bounds ends the
// connection.
type measuredConn struct {
	net.Conn
	name     string // of the peer
	total    *receiving
	refuse   func(name string, reason error)
	ended    func() // Raft's transport is done with it
	request  measure
	held     int  // bytes since the last answer
	snapshot bool // one follows the request: Raft reads it from the connection as it needs it
	answered bool // with a snapshot: Raft's sender makes a connection for each
}

// errMeasured ends a connection; the reason was told.
var errMeasured = errors.New("the peer's request was refused for its size")

// Read is called by one goroutine, which reads the next request once it has
// written the answer to the one before.
func (c *measuredConn) Read(p []byte) (int, error) {
	if c.answered {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if n == 0 || c.snapshot {
		return n, err
	}
	wrong := c.total.hold(c.name, n)
	if wrong == nil {
		c.held += n
		c.snapshot, wrong = c.request.take(p[:n])
	}
	if wrong != nil {
		c.refuse(c.name, wrong)
		return 0, errMeasured
	}
	return n, err
}

// Write writes an answer: the request is no longer held.
func (c *measuredConn) Write(p []byte) (int, error) {
	c.release()
	c.answered = c.snapshot
	return c.Conn.Write(p)
}

func (c *measuredConn) release() {
	_ = c.total.hold(c.name, -c.held)
	c.held = 0
}

// Close is called by that goroutine at its end; others close what is below.
func (c *measuredConn) Close() error {
	err := c.Conn.Close()
	c.release()
	c.ended()
	return err
}

// answersConn is a connection of ours, on which a peer answers Raft's requests
// one after the other, each in a few dozen bytes.
type answersConn struct {
	net.Conn
	read atomic.Int64 // since the last request
}

var errAnswer = errors.New("the peer's answer has no end")

func (c *answersConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read.Add(int64(n)) > maxPeerNotes {
		return 0, errAnswer // Raft's transport closes it
	}
	return n, err
}

func (c *answersConn) Write(p []byte) (int, error) {
	c.read.Store(0)
	return c.Conn.Write(p)
}

// measure follows MessagePack's heads (its spec's "formats") through requests of
// Raft's, each of which is a byte for its kind and one value, and counts bytes
// and values. An entry that is nothing but a byte on the wire takes a hundred in
// memory, so that the bytes alone say little.
type measure struct {
	inside  bool
	kind    byte
	bytes   int
	values  int // so far
	missing int // values that were announced and have not begun
	skip    int // bytes of the value that has
	tag     byte
	digits  int // of the length after the tag, to come
	length  int
}

const kindInstallSnapshot = 2 // Raft's rpcInstallSnapshot, after which a snapshot follows

// take reads on. It stops with true behind a request that a snapshot follows.
func (m *measure) take(p []byte) (snapshot bool, err error) {
	for len(p) > 0 {
		if !m.inside {
			*m = measure{inside: true, kind: p[0], missing: 1}
			p = p[1:]
			continue
		}
		used := 1
		switch {
		case m.skip > 0:
			used = min(m.skip, len(p))
			m.skip -= used
		case m.digits > 0:
			m.length = m.length<<8 | int(p[0])
			if m.digits--; m.digits == 0 {
				m.sized()
			}
		default:
			err = m.head(p[0])
		}
		m.bytes += used
		p = p[used:]
		switch {
		case err != nil:
			return false, err
		case m.bytes+m.skip > maxRequestBytes:
			return false, fmt.Errorf("a request of more than %d bytes", maxRequestBytes)
		case m.values+m.missing > maxRequestValues:
			return false, fmt.Errorf("a request of more than %d values", maxRequestValues)
		}
		if m.missing == 0 && m.skip == 0 && m.digits == 0 {
			m.inside = false
			if m.kind == kindInstallSnapshot {
				return true, nil
			}
		}
	}
	return false, nil
}

// head begins a value.
func (m *measure) head(tag byte) error {
	m.missing--
	m.values++
	m.tag, m.length = tag, 0
	switch {
	case tag <= 0x7f, tag >= 0xe0, tag == 0xc0, tag == 0xc2, tag == 0xc3: // small integers, nil, booleans
	case tag <= 0x8f:
		m.missing += 2 * int(tag&0x0f)
	case tag <= 0x9f:
		m.missing += int(tag & 0x0f)
	case tag <= 0xbf:
		m.skip = int(tag & 0x1f)
	case tag == 0xc1:
		return errors.New("a request that is not MessagePack")
	case tag <= 0xc6: // bin
		m.digits = 1 << (tag - 0xc4)
	case tag <= 0xc9: // ext
		m.digits = 1 << (tag - 0xc7)
	case tag <= 0xcb: // float
		m.skip = 4 << (tag - 0xca)
	case tag <= 0xcf: // uint
		m.skip = 1 << (tag - 0xcc)
	case tag <= 0xd3: // int
		m.skip = 1 << (tag - 0xd0)
	case tag <= 0xd8: // fixext, with its type
		m.skip = 1 + 1<<(tag-0xd4)
	case tag <= 0xdb: // str
		m.digits = 1 << (tag - 0xd9)
	case tag <= 0xdd: // array
		m.digits = 2 << (tag - 0xdc)
	default: // map
		m.digits = 2 << (tag - 0xde)
	}
	return nil
}

// sized applies the length that followed a head.
func (m *measure) sized() {
	switch tag := m.tag; {
	case tag >= 0xde:
		m.missing += 2 * m.length
	case tag >= 0xdc:
		m.missing += m.length
	case tag >= 0xc7 && tag <= 0xc9:
		m.skip = 1 + m.length
	default:
		m.skip = m.length
	}
}
