package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// guard stands between the network and Raft: what a peer sends is refused here
// before Raft sees it, on the heartbeat's fast path too, and so are answers. A
// refusal is an error answer, so Raft neither votes nor appends.
//
// It is a raft.Transport: the embedded transport sends, and one of its own for
// each accepted connection receives, so that a request is known by the
// certificate of the connection that it came on.
type guard struct {
	*raft.NetworkTransport
	config    *raft.NetworkTransportConfig
	conns     *handoff
	who       func(net.Conn) []*peer // whose certificate a connection has
	rules     []guardRule
	answers   func(to raft.ServerID, sent, answered uint64) error   // may an answer name this term?
	handing   func(to raft.ServerID)                                // before leadership is handed on
	changes   func(q *request) (*raft.AppendEntriesResponse, error) // takes entries that change the configuration
	have      func(*raft.InstallSnapshotRequest) bool               // all that a snapshot covers
	settled   func(q *request) bool                                 // may a heartbeat take the fast way? nil: any
	refused   func(rule, name string, reason error)
	receiving receiving
	out       chan raft.RPC
	stop      chan struct{}
	wg        sync.WaitGroup

	mu        sync.Mutex
	heartbeat func(raft.RPC)
	inbound   map[*raft.NetworkTransport]struct{}
	closed    bool
}

// request is one request of a peer.
type request struct {
	raft.RPC
	pinned []*peer // with this connection's certificate
	sender *peer   // whom the header names, once the rule sender found it to be right
}

// guardRule looks at one request and says why it is refused, or nil.
type guardRule struct {
	name  string
	check func(q *request) error
}

// name is what refusals are filed under.
func (q *request) name() string {
	if q.sender != nil {
		return q.sender.Name
	}
	if len(q.pinned) > 0 {
		return q.pinned[0].Name
	}
	return ""
}

// newGuard makes a guard whose requests come from conns. config's stream dials.
func newGuard(config *raft.NetworkTransportConfig, conns *handoff, who func(net.Conn) []*peer,
	refused func(rule, name string, reason error), rules ...guardRule) *guard {
	return &guard{NetworkTransport: raft.NewNetworkTransportWithConfig(config), config: config, conns: conns, who: who, rules: rules,
		refused: refused, out: make(chan raft.RPC), stop: make(chan struct{}), inbound: map[*raft.NetworkTransport]struct{}{}}
}

// Consumer gives the requests that passed.
func (g *guard) Consumer() <-chan raft.RPC { return g.out }

// run accepts connections until the guard is shut down.
func (g *guard) run() {
	for {
		conn, err := g.conns.Accept()
		if err != nil {
			return
		}
		g.receive(conn)
	}
}

// receive reads one connection with Raft's own decoder, in a transport that has
// no other.
func (g *guard) receive(conn net.Conn) {
	one := newHandoff(g.conns.addr)
	config := *g.config
	config.Stream = &streams{handoff: one}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = conn.Close()
		return
	}
	transport := raft.NewNetworkTransportWithConfig(&config)
	transport.SetHeartbeatHandler(func(rpc raft.RPC) { g.fast(conn, rpc) })
	g.inbound[transport] = struct{}{}
	done := make(chan struct{})
	ended := sync.OnceFunc(func() {
		close(done)
		_ = transport.Close()
		g.mu.Lock()
		delete(g.inbound, transport)
		g.mu.Unlock()
	})
	measured := &measuredConn{Conn: conn, name: (&request{pinned: g.who(conn)}).name(), total: &g.receiving, ended: ended,
		refuse: func(name string, reason error) { g.refused("size", name, reason) }}
	g.wg.Go(func() { // whatever is being read from it
		select {
		case <-g.stop:
			_ = conn.Close()
		case <-done:
		}
	})
	g.wg.Go(func() {
		select {
		case one.conns <- measured:
		case <-one.done:
			_ = conn.Close()
		}
		for {
			select {
			case rpc := <-transport.Consumer():
				g.handle(conn, rpc)
			case <-done:
				return
			case <-g.stop:
				_ = conn.Close() // its reader then ends the rest
				ended()
				return
			}
		}
	})
}

// timedBody is a snapshot on its way: each read of it has its time, and all of it.
type timedBody struct {
	io.Reader
	conn  net.Conn
	pause time.Duration
	end   time.Time
}

func (b *timedBody) Read(p []byte) (int, error) {
	limit := time.Now().Add(b.pause)
	if b.end.Before(limit) {
		limit = b.end
	}
	_ = b.conn.SetReadDeadline(limit)
	defer func() { _ = b.conn.SetReadDeadline(time.Time{}) }()
	return b.Reader.Read(p)
}

// handle checks a request and passes it on.
func (g *guard) handle(conn net.Conn, rpc raft.RPC) {
	if s, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		// Raft reads it in its main loop, and would wait for the rest for ever.
		rpc.Reader = &timedBody{Reader: rpc.Reader, conn: conn, pause: g.config.Timeout,
			end: time.Now().Add(g.config.Timeout + time.Duration(s.Size/snapshotRate)*time.Second)}
	}
	q := &request{RPC: rpc, pinned: g.who(conn)}
	err := g.check(q)
	if snapshot, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && err == nil && g.have != nil && g.have(snapshot) {
		// Installing it would forget what was committed since. We have what it
		// covers, so the answer is true and the leader goes on behind it.
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{Term: snapshot.Term, Success: true}, nil)
		return
	}
	if err != nil {
		if rpc.Reader != nil {
			_, _ = io.Copy(io.Discard, rpc.Reader) // else the sender never reads why
		}
		rpc.Respond(nil, err)
		return
	}
	if _, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && g.changes != nil && configures(rpc.Command) {
		answer, err := g.changes(q)
		if answer == nil {
			rpc.Respond(nil, err) // a typed nil would be encoded as an answer
			return
		}
		rpc.Respond(answer, err)
		return
	}
	g.give(rpc)
}

// give hands a request to Raft.
func (g *guard) give(rpc raft.RPC) bool {
	select {
	case g.out <- rpc:
		return true
	case <-g.stop:
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return false
	}
}

// fast is the heartbeats' way, beside Raft's main loop, which the disk may hold up.
// A heartbeat that could change more than when its leader was last heard waits for
// that loop like anything else.
func (g *guard) fast(conn net.Conn, rpc raft.RPC) {
	q := &request{RPC: rpc, pinned: g.who(conn)}
	if err := g.check(q); err != nil {
		rpc.Respond(nil, err)
		return
	}
	g.mu.Lock()
	handler := g.heartbeat
	g.mu.Unlock()
	if handler == nil {
		g.give(rpc)
		return
	}
	for g.settled != nil && !g.settled(q) {
		select {
		case g.out <- rpc:
			return
		case <-time.After(settlePause): // the main loop may have begun to follow it, and wait for the disk now
		case <-g.stop:
			rpc.Respond(nil, raft.ErrTransportShutdown)
			return
		}
	}
	handler(rpc)
}

// SetHeartbeatHandler puts the guard before the fast path.
func (g *guard) SetHeartbeatHandler(handler func(rpc raft.RPC)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heartbeat = handler
}

// Close ends sending and receiving. Raft calls it when it shuts down.
func (g *guard) Close() error {
	err := g.NetworkTransport.Close()
	_ = g.conns.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		close(g.stop)
	}
	for transport := range g.inbound {
		_ = transport.Close()
	}
	return err
}

// shut closes the guard and waits for its goroutines.
func (g *guard) shut() {
	_ = g.Close()
	g.wg.Wait()
}

func (g *guard) check(q *request) error {
	for _, rule := range g.rules {
		if err := rule.check(q); err != nil {
			g.refused(rule.name, q.name(), err)
			return fmt.Errorf("refused by %s: %w", rule.name, err)
		}
	}
	return nil
}

// answered refuses an answer whose term cannot be.
func (g *guard) answered(err error, to raft.ServerID, sent, term uint64) error {
	if err != nil || g.answers == nil || term <= sent {
		return err
	}
	return g.answers(to, sent, term)
}

// AppendEntries sends, and checks the answer.
func (g *guard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	size := 0
	for i, entry := range args.Entries { // Raft goes on behind what is left of it
		if size += len(entry.Data); i > 0 && size > maxAppendBytes {
			args.Entries = args.Entries[:i]
			break
		}
	}
	err := g.NetworkTransport.AppendEntries(id, target, args, resp)
	return g.answered(err, id, args.Term, resp.Term)
}

// RequestVote sends, and checks the answer.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := g.NetworkTransport.RequestVote(id, target, args, resp)
	return g.answered(err, id, args.Term, resp.Term)
}

// RequestPreVote sends, and checks the answer.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := g.NetworkTransport.RequestPreVote(id, target, args, resp)
	return g.answered(err, id, args.Term, resp.Term)
}

// InstallSnapshot sends, and checks the answer.
func (g *guard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := g.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	return g.answered(err, id, args.Term, resp.Term)
}

// TimeoutNow hands leadership on, once the others know to whom.
func (g *guard) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if g.handing != nil {
		g.handing(id)
	}
	return g.NetworkTransport.TimeoutNow(id, target, args, resp)
}

// refuseWhen refuses everything while reason gives an error: a replica that
// halted, or has not asked its peers yet whether its data is old.
func refuseWhen(name string, reason func() error) guardRule {
	return guardRule{name, func(*request) error { return reason() }}
}

// refuseStampsAhead refuses commands stamped further ahead of now than
// maxSkew allows, both in milliseconds. A leader's heartbeats of the term are
// refused with them until one of its entries passes: it can't take back what is
// in its log, so only another leader can end that, and there is none while this
// one is heard.
func refuseStampsAhead(now, maxSkew func() uint64) guardRule {
	var ahead atomic.Uint64 // the term in which entries were refused
	check := func(entries []*raft.Log) error {
		limit := now() + maxSkew()
		for _, entry := range entries {
			if entry.Type != raft.LogCommand {
				continue
			}
			stamp, err := commandStamp(entry.Data)
			if err != nil {
				return fmt.Errorf("entry %d: %w", entry.Index, err)
			}
			if stamp > limit {
				return fmt.Errorf("entry %d is stamped %s ahead of our clock", entry.Index,
					time.Duration(stamp-now())*time.Millisecond)
			}
		}
		return nil
	}
	return guardRule{"stamp_ahead", func(q *request) error {
		request, ok := q.Command.(*raft.AppendEntriesRequest)
		switch {
		case !ok:
			return nil
		case len(request.Entries) == 0 && request.Term != 0 && ahead.Load() == request.Term:
			return fmt.Errorf("the leader's entries of term %d were refused", request.Term)
		case len(request.Entries) == 0:
			return nil
		}
		err := check(request.Entries)
		if err != nil {
			ahead.Store(request.Term)
		} else {
			ahead.CompareAndSwap(request.Term, 0)
		}
		return err
	}}
}

var errCommand = errors.New("not a command")

// commandStamp reads the stamp of an encoded command (FORMAT.md section 13)
// without reading its statements: `84 01 kind stamp …`.
func commandStamp(b []byte) (uint64, error) {
	if len(b) < 4 || b[0] != 0x84 || b[1] != 0x01 || b[2] > 23 {
		return 0, errCommand
	}
	head, rest := b[3], b[4:]
	if head < 24 {
		return uint64(head), nil
	}
	if head < 24 || head > 27 {
		return 0, errCommand
	}
	width := 1 << (head - 24)
	if len(rest) < width {
		return 0, errCommand
	}
	var wide [8]byte
	copy(wide[8-width:], rest[:width])
	return binary.BigEndian.Uint64(wide[:]), nil
}
