package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/quorate/quorate/test/nodetest"
)

// broadcastResults is how long a message takes from one node to 19 others, in the
// agents and in a bare GossipSub, message by message in turn.
type broadcastResults struct {
	Nodes    int             `json:"nodes"`
	Messages int             `json:"messages"` // of each
	Bytes    int             `json:"bytes"`    // of a message
	Line     string          `json:"line"`
	How      string          `json:"how,omitempty"` // the line was made
	Agents   *broadcastTimes `json:"agents"`
	Bare     *broadcastTimes `json:"bare_gossipsub"`
}

// broadcastTimes counts from before a node publishes until another let the message
// pass: each of the 19, and the last of them.
type broadcastTimes struct {
	Each *spread `json:"each"`
	Last *spread `json:"last"`
	Lost int     `json:"lost"` // messages that did not reach everybody: 0, or the section fails
	// Known are copies that came to a node which had the statement from the ledger
	// by then; they count.
	Known int `json:"known_from_the_ledger"`
	// CPU is the processor time of one node for one message, in microseconds, above
	// what it takes at rest. 0: not measured.
	CPU float64 `json:"cpu_us,omitempty"`
}

// broadcast is one message on its way.
type broadcast struct {
	id   string
	from *talker
}

const (
	broadcastPace  = 40 * time.Millisecond // between two messages, of which every other is bare
	broadcastRest  = 4 * time.Second       // the idle time that is compared
	broadcastLimit = 30 * time.Second      // for the last ones to come
	// What was said goes to the ledger a little before the agents would bring it
	// there for its author (relayDelay of gossip/agent), so that they need not, and
	// know it by gossip alone.
	broadcastBrought = 1500 * time.Millisecond
)

// broadcasts measures on loopback.
func (b *bench) broadcasts(ctx context.Context) error {
	s, err := b.speaking(ctx)
	if err != nil {
		return err
	}
	messages := 200
	if b.quick {
		messages = 40
	}
	b.results.Broadcast, err = s.broadcast(ctx, messages, broadcastPace)
	if r := b.results.Broadcast; r != nil {
		b.note("broadcast to %d: p50 %.1f ms p99 %.1f ms; bare GossipSub p50 %.1f ms p99 %.1f ms", r.Nodes-1, r.Agents.Each.P50, r.Agents.Each.P99, r.Bare.Each.P50, r.Bare.Each.P99)
	}
	return err
}

// broadcast sends so many messages through agents and bare nodes in turn.
func (s *speakers) broadcast(ctx context.Context, messages int, pace time.Duration) (*broadcastResults, error) {
	out := &broadcastResults{Nodes: len(s.agents), Messages: messages, Line: "loopback"}
	idle, bareIdle := totals(s.agents), totals(s.bare)
	pause(ctx, broadcastRest)
	idle, bareIdle = (totals(s.agents)-idle)/broadcastRest.Seconds(), (totals(s.bare)-bareIdle)/broadcastRest.Seconds()

	began, used, bareUsed := time.Now(), totals(s.agents), totals(s.bare)
	var ours, theirs []broadcast
	var waiting [][]byte // for the ledger
	for i := range messages {
		envelope, id, err := s.observes(s.herald(i), s.nodes[i%fleetAgents].Name)
		if err != nil {
			return nil, err
		}
		from := s.agents[i%len(s.agents)]
		if err := from.order(&nodetest.Order{Publish: envelope}); err != nil {
			return nil, err
		}
		ours, out.Bytes = append(ours, broadcast{id, from}), len(envelope)
		pause(ctx, pace)
		data := make([]byte, len(envelope))
		_, _ = rand.Read(data)
		from = s.bare[i%len(s.bare)]
		if err := from.order(&nodetest.Order{Publish: data}); err != nil {
			return nil, err
		}
		theirs = append(theirs, broadcast{bareID(data), from})
		pause(ctx, pace)
		if waiting = append(waiting, envelope); time.Duration(len(waiting))*2*pace > broadcastBrought {
			if err := s.submitAnywhere(ctx, waiting[0]); err != nil {
				return nil, err
			}
			waiting = waiting[1:]
		}
	}
	pause(ctx, broadcastBrought)
	if err := s.submitAnywhere(ctx, waiting...); err != nil {
		return nil, err
	}
	out.Agents, out.Bare = timesOf(ctx, s.agents, ours), timesOf(ctx, s.bare, theirs)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	seconds, each := time.Since(began).Seconds(), 1e6/float64(messages*len(s.agents))
	out.Agents.CPU = (totals(s.agents) - used - idle*seconds) * each
	out.Bare.CPU = (totals(s.bare) - bareUsed - bareIdle*seconds) * each
	if lost := out.Agents.Lost + out.Bare.Lost; lost > 0 {
		return out, fmt.Errorf("%d messages of the agents and %d of the bare GossipSub did not reach everybody", out.Agents.Lost, out.Bare.Lost)
	}
	return out, nil
}

// totals is the processor time of all, in seconds.
func totals(list []*talker) float64 {
	var sum time.Duration
	for _, t := range list {
		sum += t.processorTime()
	}
	return sum.Seconds()
}

// timesOf waits for messages to reach everybody.
func timesOf(ctx context.Context, all []*talker, sent []broadcast) *broadcastTimes {
	var each, last []time.Duration
	out := &broadcastTimes{}
	ctx, cancel := context.WithTimeout(ctx, broadcastLimit)
	defer cancel()
	for _, m := range sent {
		if await(ctx, broadcastLimit, func() error { return arrived(all, m.from, m.id) }) != nil {
			out.Lost++
			continue
		}
		longest := time.Duration(0)
		published := m.from.when(m.from.published, m.id)
		for _, t := range all {
			if t != m.from {
				took := time.Duration(t.arrival(m.id) - published)
				if t.when(t.accepted, m.id) == 0 {
					out.Known++
				}
				each, longest = append(each, took), max(longest, took)
			}
		}
		last = append(last, longest)
	}
	out.Each, out.Last = spreadOf(each), spreadOf(last)
	return out
}
