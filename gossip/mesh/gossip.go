package mesh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/quorate/quorate/ledger/keys"
)

const gossipProtocol = protocol.ID("/meshsub/1.2.0") // the one version spoken

var errFrame = errors.New("the frame is dropped")

// channel is what is bounded about one topic.
type channel struct {
	topic  Topic
	wire   string
	size   int                 // most bytes of a message
	hops   *allowance[peer.ID] // messages from one peer
	places *places             // of what waits to be judged
	judge  func(Judge, Member, []byte) Verdict
	handle *pubsub.Topic
}

func channels(ledger string) []*channel {
	wire := func(t Topic) string { return "/quorate/" + ledger + "/" + string(t) + "/1" }
	return []*channel{
		{
			topic: Statements, wire: wire(Statements), size: MaxStatementBytes, judge: Judge.Statement,
			hops:   newAllowance[peer.ID](statementsPerHop, statementsPerHopBurst, maxTrackedPeers),
			places: newPlaces(statementPlaces, statementCost),
		},
		{
			topic: Heads, wire: wire(Heads), size: MaxHeadBytes, judge: Judge.Head,
			hops:   newAllowance[peer.ID](headsPerHop, headsPerHopBurst, maxTrackedPeers),
			places: newPlaces(headPlaces, headCost),
		},
		{
			topic: Entries, wire: wire(Entries), size: MaxEntriesBytes, judge: Judge.Entries,
			hops:   newAllowance[peer.ID](entriesPerHop, entriesPerHopBurst, maxTrackedPeers),
			places: newPlaces(entryPlaces, entryCost),
		},
	}
}

func (m *Mesh) channel(wire string) *channel {
	for _, c := range m.channels {
		if c.wire == wire {
			return c
		}
	}
	return nil
}

// topicOf is the topic of a wire name, "" for one that is not ours.
func (m *Mesh) topicOf(wire string) Topic {
	if c := m.channel(wire); c != nil {
		return c.topic
	}
	return ""
}

// joinGossip starts GossipSub on h. It ends with ctx and with h.
func (m *Mesh) joinGossip(ctx context.Context, h *host) error {
	var topics []string
	queue := 0
	for _, c := range m.channels {
		topics = append(topics, c.wire)
		queue += c.places.most(maxConnections)
	}
	params, thresholds := scoring(topics, func(p peer.ID) float64 { return scoreOf(m.find(p)) })
	quiet := slog.New(slog.DiscardHandler) // it logs what peers do, by their ids, at every turn
	ps, err := pubsub.NewGossipSub(ctx, h,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(m.messageID),
		pubsub.WithGossipSubProtocols([]protocol.ID{gossipProtocol}, pubsub.GossipSubDefaultFeatures),
		pubsub.WithBlacklist(blacklist{m}),
		pubsub.WithPeerScore(params, thresholds),
		pubsub.WithPeerExchange(false), pubsub.WithFloodPublish(true),
		pubsub.WithMaxMessageSize(maxRPCBytes), pubsub.WithMaxControlMessageSize(maxControlBytes),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		// Whatever holds a place has room in the queue, and is judged by one of its workers.
		pubsub.WithValidateQueueSize(queue), pubsub.WithValidateWorkers(judgesAtOnce),
		pubsub.WithSeenMessagesTTL(seenTTL),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(topics...), maxTopics)),
		pubsub.WithAppSpecificRpcInspector(m.inspect),
		pubsub.WithRawTracer(&tracer{m}), pubsub.WithLogger(quiet), pubsub.WithRPCLogger(quiet))
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	for _, c := range m.channels {
		if err := m.join(ps, c); err != nil {
			return fmt.Errorf("join %s: %w", c.topic, err)
		}
	}
	return nil
}

// join relays a topic. Nothing subscribes: what the judge accepted, it has seen.
func (m *Mesh) join(ps *pubsub.PubSub, c *channel) error {
	validate := func(_ context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		defer c.places.leave(msg.Message)
		return m.validate(c, from, msg.GetData())
	}
	// Inline: a validator with a goroutine of its own is given up when there are too
	// many of them, after its message was marked as seen.
	if err := ps.RegisterTopicValidator(c.wire, validate, pubsub.WithValidatorInline(true)); err != nil {
		return err
	}
	handle, err := ps.Join(c.wire)
	if err != nil {
		return err
	}
	if _, err := handle.Relay(); err != nil {
		return err
	}
	c.handle = handle
	return nil
}

// contentID is a hash of the content, so that a message is one however often and
// by whomever it is published.
func contentID(msg *pb.Message) string {
	h := sha256.New()
	h.Write([]byte(msg.GetTopic()))
	h.Write([]byte{0})
	h.Write(msg.GetData())
	return string(h.Sum(nil))
}

// messageID gives a message's id. GossipSub asks for it when it goes on with a
// message that inspect let through.
func (m *Mesh) messageID(msg *pb.Message) string {
	if c := m.channel(msg.GetTopic()); c != nil {
		c.places.take(msg)
	}
	return contentID(msg)
}

// inspect bounds what one peer may say, before any of it is hashed or marked as
// seen: a relay that exceeds its rate loses its own copies only. It is called by
// GossipSub's loop, one frame at a time, and cuts the frame down in place.
func (m *Mesh) inspect(from peer.ID, rpc *pubsub.RPC) error {
	for _, c := range m.channels {
		c.places.next()
	}
	if member, ok := m.find(from); !ok || member.Standing != Active {
		m.metrics.dropped("standing")
		return errFrame
	}
	now := time.Now()
	if !m.rpcs.allow(from, now) {
		m.metrics.dropped("rate")
		return errFrame
	}
	// GossipSub's scores end this sooner for whoever identifies itself; they do not
	// know a hop that never does.
	if !m.rejects.has(from, now) {
		m.metrics.dropped("rejects")
		return errFrame
	}
	control := rpc.GetControl()
	if len(rpc.GetPublish()) > maxMessagesPerRPC ||
		len(control.GetGraft())+len(control.GetPrune())+len(control.GetIhave())+len(control.GetIwant())+len(control.GetIdontwant()) > maxControlParts {
		m.metrics.dropped("rate")
		return errFrame
	}
	if m.config.Observe != nil && hasControl(rpc) {
		key, _ := keyOf(from)
		m.config.Observe(Frame{Direction: Received, Channel: GossipControl, Peer: key, Internal: true})
	}
	if slices.ContainsFunc(rpc.GetSubscriptions(), func(s *pb.RPC_SubOpts) bool { return s.GetSubscribe() && m.channel(s.GetTopicid()) != nil }) {
		m.told(from)
	}
	kept := rpc.Publish[:0]
	for _, message := range rpc.GetPublish() {
		if reason := m.admit(from, message, now); reason != "" {
			m.metrics.dropped(reason)
			continue
		}
		kept = append(kept, message)
	}
	rpc.Publish = kept
	return nil
}

// admit says why a message is dropped unseen, or "" if it is not.
func (m *Mesh) admit(from peer.ID, message *pb.Message, now time.Time) (reason string) {
	c := m.channel(message.GetTopic())
	if c == nil {
		return "topic"
	}
	by := line{hop: from}
	if c.topic == Statements {
		// What does not parse is for validate to reject.
		if envelope, err := keys.ViewEnvelope(message.GetData()); err == nil {
			by.author = envelope.KeyID
		}
		// No honest hop passes on more of an author than validate lets pass. The rest
		// does not use up what the hop may bring of others.
		if !m.lines.allow(by, now) {
			return "author"
		}
	}
	switch {
	case !c.hops.allow(from, now):
		return "rate"
	case !c.places.enter(message, by):
		return "places"
	}
	return ""
}

// validate has one message judged.
func (m *Mesh) validate(c *channel, from peer.ID, data []byte) pubsub.ValidationResult {
	if from == m.id {
		return pubsub.ValidationAccept // Publish looked at its size; our own judge wrote it
	}
	verdict := m.judge(c, from, data)
	m.metrics.judged(c.topic, verdict)
	if m.config.Observe != nil {
		key, _ := keyOf(from)
		m.config.Observe(Frame{Direction: Received, Channel: string(c.topic), Peer: key, Verdict: verdict, Data: data})
	}
	switch verdict {
	case Accept:
		return pubsub.ValidationAccept
	case Reject:
		m.rejects.allow(from, time.Now())
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

func (m *Mesh) judge(c *channel, from peer.ID, data []byte) Verdict {
	member, ok := m.find(from)
	switch {
	case !ok || member.Standing != Active: // since it was inspected
		return Ignore
	case len(data) == 0 || len(data) > c.size:
		return Reject
	}
	var author keys.ID
	if c.topic == Statements {
		envelope, err := keys.ViewEnvelope(data)
		if err != nil {
			return Reject // every relay parses before it passes on
		}
		// Only what was found to be signed by an author counts against it, so nobody
		// uses up another's allowance.
		if author = envelope.KeyID; !m.authors.has(author, time.Now()) {
			m.metrics.dropped("author")
			return Ignore
		}
	}
	began := time.Now()
	verdict := c.judge(m.config.Judge, member, data)
	m.metrics.judging.WithLabelValues(string(c.topic)).Observe(time.Since(began).Seconds())
	if verdict == Accept && c.topic == Statements && !m.authors.allow(author, time.Now()) {
		m.metrics.dropped("author")
		return Ignore
	}
	return verdict
}

// blacklist is what the ledger says: GossipSub asks it of new peers, of streams
// and of messages. Nothing is ever added to it by hand.
type blacklist struct{ m *Mesh }

// Add does nothing.
func (blacklist) Add(peer.ID) bool { return false }

// Contains says that p does not gossip. Messages have no author here: "".
func (b blacklist) Contains(p peer.ID) bool {
	if p == "" || p == b.m.id {
		return false
	}
	member, ok := b.m.find(p)
	return !ok || member.Standing != Active
}
