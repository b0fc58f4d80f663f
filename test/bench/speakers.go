package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/quorate/quorate/gossip/mesh/hosttest"
	"github.com/quorate/quorate/test/nodetest"
)

// The fleet on which broadcasts, quarantines and the judge are measured: 20
// observers (the agent with a hook that says what it saw), as many bare nodes,
// and nodes without an agent that speak through others.
const (
	heralds   = 4  // whose statements are broadcast
	offenders = 12 // each equivocates once

	// A tick of an hour, so that nobody misses the nodes that run no agent while
	// something is measured. Nothing that is measured depends on ticks.
	fleetTickMillis = 3_600_000
)

var speakingPolicy = fmt.Sprintf("policy: {epoch_millis: 86400000, quota: 4294967296, tick_millis: %d}\n", fleetTickMillis)

// speakers is the fleet, and the bare nodes beside it.
type speakers struct {
	*fleet
	bare    []*talker
	courier *courier // nil until it is wanted
}

// speaking gives the fleet, which the sections share; the first that asks for it
// starts it, close ends it.
func (b *bench) speaking(ctx context.Context) (*speakers, error) {
	if b.speakers != nil {
		return b.speakers, nil
	}
	places, err := loopback(2 * fleetAgents)
	if err != nil {
		return nil, err
	}
	s, err := b.startSpeakers(ctx, "speakers", places[:fleetAgents], places[fleetAgents:], "")
	b.speakers = s
	return s, err
}

// startSpeakers starts one. What it gives is to be stopped even with an error.
func (b *bench) startSpeakers(ctx context.Context, name string, agents, bare []place, servers string) (s *speakers, err error) {
	s = &speakers{}
	s.fleet, err = b.foundFleet(ctx, name, speakingPolicy, heralds+offenders+1)
	if err != nil {
		return s, err
	}
	if s.fleet.servers = servers; servers != "" {
		if err := forward(ctx, servers, s.members); err != nil {
			return s, err
		}
	}
	if err := s.startAgents(ctx, agents, b.observer, "--out", "/dev/stdout"); err != nil {
		return s, err
	}
	if s.bare, err = startBare(ctx, bare); err != nil {
		return s, err
	}
	return s, s.warm(ctx)
}

func (s *speakers) stop() error {
	if s == nil {
		return nil
	}
	var errs []error
	if s.courier != nil {
		errs = append(errs, s.courier.host.Close())
	}
	return errors.Join(append(errs, stopTalkers(s.bare), s.fleet.stop())...)
}

// herald is the i-th node whose statements are broadcast; offender one that
// equivocates.
func (s *speakers) herald(i int) *nodetest.Node { return s.nodes[fleetAgents+i%heralds] }

func (s *speakers) offender(i int) *nodetest.Node { return s.nodes[fleetAgents+heralds+i] }

// warm broadcasts until three statements in a row have reached every agent: what is
// said before all have each other's subscriptions is lost.
func (s *speakers) warm(ctx context.Context) error {
	const row = 3
	reached := 0
	return await(ctx, fleetLimit, func() error {
		envelope, id, err := s.observes(s.herald(reached), s.nodes[reached].Name)
		if err != nil {
			return fatal(err)
		}
		from := s.agents[reached%len(s.agents)]
		if err := from.order(&nodetest.Order{Publish: envelope}); err != nil {
			return fatal(err)
		}
		if err := s.submitAnywhere(ctx, envelope); err != nil {
			return fatal(err)
		}
		if err := await(ctx, warmPatience, func() error { return arrived(s.agents, from, id) }); err != nil {
			reached = 0
			return err
		}
		if reached++; reached < row {
			return errors.New("gossip has only begun to reach everybody")
		}
		return nil
	})
}

const warmPatience = 2 * time.Second

// arrived says who has not let a message pass yet, and does not know it from the
// ledger either.
func arrived(all []*talker, from *talker, id string) error {
	for _, t := range all {
		if t != from && t.arrival(id) == 0 {
			return fmt.Errorf("%s has not got it", t.name)
		}
	}
	return nil
}

// arrival is when a message came to a node, 0 if it has not.
func (t *talker) arrival(id string) int64 {
	if at := t.when(t.accepted, id); at != 0 {
		return at
	}
	return t.when(t.known, id)
}

// submitAnywhere brings what was said to the ledger, as its author would, so that
// the agents need not.
func (s *speakers) submitAnywhere(ctx context.Context, envelopes ...[]byte) error {
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	for _, e := range envelopes {
		if err := s.submit(leader, e, ""); err != nil {
			return err
		}
	}
	return nil
}

// courier is a host with a node's legitimate peer key, and none of our rules: it
// gives a frame to one agent and to nobody else.
type courier struct {
	host    *hosttest.Host
	topic   string
	ids     []peer.ID // of the agents
	streams []*hosttest.Gossiper
}

// hire connects the courier with every agent.
func (s *speakers) hire(ctx context.Context) error {
	if s.courier != nil {
		return nil
	}
	node := s.nodes[len(s.nodes)-1]
	host, err := hosttest.New(node.Peer)
	if err != nil {
		return err
	}
	c := &courier{host: host, topic: "/quorate/" + s.genesis.String() + "/statements/1"}
	s.courier = c
	for i, t := range s.agents {
		id, err := host.Meet(ctx, s.nodes[i].Public(), t.address)
		if err != nil {
			return err
		}
		g, err := hosttest.OpenGossip(ctx, host, id, c.topic)
		if err != nil {
			return err
		}
		c.ids, c.streams = append(c.ids, id), append(c.streams, g)
	}
	return nil
}

// give hands messages to the i-th agent.
func (c *courier) give(i int, messages ...[]byte) error { return c.streams[i].Send(messages...) }
