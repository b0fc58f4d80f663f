package main

import "time"

// Bounds of a stage.
const (
	stageLimit     = 90 * time.Second // of a whole stage, start and stop too
	startLimit     = 30 * time.Second // until four replicas are ready
	stopLimit      = 15 * time.Second // of one process, after SIGTERM
	patience       = 30 * time.Second // for what must happen
	pollHeads      = 100 * time.Millisecond
	maxHeads       = 4096
	moreFiles      = 64  // descriptors that an honest replica may have more at the end
	moreMemory     = 300 // MB that an honest replica may have more
	censorWithin   = 60 * time.Second
	failOverWithin = 75 * time.Second // a client waits 30 s for a slow server
	maxSkew        = 3 * time.Second  // of a scene's ledger
	lagRounds      = 10               // of a laggard, until the liar is asked for history
	replicaLogs    = 12               // lines of each log that a failed stage shows
)
