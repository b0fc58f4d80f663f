package main

import "time"

const (
	disruptEvery = 100 * time.Millisecond
	postLimit    = 5 * time.Second // of one request of the liar's own

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
)
