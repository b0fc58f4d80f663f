package hosttest

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// Frame is a frame of GossipSub with messages of one topic.
func Frame(topic string, messages ...[]byte) ([]byte, error) {
	rpc := &pb.RPC{}
	for _, data := range messages {
		rpc.Publish = append(rpc.Publish, &pb.Message{Topic: proto.String(topic), Data: data})
	}
	body, err := proto.Marshal(rpc)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...), nil
}

// Gossiper is a stream on which a host gossips to one peer, and to nobody else.
type Gossiper struct {
	topic string

	mu     sync.Mutex
	stream network.Stream
}

// OpenGossip opens one to a connected peer. What peers gossip to the host is
// taken in and passed on to nobody.
func OpenGossip(ctx context.Context, h *Host, to peer.ID, topic string) (*Gossiper, error) {
	h.SetStreamHandler(Gossip, func(s network.Stream) {
		_, _ = io.Copy(io.Discard, s)
		_ = s.Reset()
	})
	s, err := h.NewStream(ctx, to, Gossip)
	if err != nil {
		return nil, err
	}
	return &Gossiper{topic: topic, stream: s}, nil
}

// Send gossips messages in one frame.
func (g *Gossiper) Send(messages ...[]byte) error {
	frame, err := Frame(g.topic, messages...)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.stream.SetWriteDeadline(time.Now().Add(dialTimeout))
	_, err = g.stream.Write(frame)
	return err
}
