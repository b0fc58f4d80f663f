package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/quorate/quorate/gossip/mesh/hosttest"
)

const (
	gossipProtocol = hosttest.Gossip
	probeProtocol  = protocol.ID("/quorate/probe/1")
	syncProtocol   = protocol.ID("/quorate/sync/1")
)

// rogue speaks libp2p with a node's legitimate peer key, and none of the rules
// of gossip/mesh: it writes whatever bytes it likes to whom it likes.
type rogue struct {
	host  *hosttest.Host
	topic string

	mu      sync.Mutex
	streams map[peer.ID]network.Stream
	heard   int // bytes of gossip that it was sent and did not pass on
}

// newRogue makes a host that listens on address; "" for one that only dials.
func newRogue(key ed25519.PrivateKey, genesis, address string, options ...hosttest.Option) (*rogue, error) {
	host, err := hosttest.New(key, options...)
	if err != nil {
		return nil, err
	}
	r := &rogue{host: host, topic: "/quorate/" + genesis + "/statements/1", streams: map[peer.ID]network.Stream{}}
	host.SetStreamHandler(gossipProtocol, r.swallow)
	if address != "" {
		if err := host.Listen(address); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rogue) close() { _ = r.host.Close() }

// swallow takes in what others gossip, and passes nothing on.
func (r *rogue) swallow(s network.Stream) {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.Read(buf)
		r.mu.Lock()
		r.heard += n
		r.mu.Unlock()
		if err != nil {
			_ = s.Reset()
			return
		}
	}
}

// meet connects to an agent.
func (r *rogue) meet(ctx context.Context, key ed25519.PublicKey, address string) (peer.ID, error) {
	return r.host.Meet(ctx, key, address)
}

// connected says whether there is a connection to a peer.
func (r *rogue) connected(id peer.ID) bool { return r.host.Connected(id) }

// gossip sends messages of the topic of statements to one peer, and to nobody
// else.
func (r *rogue) gossip(ctx context.Context, to peer.ID, messages ...[]byte) error {
	b, err := hosttest.Frame(r.topic, messages...)
	if err != nil {
		return err
	}
	return r.raw(ctx, to, b)
}

// raw writes bytes to the stream of gossip, which is kept open.
func (r *rogue) raw(ctx context.Context, to peer.ID, b []byte) error {
	r.mu.Lock()
	s := r.streams[to]
	r.mu.Unlock()
	if s == nil {
		var err error
		ctx, cancel := context.WithTimeout(ctx, rogueDial)
		defer cancel()
		if s, err = r.host.NewStream(ctx, to, gossipProtocol); err != nil {
			return err
		}
		r.mu.Lock()
		r.streams[to] = s
		r.mu.Unlock()
	}
	_ = s.SetWriteDeadline(time.Now().Add(rogueDial))
	if _, err := s.Write(b); err != nil {
		r.mu.Lock()
		delete(r.streams, to)
		r.mu.Unlock()
		_ = s.Reset()
		return err
	}
	return nil
}

// ask sends bytes on a stream of a protocol and gives what comes back.
func (r *rogue) ask(ctx context.Context, to peer.ID, p protocol.ID, b []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, rogueDial)
	defer cancel()
	s, err := r.host.NewStream(ctx, to, p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Reset() }()
	_ = s.SetDeadline(time.Now().Add(rogueDial))
	if _, err := s.Write(b); err != nil {
		return nil, err
	}
	_ = s.CloseWrite()
	return io.ReadAll(io.LimitReader(s, 1<<20))
}

// request is a frame of the protocols of request and answer.
func request(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func (r *rogue) String() string { return fmt.Sprintf("rogue %s", r.host.ID()) }

// answers has the host acknowledge probes as an honest node does, by ack.
func (r *rogue) answers(ack func(probe []byte) []byte) { r.serves(probeProtocol, 64<<10, ack) }
