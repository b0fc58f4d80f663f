package mesh

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Thresholds of a peer's score, and what moves it; DESIGN.md argues each.
const (
	gossipThreshold   = -10.0   // below: no ihave to it, none from it
	publishThreshold  = -50.0   // below: own messages are not pushed to it
	graylistThreshold = -1600.0 // below: its frames are dropped unread
	invalidWeight     = -100.0  // times the square of the invalid messages
	behaviourWeight   = -10.0
	scoreOfOutcast    = 4 * graylistThreshold
	decayEvery        = 10 * time.Second // what decays does so in minutes
)

// decay is what remains of a counter after decayEvery, so that it is over after d.
func decay(d time.Duration) float64 {
	return pubsub.ScoreParameterDecayWithBase(d, decayEvery, pubsub.DefaultDecayToZero)
}

// scoring is GossipSub's score, local to this node and never on the ledger. What
// counts is the committed reputation (P5), invalid messages (P4), and breaches of
// the protocol (P7).
func scoring(topics []string, reputation func(peer.ID) float64) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	params := &pubsub.PeerScoreParams{
		Topics:            map[string]*pubsub.TopicScoreParams{},
		TopicScoreCap:     10,
		AppSpecificScore:  reputation,
		AppSpecificWeight: 1,
		// Identities are given by the ledger, so many at one address are no sybils.
		IPColocationFactorWeight:  0,
		BehaviourPenaltyWeight:    behaviourWeight,
		BehaviourPenaltyThreshold: 6,
		BehaviourPenaltyDecay:     decay(10 * time.Minute),
		DecayInterval:             decayEvery,
		DecayToZero:               pubsub.DefaultDecayToZero,
		RetainScore:               time.Hour, // who reconnects is not forgiven by it
	}
	for _, topic := range topics {
		params.Topics[topic] = &pubsub.TopicScoreParams{
			TopicWeight: 1,
			// P1: a little for staying.
			TimeInMeshWeight: 0.01, TimeInMeshQuantum: time.Second, TimeInMeshCap: 300,
			// P2: a little for being first, so little that nobody buys invalid messages with it.
			FirstMessageDeliveriesWeight: 0.1, FirstMessageDeliveriesCap: 20,
			FirstMessageDeliveriesDecay: decay(10 * time.Minute),
			// P3: off. Our topics are quiet, and silence on them is no fault.
			// P4: the fifth invalid message is the last that is looked at.
			InvalidMessageDeliveriesWeight: invalidWeight,
			InvalidMessageDeliveriesDecay:  decay(time.Hour),
		}
	}
	return params, &pubsub.PeerScoreThresholds{
		GossipThreshold: gossipThreshold, PublishThreshold: publishThreshold, GraylistThreshold: graylistThreshold,
		AcceptPXThreshold: 1e9, OpportunisticGraftThreshold: 5,
	}
}

// scoreOf is P5: 0 at a reputation of 3,000 basis points, where quarantine
// begins, and 70 at 10,000. Who does not gossip is far below the graylist.
func scoreOf(m Member, known bool) float64 {
	if !known || m.Standing != Active {
		return scoreOfOutcast
	}
	return max(0, min(70, (float64(m.Reputation)-3_000)/100))
}
