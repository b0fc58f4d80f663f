package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const benchNodes = 20

// BenchmarkBroadcast publishes statements one after the other to 19 others, in
// the mesh and in a bare GossipSub on the same hosts: without validation, scores
// or limits. It reports latency to each node, and the processor time of all 20
// nodes for one broadcast.
func BenchmarkBroadcast(b *testing.B) {
	b.Run("mesh", func(b *testing.B) {
		f := newFleet(b, benchNodes, 5)
		f.run(b)
		measure(b, func(n int) (data []byte, arrived func(i int) (time.Time, bool)) {
			s := f.stations[n%benchNodes]
			data = s.statement(n)
			if err := s.Publish(b.Context(), Statements, data); err != nil {
				b.Fatal(err)
			}
			return data, func(i int) (time.Time, bool) {
				if f.stations[i] == s {
					return time.Time{}, true
				}
				return f.stations[i].court.has(data)
			}
		})
	})
	b.Run("bare", func(b *testing.B) {
		bare := newBare(b)
		signer := newFleet(b, 1, 1).stations[0]
		measure(b, func(n int) ([]byte, func(int) (time.Time, bool)) {
			data := signer.statement(n)
			if err := bare[n%benchNodes].topic.Publish(b.Context(), data); err != nil {
				b.Fatal(err)
			}
			return data, func(i int) (time.Time, bool) { return bare[i].has(data) }
		})
	})
}

// measure runs b.N broadcasts.
func measure(b *testing.B, broadcast func(n int) ([]byte, func(i int) (time.Time, bool))) {
	var latencies []time.Duration
	used := processorTime()
	b.ResetTimer()
	for n := range b.N {
		sent := time.Now()
		_, arrived := broadcast(n)
		for i := range benchNodes {
			var at time.Time
			eventually(b, 10*time.Second, "it arrives", func() (ok bool) { at, ok = arrived(i); return ok })
			if !at.IsZero() {
				latencies = append(latencies, at.Sub(sent))
			}
		}
		time.Sleep(10 * time.Millisecond) // below an author's rate
	}
	b.StopTimer()
	slices.Sort(latencies)
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1_000, "p50-ms")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds())/1_000, "p99-ms")
	b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N)/1_000, "cpu-ms/broadcast")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareNode is GossipSub and nothing of ours but the host.
type bareNode struct {
	host  *intruder
	topic *pubsub.Topic

	mu   sync.Mutex
	seen map[[32]byte]time.Time
}

func (n *bareNode) has(data []byte) (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.seen[sha256.Sum256(data)]
	return at, ok
}

func newBare(b *testing.B) []*bareNode {
	var nodes []*bareNode
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	for i := range benchNodes {
		seed := sha256.Sum256(fmt.Appendf(nil, "bare %d", i))
		in := newIntruder(b, ed25519.NewKeyFromSeed(seed[:]))
		ps, err := pubsub.NewGossipSub(ctx, in, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(contentID),
			pubsub.WithGossipSubProtocols([]protocol.ID{gossipProtocol}, pubsub.GossipSubDefaultFeatures))
		if err != nil {
			b.Fatal(err)
		}
		n := &bareNode{host: in, seen: map[[32]byte]time.Time{}}
		if n.topic, err = ps.Join("t"); err != nil {
			b.Fatal(err)
		}
		sub, err := n.topic.Subscribe()
		if err != nil {
			b.Fatal(err)
		}
		readers.Go(func() {
			for {
				msg, err := sub.Next(ctx)
				if err != nil {
					return
				}
				n.mu.Lock()
				n.seen[sha256.Sum256(msg.Data)] = time.Now()
				n.mu.Unlock()
			}
		})
		in.identify.Start()
		at, err := listenMultiaddr("127.0.0.1:0")
		if err == nil {
			err = in.swarm.Listen(at)
		}
		if err != nil {
			b.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	b.Cleanup(func() { cancel(); readers.Wait() })
	connectBare(b, nodes)
	return nodes
}

// connectBare connects each with each.
func connectBare(b *testing.B, nodes []*bareNode) {
	for i, n := range nodes {
		for _, other := range nodes[:i] {
			at := other.host.swarm.ListenAddresses()
			n.host.Peerstore().AddAddrs(other.host.ID(), at, time.Hour)
			done := n.host.gate.aim(other.host.ID(), at)
			if _, err := n.host.swarm.DialPeer(b.Context(), other.host.ID()); err != nil {
				b.Fatal(err)
			}
			done()
		}
	}
	eventually(b, 20*time.Second, "all gossip with all", func() bool {
		return !slices.ContainsFunc(nodes, func(n *bareNode) bool { return len(n.topic.ListPeers()) < len(nodes)-1 })
	})
}
