package main

import "time"

const (
	disruptEvery = 100 * time.Millisecond
	claimEvery   = 20 * time.Millisecond
	postLimit    = 5 * time.Second // of one request of the liar's own

	maxSubmit    = 32 << 20  // of a forwarded submission
	maxPour      = 256 << 20 // of an answer without end
	maxTaken     = 32 << 20  // of one, by a caller that cuts it off: 4 MB, and what lies in buffers
	forgedEvents = 4         // entries that one watcher is given
	floodStreams = 4         // of each kind, to each peer

	maxDeeds = 256      // kinds of acts that are told of
	maxHeard = 1 << 16  // cosignatures remembered
	maxBody  = 64 << 10 // of a cosignature
)

// The routes of the peer service that lies are about.
const (
	pathCosignature  = "/cosignature"
	pathCosignatures = "/cosignatures"
	pathCheckpoint   = "/checkpoint"
	pathMine         = "/mine"
	pathEntries      = "/entries"
	pathAuthority    = "/authority"
	pathSubmit       = "/submit"
	pathElection     = "/election"
)
