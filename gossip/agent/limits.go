package agent

import "time"

// The bounds of an agent. What they come to at 20 nodes and at 5,000 is in
// DESIGN.md.
const (
	maxConfigBytes = 1 << 20
	maxServers     = 31
	maxPeers       = 256
	maxLinks       = 64 // declared links of one node; the rules allow as many
	minWorkFactor  = 10 // of key files, as ledger/keys has it
	maxWorkFactor  = 20

	// Rotation of the node's key.
	keysEvery   = time.Minute      // a look at what is due, beside every change of the view
	behindDelay = 30 * time.Second // at most, for who could not rotate when it was due
	backupDelay = 10 * time.Minute // at most, for backups that a whole fleet makes anew

	minBackupShares = 2
	sayAgain        = 3 // epochs after a backup or a destruction was said, if the ledger has it not

	// Change of the peer key.
	changePatience = 5 * time.Second // for the new mesh to find half of its peers
	changeLook     = 50 * time.Millisecond
	changeLinger   = 3 * time.Second // of the old one, once the new one listens
	changeAgain    = time.Minute     // after one that failed
	listenPatience = 3 * time.Second
	listenPause    = 100 * time.Millisecond
	listenAgain    = time.Second // while this node listens nowhere

	// The verified ledger.
	keptEntries     = 2_048   // newest certified entries, for peers that reach no replica
	keptEntryBytes  = 8 << 20 // and at most so much of them
	keptSeals       = 4_096   // sizes and roots, against which heads are compared
	keptHeads       = 64      // with their notes, of some 25 kB each
	keptProvisions  = 128     // states after seals that are not certified yet; they share all but what changed
	keptClaims      = 16      // certified heads of others that are ahead of ours
	unpackedKeys    = 64      // of about 40 kB each
	keptEquivocated = 16      // pairs of inconsistent heads kept on disk

	// Gossip.
	publishHeadEvery = 30 * time.Second // at most one head of unchanged size
	memberAddresses  = 8

	// What is sent to the ledger.
	submitQueue   = 256 // statements of this node that wait
	proofQueue    = 64  // offences proven and not said yet
	relayQueue    = 256 // statements of others that wait
	keptTallies   = 8   // epochs of which our own words of a node are looked for
	renewMost     = 8   // times that one statement is signed anew, each for another epoch
	submitTimeout = 10 * time.Second
	relayDelay    = 2 * time.Second // the author's own submission goes first
	relaySoon     = time.Second     // of evidence
	proofTurns    = 3               // of those who watch the offender, before all others
	proofTurn     = 100 * time.Millisecond
	proofSpread   = 400 * time.Millisecond // of all others
	proofPatience = 30 * time.Second       // for evidence that is on its way
	proofRefused  = 3 * time.Second        // for the ledger to show why
	proofTries    = 3                      // before an epoch is waited, then 2, 4 and so on
	proofRests    = 9                      // doublings at most, which is half of as long as evidence counts

	// Statements of the next epoch, which wait for it; half of the mesh's judges.
	maxEarly      = 16
	maxEarlyHop   = 4
	earlyPatience = 3 * time.Second
	retryFirst    = 250 * time.Millisecond
	retryMost     = 15 * time.Second

	// Work of its own.
	probeTimeout    = 5 * time.Second
	probesAtOnce    = 16
	banEpochs       = 1_008            // as long as evidence counts
	maxBans         = 4_096            // offenders that are dropped before the ledger says so
	syncEvery       = 10 * time.Second // for the newest head, while replicas fail or max_head_age is short
	syncCalm        = 20 * time.Second // else
	cutOffAfter     = 20 * time.Second // of failures
	syncTimeout     = 20 * time.Second
	peerSyncTimeout = 10 * time.Second
	saveEvery       = time.Minute // of the verified state, and at once after a change of a standing
	saveSoonest     = 5 * time.Second

	// What other programs are told.
	maxHookTime      = time.Minute
	defaultHookTime  = 10 * time.Second
	hookOutputBytes  = 4 << 10
	localConnections = 64
	localTimeout     = 10 * time.Second
	localHeaderBytes = 16 << 10
	publishCheck     = time.Second
)

// What peers ask each other.
const (
	maxSyncRequestBytes  = 4 << 10
	maxSyncResponseBytes = 4 << 20
	syncEntriesBytes     = 2 << 20 // of entries in one answer; base64 makes a third more of it
	syncLinksBytes       = 512 << 10
	maxLinksPage         = 1_024
	maxStateBytes        = 256 << 20        // of a state that a peer gives, with recordAround for each record
	maxSyncRounds        = 256              // answers until a peer's head is reached
	maxReach             = 20               // peers that are asked for one head
	pinnedStates         = 2                // that peers are fetching
	pinnedPeers          = 64               // that may fetch at one time
	pinnedFor            = 2 * time.Minute  // from its first page to its last
	pinnedIdle           = 15 * time.Second // from one page to the next
	askPatience          = 30 * time.Second // for all entries that a peer gives at one time
	statePatience        = pinnedFor        // for all pages of a state
	peerEvery            = 5 * time.Second  // while no replica answers
)

const (
	busySpan = 100 * time.Millisecond // in which so many statements and entries
	busyAt   = 16                     // are worth more than one processor,
	busyFor  = 10 * time.Second       // and for so long after them
)

const (
	headJitter      = 150 * time.Millisecond
	doubtHeadAge    = 25 * time.Second        // of a head: then another replica is asked
	lagPatience     = 5 * time.Second         // for entries below a replica's head, before another is watched
	doubtPatience   = 1500 * time.Millisecond // the same, after entries that no head covers
	lagEntries      = 64                      // that are progress enough,
	lagMost         = 30 * time.Second        // for so long
	replicaPatience = 500 * time.Millisecond  // for a replica to bring what a peer's head shows
	recordAround    = 64                      // bytes of a record in an answer, beside key and value
)
