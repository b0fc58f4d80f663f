package main

import "time"

// The fleet, and its clock.
const (
	nodesOfFleet    = 20
	replicasOfFleet = 3
	operators       = 10
	tickMillis      = 2_000
	maxSkewMillis   = 3_000
	windowTicks     = 90 // an observation is worth saying for so long: longer than any fault lasts
	keyEpochs       = 8  // of a node's key
	rotateEpochs    = 4  // before its end, in which it is rotated
	lateEpochs      = 1
	graceEpochs     = 1
	leastReplica    = 16 // epochs of a replica's key
)

// Bounds of a run.
const (
	defaultEpochs = 100
	defaultEpoch  = 6 * time.Second
	leastEpoch    = 4 * time.Second
	longestEpoch  = 10 * time.Minute
	leastEpochs   = 24
	mostEpochs    = 1_000
	foundLimit    = 4 * time.Minute
	patience      = 60 * time.Second // for what must happen
	stopLimit     = 20 * time.Second
	commandLimit  = 90 * time.Second
	statusLimit   = 3 * time.Second
	judgeLimit    = 8 * time.Minute  // for settling, the export, verify and the judgements
	settleLimit   = 90 * time.Second // until everything said is certified everywhere
	overrun       = 16               // epochs that faults may take beyond the run
	clockPace     = 250 * time.Millisecond

	// Who is stopped or killed may have said something just before that nobody has yet.
	justBefore = 2 * time.Second

	cutAgents  = 5
	cutEpochs  = 2
	logLines   = 8
	shownLines = 12 // of faults of one kind
	maxLine    = 1 << 20
)
