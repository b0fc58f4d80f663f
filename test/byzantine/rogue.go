package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/proto"
)

const (
	gossipProtocol = protocol.ID("/meshsub/1.2.0")
	probeProtocol  = protocol.ID("/quorate/probe/1")
	syncProtocol   = protocol.ID("/quorate/sync/1")
)

// rogue speaks libp2p with a node's legitimate peer key, and none of the rules
// of gossip/mesh: it writes whatever bytes it likes to whom it likes.
type rogue struct {
	host   *blankhost.BlankHost
	swarm  *swarm.Swarm
	store  peerstore.Peerstore
	topic  string
	listen string // host:port

	mu      sync.Mutex
	streams map[peer.ID]network.Stream
	heard   int // bytes of gossip that it was sent and did not pass on
}

// newRogue makes a host that listens on address; "" for one that only dials.
func newRogue(key ed25519.PrivateKey, genesis, address string) (*rogue, error) {
	private, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.AddPrivKey(id, private), store.AddPubKey(id, private.GetPublic())); err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	s, err := swarm.NewSwarm(id, store, bus, swarm.WithUDPBlackHoleSuccessCounter(nil), swarm.WithIPv6BlackHoleSuccessCounter(nil))
	if err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := tls.New(tls.ID, private, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, &network.NullResourceManager{}, nil)
	if err != nil {
		return nil, err
	}
	transport, err := tcp.NewTCPTransport(up, &network.NullResourceManager{}, nil, tcp.DisableReuseport())
	if err != nil {
		return nil, err
	}
	if err := s.AddTransport(transport); err != nil {
		return nil, err
	}
	r := &rogue{swarm: s, store: store, host: blankhost.NewBlankHost(s, blankhost.WithEventBus(bus)),
		topic: "/quorate/" + genesis + "/statements/1", listen: address, streams: map[peer.ID]network.Stream{}}
	r.host.SetStreamHandler(gossipProtocol, r.swallow)
	if address != "" {
		a, err := multiaddrOf(address)
		if err != nil {
			return nil, err
		}
		if err := s.Listen(a); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func multiaddrOf(address string) (multiaddr.Multiaddr, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	return manet.FromNetAddr(at)
}

func (r *rogue) close() { _ = r.host.Close(); _ = r.store.Close() }

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
	public, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", err
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return "", err
	}
	a, err := multiaddrOf(address)
	if err != nil {
		return "", err
	}
	r.store.AddAddr(id, a, peerstore.PermanentAddrTTL)
	ctx, cancel := context.WithTimeout(ctx, rogueDial)
	defer cancel()
	_, err = r.swarm.DialPeer(ctx, id)
	return id, err
}

// connected says whether there is a connection to a peer.
func (r *rogue) connected(id peer.ID) bool {
	return r.swarm.Connectedness(id) == network.Connected
}

// gossip sends messages of the topic of statements to one peer, and to nobody
// else.
func (r *rogue) gossip(ctx context.Context, to peer.ID, messages ...[]byte) error {
	rpc := &pb.RPC{}
	for _, data := range messages {
		rpc.Publish = append(rpc.Publish, &pb.Message{Topic: proto.String(r.topic), Data: data})
	}
	return r.frame(ctx, to, rpc)
}

// frame sends a frame of GossipSub.
func (r *rogue) frame(ctx context.Context, to peer.ID, rpc *pb.RPC) error {
	body, err := proto.Marshal(rpc)
	if err != nil {
		return err
	}
	return r.raw(ctx, to, append(binary.AppendUvarint(nil, uint64(len(body))), body...))
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

func (r *rogue) String() string { return fmt.Sprintf("rogue %s", r.swarm.LocalPeer()) }

// answers has the host acknowledge probes as an honest node does, by ack.
func (r *rogue) answers(ack func(probe []byte) []byte) {
	r.host.SetStreamHandler(probeProtocol, func(s network.Stream) {
		defer s.Close()
		_ = s.SetDeadline(time.Now().Add(rogueDial))
		var head [4]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(s, int64(min(binary.BigEndian.Uint32(head[:]), 64<<10))))
		if err != nil {
			return
		}
		if answer := ack(body); answer != nil {
			_, _ = s.Write(append([]byte{0}, request(answer)...))
		}
	})
}
