package sim

import "time"

// Bounds of this room.
const (
	minimumDelay  = 200 * time.Microsecond
	ordinaryDelay = 3 * time.Millisecond
	maxBacklog    = 512
	maxBuffered   = 64 << 20 // bytes on their way in one direction of a connection
	keptLines     = 4_096    // newest deliveries that a failure prints to its file

	submitLimit = 45 * time.Second
	readLimit   = 30 * time.Second
	resumeLimit = 5 * time.Minute // from healing to certified again
	stopLimit   = 2 * time.Minute

	memberLimit = 10 * time.Minute // from healing to a changed replica set that is whole
	returnLimit = 2 * time.Minute  // for whoever a recovery left out to find out

	nonceLife      = 20 * time.Minute
	keptStatements = 200              // for replays
	calm           = 10 * time.Minute // at the end of each round
	clients        = 3
	pace           = time.Minute
	lookEvery      = 5 * time.Minute

	maxSkew          = 10_000 // milliseconds: the policy's
	replicaKeyEpochs = 8      // after which a replica rotates its keys: little more than an hour
)

// The replicas' own timing: long, so that a virtual hour is cheap.
const (
	heartbeat     = 5 * time.Second
	election      = 10 * time.Second
	commitEvery   = time.Second // also how late a follower hears of a commit
	snapshotEvery = 10 * time.Minute
	leaderHold    = 30 * time.Second
	recosign      = time.Minute
	tickCheck     = 2 * time.Second
	pullEvery     = 5 * time.Second
	membership    = 5 * time.Second
	segmentBytes  = 256 << 10 // of raft-wal
	scrubEvery    = time.Minute
)
