package main

import "time"

// Bounds of the rehearsal.
const (
	foundLimit    = 4 * time.Minute // of a fleet: scrypt for each of its keys, on a slow machine
	storyLimit    = 6 * time.Minute
	patience      = 60 * time.Second // for what must happen
	stopLimit     = 20 * time.Second
	channelLimit  = 2 * time.Minute // until who left may not ask replicas any more
	logOverlap    = 15 * time.Second
	reseatWait    = 20 * time.Second // so long that three governors can veto by hand on a busy machine
	rotationLimit = 4 * time.Minute  // until an agent or a replica has rotated its key by itself
	requestLimit  = 10 * time.Second
	commandLimit  = 90 * time.Second
	logLines      = 12 // of each log that a failed story shows

	maxAnswer = 16 << 20
	atOnce    = 2 // commands that a person's many keys take side by side

	workFactor      = "12" // log2 of scrypt's N: a rehearsal opens hundreds of key files
	thefts          = 5    // of one node, each time that it is just rotating
	besideTries     = 5    // of saying something beside an agent that uses the same key
	thiefStatements = 200
	thiefSubmitted  = 60 // of them, to replicas; agents judge all
	passphraseBytes = 18
	seedBytes       = 32 // of each of the log's keys
	bech32Sum       = 6  // letters
	nodesOfFleet    = 10
	replicasOfFleet = 4
)
