package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/quorate/quorate/gossip/mesh/hosttest"
	"github.com/quorate/quorate/test/nodetest"
)

// A bare node is GossipSub as the mesh has it (the same version, transport,
// message ids and flooding of own messages) and nothing of ours: no signatures,
// judge, scores, limits, gater or ledger. What stands beside it shows what those
// cost.

// bareCommand is the argument by which this program runs as a bare node.
const bareCommand = "bare"

// bareReady is the channel of the line that a bare node writes once it gossips
// with all others.
const bareReady = "ready"

const bareTopic = "bench"

// bareConfig is what a bare node reads first, as a line of JSON.
type bareConfig struct {
	Seed   []byte     `json:"seed"` // of its Ed25519 key
	Listen string     `json:"listen"`
	Nodes  int        `json:"nodes"` // in all
	Dial   []barePeer `json:"dial"`
}

type barePeer struct {
	Public  []byte `json:"public"`
	Address string `json:"address"`
}

// bareNode is one, within its own process.
type bareNode struct {
	config bareConfig
	host   *hosttest.Host
	topic  *pubsub.Topic

	mu sync.Mutex // of standard output
}

// runBare runs one until its input ends.
func runBare(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxTalkBytes)
	if !lines.Scan() {
		return errors.New("a bare node wants its configuration")
	}
	n := &bareNode{}
	if err := json.Unmarshal(lines.Bytes(), &n.config); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := n.open(ctx); err != nil {
		return err
	}
	defer n.host.Close()
	go n.connect(ctx)
	for ctx.Err() == nil && lines.Scan() {
		var o nodetest.Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		began := time.Now()
		if err := n.topic.Publish(ctx, o.Publish); err != nil {
			return err
		}
		n.say(&nodetest.Seen{At: time.Now().UnixNano(), ID: bareID(o.Publish), Published: began.UnixNano()})
	}
	return lines.Err()
}

// open joins the topic and listens.
func (n *bareNode) open(ctx context.Context) (err error) {
	if n.host, err = hosttest.New(ed25519.NewKeyFromSeed(n.config.Seed)); err != nil {
		return err
	}
	ps, err := pubsub.NewGossipSub(ctx, n.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			sum := sha256.Sum256(m.GetData())
			return string(sum[:])
		}),
		pubsub.WithGossipSubProtocols([]protocol.ID{hosttest.Gossip}, pubsub.GossipSubDefaultFeatures),
		pubsub.WithFloodPublish(true))
	if err != nil {
		return err
	}
	if n.topic, err = ps.Join(bareTopic); err != nil {
		return err
	}
	subscription, err := n.topic.Subscribe()
	if err != nil {
		return err
	}
	go func() {
		for {
			m, err := subscription.Next(ctx)
			if err != nil {
				return
			}
			if m.ReceivedFrom != n.host.ID() {
				n.say(&nodetest.Seen{At: time.Now().UnixNano(), ID: bareID(m.GetData()), Verdict: "accept"})
			}
		}
	}()
	if err := n.host.Identify(); err != nil {
		return err
	}
	return n.host.Listen(n.config.Listen)
}

// connect dials whom it is told to, and says when it gossips with everybody.
func (n *bareNode) connect(ctx context.Context) {
	for _, p := range n.config.Dial {
		for {
			if _, err := n.host.Meet(ctx, p.Public, p.Address); err == nil || ctx.Err() != nil {
				break
			}
			pause(ctx, 100*time.Millisecond)
		}
	}
	for len(n.topic.ListPeers()) < n.config.Nodes-1 && ctx.Err() == nil {
		pause(ctx, 50*time.Millisecond)
	}
	n.say(&nodetest.Seen{At: time.Now().UnixNano(), Channel: bareReady})
}

func (n *bareNode) say(s *nodetest.Seen) {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // our own shape
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, _ = os.Stdout.Write(append(b, '\n'))
}

func bareID(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// startBare starts bare nodes, each connected with each, and waits until they
// gossip. places are where they listen.
func startBare(ctx context.Context, places []place) (nodes []*talker, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = stopTalkers(nodes)
		}
	}()
	var met []barePeer
	for i, at := range places {
		seed := sha256.Sum256(fmt.Append(nil, "bare ", i))
		config, err := json.Marshal(&bareConfig{Seed: seed[:], Listen: at.address, Nodes: len(places), Dial: met})
		if err != nil {
			return nodes, err
		}
		t, err := startTalker(fmt.Sprintf("bare %d", i), at.address, at.space, filepath.Clean(self), bareCommand)
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, t)
		if _, err := t.orders.Write(append(config, '\n')); err != nil {
			return nodes, err
		}
		public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
		met = append(met, barePeer{Public: public, Address: at.address})
	}
	return nodes, await(ctx, fleetLimit, func() error {
		for _, t := range nodes {
			if err := t.ended(); err != nil {
				return fatal(err)
			}
			t.mu.Lock()
			ready := t.ready
			t.mu.Unlock()
			if !ready {
				return fmt.Errorf("%s does not gossip with all others", t.name)
			}
		}
		return nil
	})
}

func stopTalkers(list []*talker) error {
	var children []*process
	for _, t := range list {
		_ = t.orders.Close() // a bare node ends with its input
		children = append(children, t.process)
	}
	return stopAll(children)
}
