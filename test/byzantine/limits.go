package main

import (
	"time"

	"github.com/quorate/quorate/test/stagehand"
)

// Bounds of a stage.
const (
	stageLimit       = 90 * time.Second // of a whole stage, start and stop too
	startLimit       = 30 * time.Second // until four replicas are ready
	stopLimit        = 15 * time.Second // of one process, after SIGTERM
	patience         = stagehand.Patience
	pollHeads        = 100 * time.Millisecond
	maxHeads         = 4096
	moreFiles        = 64  // descriptors that an honest replica may have more at the end
	moreMemory       = 300 // MB that an honest replica may have more
	censorWithin     = 60 * time.Second
	failOverWithin   = 75 * time.Second // a client waits 30 s for a slow server
	maxSkew          = 3 * time.Second  // of a scene's ledger
	lagRounds        = 10               // of a laggard, until the liar is asked for history
	nodeStageLimit   = 3 * time.Minute  // of a whole attack by nodes
	auditKeys        = 256              // unpacked keys of the auditor
	signatureBytes   = 3_309            // of ML-DSA-65, the end of an envelope
	forgeRounds      = 10
	replayRounds     = 8
	floodWaves       = 6  // epochs in which a node floods, until it is out
	floodAtOnce      = 16 // submissions of the flooder
	floodBundle      = 64
	accuseEpochs     = 3
	aloneEpochs      = 24 // of one slanderer, which is drawn in half of them
	onOffRounds      = 12
	onOffPause       = 8 // epochs from offence to offence
	earlyLife        = 5 * time.Second
	laterLife        = 30 * time.Second
	afterLife        = 20 * time.Second
	agentQuota       = 4096
	heraldSpare      = 8
	enoughPeers      = 8
	rogueDial        = 5 * time.Second
	heraldPace       = 100 * time.Millisecond
	heraldShare      = 30
	chatterTime      = 2 * time.Second
	chatterPace      = 20 * time.Millisecond
	dropBound        = time.Second // from the evidence to the last agent, p99
	gossipRounds     = 20
	floodFrame       = 64 // statements in one frame
	malformedRounds  = 3
	moreAgentMemory  = 64 // MB
	knocks           = 10_000
	knocksAtOnce     = 64
	strangers        = 40
	siegeConnections = 4       // to one agent, of each host
	maxHeardFrame    = 1 << 20 // of gossip, that an insider reads
	maxHeard         = 8_192   // messages that it keeps
	replayShare      = 40      // statements heard before they are sent again
	accusedTicks     = 8       // that an accusation goes back
	replayElsewhere  = 4       // of each kind, on channels that they were not made for
	fleetEpoch       = time.Hour
	watchedEpoch     = 3 * time.Minute
	forkAhead        = 12 // entries, beyond the newest head
	siegeContacts    = 12 // of the coalition, that besieged agents know
	siegeComplete    = 3 * time.Second
	siegePause       = time.Second
	diaryPace        = 100 * time.Millisecond
	stageHeadAge     = 10 * time.Second
	trafficPace      = 50 * time.Millisecond
	trafficAtOnce    = 32
	trafficBefore    = 60 // honest statements before an attack begins
	trafficDuring    = 60
	trafficBound     = 2 * time.Second // what an attack may make of their p99
	replicaLogs      = 12              // lines of each log that a failed stage shows
)
