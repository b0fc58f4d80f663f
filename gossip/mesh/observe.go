package mesh

import (
	"crypto/ed25519"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Direction is which way a frame went.
type Direction string

// The directions.
const (
	Sent     Direction = "sent"
	Received Direction = "received"
)

// Frame is what Config.Observe is shown: everything that an application put into
// the mesh or was given by it, and what the channel does by itself.
type Frame struct {
	Direction Direction
	// Channel is a Topic, a protocol id, or GossipControl.
	Channel string
	Peer    ed25519.PublicKey // the other end
	// Internal frames carry no control message of quorate: see InternalChannels.
	Internal bool
	// Opened is set when a stream of protocol Channel was opened; such a frame has
	// no data.
	Opened bool
	// Verdict is set on gossip received.
	Verdict Verdict
	// Data is the frame; not to be kept without a copy. Empty if Internal, but
	// for ProtocolPeers.
	Data []byte
}

// Names of what is not a topic.
const (
	ProtocolProbe  = "/quorate/probe/1" // probe and ack: signed envelopes
	ProtocolShared = "/quorate/probe/2" // the same; one probe may ask several members
	ProtocolSync   = "/quorate/sync/1"  // request, and what the ledger certified
	ProtocolPeers  = "/quorate/peers/1" // addresses of members
	GossipControl  = "gossipsub-control"
)

// CarriesStatements reports whether what goes over a protocol is control messages.
func CarriesStatements(id string) bool {
	return id == ProtocolProbe || id == ProtocolShared || id == ProtocolSync
}

// InternalChannels is the closed list of what goes over a connection without a
// statement's signature, beside TLS and yamux themselves: identify (protocols that
// a peer speaks), GossipSub's own stream and its control (subscriptions, graft,
// prune, ihave, iwant, idontwant), and addresses, which are hints that only a
// handshake with the right key makes true.
func InternalChannels() []string {
	return []string{
		"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0",
		"/meshsub/1.2.0", GossipControl, ProtocolPeers,
	}
}

// tracer hears from GossipSub what goes in and out. Its methods are called with
// GossipSub's loop waiting.
type tracer struct{ m *Mesh }

var _ pubsub.RawTracer = (*tracer)(nil)

func (t *tracer) show(f Frame, p peer.ID) {
	f.Peer, _ = keyOf(p)
	t.m.config.Observe(f)
}

// SendRPC is called for each frame before it is queued.
func (t *tracer) SendRPC(rpc *pubsub.RPC, p peer.ID) {
	for _, message := range rpc.GetPublish() {
		topic := t.m.topicOf(message.GetTopic())
		t.m.metrics.sent(topic, len(message.GetData()))
		if t.m.config.Observe != nil {
			t.show(Frame{Direction: Sent, Channel: string(topic), Data: message.GetData()}, p)
		}
	}
	if t.m.config.Observe != nil && hasControl(rpc) {
		t.show(Frame{Direction: Sent, Channel: GossipControl, Internal: true}, p)
	}
}

func hasControl(rpc *pubsub.RPC) bool {
	return rpc.GetControl() != nil || len(rpc.GetSubscriptions()) > 0
}

// DropRPC is called when a peer's queue is full.
func (t *tracer) DropRPC(*pubsub.RPC, peer.ID) { t.m.metrics.dropped("queue") }

// RejectMessage is called for what no validator saw, too.
func (t *tracer) RejectMessage(msg *pubsub.Message, reason string) {
	t.done(msg)
	switch reason {
	case pubsub.RejectValidationFailed, pubsub.RejectValidationIgnored: // counted by their verdict
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		t.m.metrics.dropped("validation-queue")
	case pubsub.RejectBlacklstedPeer:
		t.m.metrics.dropped("standing")
	default:
		t.m.metrics.dropped("envelope")
	}
}

// DuplicateMessage is called for what was seen before, or meanwhile.
func (t *tracer) DuplicateMessage(msg *pubsub.Message) { t.done(msg) }

// done frees the place of a message that is not judged.
func (t *tracer) done(msg *pubsub.Message) {
	if c := t.m.channel(msg.GetTopic()); c != nil {
		c.places.leave(msg.Message)
	}
}

// OnNewOutboundStream is called when GossipSub can speak to a peer.
func (t *tracer) OnNewOutboundStream(p peer.ID, _ protocol.ID) { t.m.speaks(p, true) }

// OnClosedOutboundStream is called when it no longer can.
func (t *tracer) OnClosedOutboundStream(p peer.ID) { t.m.speaks(p, false) }

// The rest of what GossipSub tells is of no interest.

func (t *tracer) RecvRPC(*pubsub.RPC)                                  {}
func (t *tracer) Join(string)                                          {}
func (t *tracer) Leave(string)                                         {}
func (t *tracer) Graft(peer.ID, string)                                {}
func (t *tracer) Prune(peer.ID, string)                                {}
func (t *tracer) ValidateMessage(*pubsub.Message)                      {}
func (t *tracer) DeliverMessage(*pubsub.Message)                       {}
func (t *tracer) ThrottlePeer(peer.ID)                                 {}
func (t *tracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t *tracer) UndeliverableMessage(*pubsub.Message)                 {}
