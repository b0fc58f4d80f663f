package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/gossip/mesh/hosttest"
)

const peersProtocol = protocol.ID("/quorate/peers/1")

// The topics of a ledger's gossip.
const (
	topicStatements = "statements"
	topicHeads      = "heads"
	topicEntries    = "entries"
)

// insider is a rogue that others take for a member of the mesh: it says which
// protocols it speaks, subscribes and is grafted, hears everything, and passes
// nothing on.
type insider struct {
	*rogue
	node    *node
	genesis string
	ids     map[*agentProcess]peer.ID

	mu    sync.Mutex
	heard map[string][]message // by topic, each message once
	known map[string]bool
	given map[peer.ID]int // statements that a peer gave it, copies too
}

// message is what it was given by gossip, and when.
type message struct {
	data []byte
	at   time.Time
}

// insiderOf makes the host of a node that listens at ip, calls from there and acts
// as a member.
func (f *fleet) insiderOf(n *node, ip string) (*insider, error) {
	_, port, err := net.SplitHostPort(f.ports[n.name])
	if err != nil {
		return nil, err
	}
	f.ports[n.name] = net.JoinHostPort(ip, port)
	r, err := newRogue(n.peer, f.genesis.String(), "", hosttest.From(ip))
	if err != nil {
		return nil, err
	}
	i := &insider{rogue: r, node: n, genesis: f.genesis.String(), ids: map[*agentProcess]peer.ID{},
		heard: map[string][]message{}, known: map[string]bool{}, given: map[peer.ID]int{}}
	r.host.SetStreamHandler(gossipProtocol, i.hears)
	f.acknowledges(r, n)
	if err := errors.Join(r.host.Identify(), r.host.Listen(f.ports[n.name])); err != nil {
		r.close()
		return nil, err
	}
	return i, nil
}

// enters connects to an agent, subscribes to all of its topics and grafts itself.
func (i *insider) enters(ctx context.Context, a *agentProcess) error {
	id, err := i.meet(ctx, a.public(), a.address)
	if err != nil {
		return fmt.Errorf("%s meets %s: %w", i.node.name, a.name, err)
	}
	i.mu.Lock()
	i.ids[a] = id
	i.mu.Unlock()
	rpc := &pb.RPC{Control: &pb.ControlMessage{}}
	for _, topic := range []string{topicStatements, topicHeads, topicEntries} {
		rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: proto.String(i.wire(topic))})
		rpc.Control.Graft = append(rpc.Control.Graft, &pb.ControlGraft{TopicID: proto.String(i.wire(topic))})
	}
	return i.frame(ctx, id, rpc)
}

func (i *insider) wire(topic string) string { return "/quorate/" + i.genesis + "/" + topic + "/1" }

// says sends messages of any topic to one agent.
func (i *insider) says(ctx context.Context, a *agentProcess, topic string, messages ...[]byte) error {
	rpc := &pb.RPC{}
	for _, data := range messages {
		rpc.Publish = append(rpc.Publish, &pb.Message{Topic: proto.String(i.wire(topic)), Data: data})
	}
	return i.frame(ctx, i.id(a), rpc)
}

// reaches is says, to an agent that may have been restarted since.
func (i *insider) reaches(ctx context.Context, a *agentProcess, topic string, messages ...[]byte) error {
	if i.says(ctx, a, topic, messages...) == nil {
		return nil
	}
	if err := i.enters(ctx, a); err != nil {
		return err
	}
	return i.says(ctx, a, topic, messages...)
}

func (i *insider) id(a *agentProcess) peer.ID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ids[a]
}

// hears takes in what a peer gossips.
func (i *insider) hears(s network.Stream) {
	defer func() { _ = s.Reset() }()
	from, r := s.Conn().RemotePeer(), bufio.NewReaderSize(s, 64<<10)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > maxHeardFrame {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		var rpc pb.RPC
		if proto.Unmarshal(b, &rpc) != nil {
			return
		}
		i.note(from, &rpc)
	}
}

func (i *insider) note(from peer.ID, rpc *pb.RPC) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range rpc.GetPublish() {
		for _, topic := range []string{topicStatements, topicHeads, topicEntries} {
			if m.GetTopic() != i.wire(topic) {
				continue
			}
			if topic == topicStatements {
				i.given[from]++
			}
			if key := topic + string(m.GetData()); !i.known[key] && len(i.known) < maxHeard {
				i.known[key] = true
				i.heard[topic] = append(i.heard[topic], message{bytes.Clone(m.GetData()), time.Now()})
			}
		}
	}
}

// has gives what it heard of a topic, the oldest first.
func (i *insider) has(topic string) []message {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]message(nil), i.heard[topic]...)
}

// givenBy counts the statements that agents gave it.
func (i *insider) givenBy(a *agentProcess) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.given[i.ids[a]]
}

// serves answers requests of a protocol of request and answer; nil refuses.
func (r *rogue) serves(p protocol.ID, most uint32, answer func(request []byte) []byte) {
	r.host.SetStreamHandler(p, func(s network.Stream) {
		defer s.Close()
		_ = s.SetDeadline(time.Now().Add(rogueDial))
		var head [4]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(s, int64(min(binary.BigEndian.Uint32(head[:]), most))))
		if err != nil {
			return
		}
		out := []byte{1}
		if b := answer(body); b != nil {
			out = append([]byte{0}, request(b)...)
		}
		_, _ = s.Write(out)
	})
}

// asks is one request of such a protocol, and its answer.
func (r *rogue) asks(ctx context.Context, to peer.ID, p protocol.ID, body []byte) ([]byte, error) {
	b, err := r.ask(ctx, to, p, request(body))
	switch {
	case err != nil:
		return nil, err
	case len(b) < 5 || b[0] != 0:
		return nil, fmt.Errorf("%s: refused", p)
	case int(binary.BigEndian.Uint32(b[1:])) != len(b)-5:
		return nil, fmt.Errorf("%s: the answer is cut", p)
	}
	return b[5:], nil
}

// frame sends a frame of GossipSub.
func (r *rogue) frame(ctx context.Context, to peer.ID, rpc *pb.RPC) error {
	body, err := proto.Marshal(rpc)
	if err != nil {
		return err
	}
	return r.raw(ctx, to, append(binary.AppendUvarint(nil, uint64(len(body))), body...))
}
