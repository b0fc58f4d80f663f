package mesh

import "time"

// Bounds on what may be sent and what is taken from others.
const (
	// MaxStatementBytes holds the largest envelope of the ledger.
	MaxStatementBytes = 36_864
	// MaxHeadBytes holds a checkpoint with the lines of the largest threshold
	// and little else: 21 of 31 replicas at 4.5 KB.
	MaxHeadBytes = 131_072
	// MaxEntriesBytes holds the largest entry with its proof.
	MaxEntriesBytes = 131_072
	// MaxProbeBytes holds a node's largest envelope that is no evidence.
	MaxProbeBytes        = 10_240
	MaxSyncRequestBytes  = 16_384
	MaxSyncResponseBytes = 4 << 20

	maxRPCBytes     = 262_144 // one frame of GossipSub: messages and control
	maxControlBytes = 65_536  // of it, control
	maxTopics       = 8       // subscriptions in one frame
)

// Connections.
const (
	maxConnections         = 256 // in all
	maxInbound             = 192 // of these, dialled by others
	maxOutbound            = 128
	maxPerPeer             = 4  // two that crossed, and their successors
	maxPerIP               = 64 // members of one operator may share an address
	crowdedInbound         = 64 // from so many inbound ones on,
	maxPerOperator         = 8  // who has so many gets no more: sixteen operators leave places for others
	maxHalfOpen            = 128
	maxHalfOpenPerIP       = 16
	handshakesPerIP        = 8.0 // a second, from an address where no member is known
	handshakesPerIPBurst   = 32
	handshakesPerMemberIP  = 64.0 // from one where members were met
	handshakesMemberBurst  = 256
	handshakesStrange      = 64.0 // a second, from all addresses where none is known
	handshakesStrangeBurst = 128
	maxTrackedIPs          = 4_096
	acceptTimeout          = 5 * time.Second // TLS and the muxer, inbound
	dialTimeout            = 5 * time.Second
	negotiateTimeout       = 5 * time.Second // of one stream's protocol
	identifyTimeout        = 10 * time.Second
	keepAliveEvery         = 2 * time.Minute  // by the muxer, when nothing else comes; TCP's own is every 30 s
	measureEvery           = 10 * time.Minute // the round trip, which windows of streams grow by
)

// Streams and what they ask.
const (
	maxStreamsPerPeer    = 32
	maxStreams           = 2_048
	maxStreamWindow      = 1 << 20
	maxStreamMemory      = 48 << 20 // buffers of the muxer, all connections
	maxStreamMemoryPeer  = 8 << 20
	streamsPerPeer       = 16.0 // a second, inbound, any protocol
	streamsPerPeerBurst  = 64
	maxProbesAtOnce      = 64
	maxProbesAtOncePeer  = 4
	probesPerPeer        = 4.0
	probesPerPeerBurst   = 16
	probeTimeout         = 2 * time.Second
	maxSyncsAtOnce       = 4
	maxSyncsAtOncePeer   = 2
	syncsPerPeer         = 2.0
	syncsPerPeerBurst    = 32
	syncTimeout          = 20 * time.Second
	maxExchangesAtOnce   = 16
	exchangesPerPeer     = 0.1
	exchangesPeerBurst   = 4
	exchangeTimeout      = 5 * time.Second
	maxExchangeBytes     = 16_384
	maxExchangeMembers   = 64
	maxAnnouncedAddress  = 3
	maxHearsayAddresses  = 3
	maxConfiguredAddress = 4
	maxAddressBytes      = 260 // a DNS name, a colon and a port
)

// Gossip. Rates are a second; what exceeds them is dropped before it is marked
// as seen, so that another relay's copy still counts.
const (
	judgesAtOnce          = 32      // goroutines that judge
	statementPlaces       = 8 << 20 // bytes of statements that are judged or wait for it
	statementCost         = 1 << 10 // that each counts at least
	headPlaces            = 2 << 20
	headCost              = 128 << 10 // so heads never keep more than half of the judges
	entryPlaces           = 2 << 20
	entryCost             = 128 << 10
	outboundQueue         = 256
	seenTTL               = 2 * time.Minute
	rejectsPerHop         = 0.05 // a hop that says more of what is invalid is not heard
	rejectsPerHopBurst    = 16
	statementsPerHop      = 256.0
	statementsPerHopBurst = 1_024
	headsPerHop           = 4.0
	headsPerHopBurst      = 64
	entriesPerHop         = 128.0
	entriesPerHopBurst    = 1_024
	statementsPerAuthor   = 16.0
	statementsAuthorBurst = 128
	statementsPerLine     = 2 * statementsPerAuthor // of one author by one hop, as it comes
	statementsLineBurst   = 2 * statementsAuthorBurst
	maxTrackedAuthors     = 8_192
	maxTrackedLines       = 16_384
	maxTrackedPeers       = 1_024
	rpcsPerHop            = 512.0
	rpcsPerHopBurst       = 2_048
	maxMessagesPerRPC     = 512
	maxControlParts       = 1_024
)

// Peering.
const (
	targetPeers     = 24 // connected; all when there are fewer
	ownChoice       = 12 // of these, at least, dialled by us
	maxDialsAtOnce  = 8
	dialsPerTick    = 8
	peeringTick     = time.Second
	rejoinFirst     = 5 * time.Second // with a connection and no gossip, before it is connected anew; doubles
	rejoinEvery     = 5 * time.Second // links are looked at
	rejoinLast      = 2 * time.Minute
	backoffFirst    = time.Second
	backoffLast     = 2 * time.Minute
	exchangeEvery   = 5 * time.Minute
	settleTime      = 15 * time.Second // connections younger than this are not trimmed
	maxBookMembers  = 8_192
	memberIPKeptFor = time.Hour
	resolveTimeout  = 3 * time.Second
	trimAbove       = 160 // peers; those that nobody chose are closed down to it
)
