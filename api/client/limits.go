package client

import "time"

// The bounds of what the client takes from a server, and of its patience.
const (
	maxAnswerBytes  = 64 << 20 // one JSON answer
	maxProblemBytes = 64 << 10
	maxEventBytes   = 1 << 20 // one SSE event
	maxServers      = 64
	maxProofHashes  = 64
	maxErrorText    = 512

	attemptsPerCall = 8 // tries of one call, over all servers
	retryFirst      = 50 * time.Millisecond
	retryMost       = 2 * time.Second
	requestTimeout  = 30 * time.Second // of one try that does not block on purpose
	smallTimeout    = 5 * time.Second  // of one for a checkpoint or a link, in a first round
	blockingMargin  = 10 * time.Second // on top of the wait that the caller asked for
	watchSilence    = 45 * time.Second // three missed heartbeats: the stream is dead
	certifyPatience = 60 * time.Second // for a certified head over what was committed
	submitTimeout   = 60 * time.Second // the server gives up before
	leaderPatience  = 8 * time.Second  // for a leader: an election takes 1 to 3 s
	probeTimeout    = 2 * time.Second  // of asking a server whether it knows a leader

	maxStateBytes = 1 << 30          // of /v1/state: 50,000 nodes take about 300 MB
	maxStateLine  = 4 << 20          // one record
	stateTimeout  = 10 * time.Minute // for all of it
	stateSilence  = 30 * time.Second // between two records

	maxPins          = 128              // learned: the replicas' present and former TLS keys
	pinLinger        = 10 * time.Minute // a replica's former TLS key is taken so long
	introducePause   = 10 * time.Second // between two unpinned connections to a server for a proof of TLS keys
	introduceTimeout = 5 * time.Second  // of one

	maxStoryPages  = 4_096 // of a node's history: 16,384 entries each
	maxStoryEvents = 1_000 // of them, with their causes, in one story

	maxProvenKeyReads = 3  // of a key's records, for all of one moment
	keyStoryPages     = 4  // of the newest entries, for what a key signed last
	revokedStoryPages = 64 // for what is disputed of a revoked key

	// MaxEntriesPage is the most entries that one page of /v1/entries holds.
	MaxEntriesPage = 256
)
