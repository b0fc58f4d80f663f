package replica

import (
	"time"

	"github.com/quorate/quorate/ledger"
)

// Limits bounds every queue, list, message and wait of this room. A zero field
// takes its default.
type Limits struct {
	Pending      int           // submissions under way on this replica, of its own clients and forwarded
	PendingBytes int64         // and their envelopes, in bytes
	Forwarded    int           // submissions that this follower has at the leader
	LeaderHold   time.Duration // how long a submission waits for a leader
	Enqueue      time.Duration // how long a command waits for Raft's queue
	BusyRetry    time.Duration // what BusyError asks for

	SealedStates   int   // sealed, uncertified states kept
	SinceCommands  int   // commands kept after the newest certified seal
	SinceBytes     int64 // and their bytes; beyond either, no snapshot until a newer seal is certified
	SnapshotBytes  int64 // the largest snapshot that is read; proving one takes its size and its state in memory
	PeerConns      int   // accepted peer connections
	ConnsPerPeer   int   // and of one peer
	PeerBody       int64 // the largest request or answer of the peer service
	BackfillBatch  int   // entries in one answer
	PublicKeys     int   // unpacked public keys
	Recent         int   // accepted statements whose seq is remembered for whoever sends them again
	PendingHeads   int   // heads of one peer that wait for our own entries to catch up
	Cosigners      int   // cosignatures queued towards one peer
	SnapshotRetain int

	SealInterval   time.Duration // least time between routine seals
	SealGather     time.Duration // a routine seal waits this long for more entries
	UrgentInterval time.Duration // least time between urgent seals
	TickCheck      time.Duration
	Recosign       time.Duration // how often the current head is cosigned anew
	CertifyPull    time.Duration // how often missing cosignatures and checkpoints are asked for
	Membership     time.Duration
	PeerTimeout    time.Duration // one request of the peer service
	HandshakeLimit time.Duration
	ShutdownLimit  time.Duration
	OutOfTouch     time.Duration // without a leader for so long, the seeds are asked for the replica set
	ScrubInterval  time.Duration // one bundle of the history is read again each
	DiskStall      time.Duration // a write that takes longer makes its replica unfit to lead
	Linger         time.Duration // how long a removed replica may still talk to us
	PinLinger      time.Duration // how long one that rotated may still show its former certificate
	CensorLimit    time.Duration // how long a leader may leave a statement uncommitted that we would accept
}

func (l Limits) withDefaults() Limits {
	d := Limits{
		Pending: 2_048, PendingBytes: 64 << 20, Forwarded: 1_024,
		LeaderHold: 5 * time.Second, Enqueue: 2 * time.Second, BusyRetry: time.Second,
		SealedStates: 512, SinceCommands: 65_536, SinceBytes: 128 << 20,
		SnapshotBytes: 1 << 30, PeerConns: 256, ConnsPerPeer: 80, PeerBody: 32 << 20, BackfillBatch: 1_024,
		PublicKeys: 1_024, Recent: 65_536, PendingHeads: 64, Cosigners: 16, SnapshotRetain: 2,
		SealInterval: 250 * time.Millisecond, SealGather: 50 * time.Millisecond,
		UrgentInterval: 50 * time.Millisecond, TickCheck: 250 * time.Millisecond,
		Recosign: 10 * time.Second, CertifyPull: time.Second, Membership: time.Second,
		PeerTimeout: 10 * time.Second, HandshakeLimit: 5 * time.Second, ShutdownLimit: 10 * time.Second, Linger: 5 * time.Second, PinLinger: time.Minute, OutOfTouch: 30 * time.Second, DiskStall: 2 * time.Second, ScrubInterval: time.Second, CensorLimit: 10 * time.Second,
	}
	orInt(&l.Pending, d.Pending)
	orInt(&l.Forwarded, d.Forwarded)
	orInt(&l.SealedStates, d.SealedStates)
	orInt(&l.SinceCommands, d.SinceCommands)
	orInt(&l.PeerConns, d.PeerConns)
	orInt(&l.ConnsPerPeer, d.ConnsPerPeer)
	orInt(&l.BackfillBatch, d.BackfillBatch)
	orInt(&l.PublicKeys, d.PublicKeys)
	orInt(&l.Recent, d.Recent)
	orInt(&l.PendingHeads, d.PendingHeads)
	orInt(&l.Cosigners, d.Cosigners)
	orInt(&l.SnapshotRetain, d.SnapshotRetain)
	orInt(&l.PendingBytes, d.PendingBytes)
	orInt(&l.SinceBytes, d.SinceBytes)
	orInt(&l.SnapshotBytes, d.SnapshotBytes)
	orInt(&l.PeerBody, d.PeerBody)
	orInt(&l.LeaderHold, d.LeaderHold)
	orInt(&l.Enqueue, d.Enqueue)
	orInt(&l.BusyRetry, d.BusyRetry)
	orInt(&l.SealInterval, d.SealInterval)
	orInt(&l.SealGather, d.SealGather)
	orInt(&l.UrgentInterval, d.UrgentInterval)
	orInt(&l.TickCheck, d.TickCheck)
	orInt(&l.Recosign, d.Recosign)
	orInt(&l.CertifyPull, d.CertifyPull)
	orInt(&l.Membership, d.Membership)
	orInt(&l.PeerTimeout, d.PeerTimeout)
	orInt(&l.HandshakeLimit, d.HandshakeLimit)
	orInt(&l.ShutdownLimit, d.ShutdownLimit)
	orInt(&l.DiskStall, d.DiskStall)
	orInt(&l.ScrubInterval, d.ScrubInterval)
	orInt(&l.Linger, d.Linger)
	orInt(&l.PinLinger, d.PinLinger)
	orInt(&l.OutOfTouch, d.OutOfTouch)
	orInt(&l.CensorLimit, d.CensorLimit)
	return l
}

func orInt[T ~int | ~int64](field *T, standard T) {
	if *field <= 0 {
		*field = standard
	}
}

// Bounds that no configuration changes.
const (
	rotateLook       = 100 * time.Millisecond // between two looks at the own rotation
	rotateRetry      = 2 * time.Second        // after a step that failed; twice as long after each further one
	rotateRetryMost  = time.Minute            // and no longer
	retireEpochs     = 2                      // after which the secret of a key that ended is destroyed
	maxRing          = 64                     // keys that a replica remembers
	maxOwnKeys       = 4                      // of them, by which peers are asked for its newest signature
	logOverlap       = 24 * time.Hour
	lostSeqs         = 1_024    // that a replica skips which lost the file seq
	maxPossessions   = 4_096    // proofs that held, remembered by their hash
	maxPeerNotes     = 64 << 10 // a small JSON answer of the peer service
	maxFileBytes     = 8 << 20  // of the small files in the data directory
	maxSnapshotLinks = 1 << 16
	maxSectionBytes  = 64 << 20
	maxDialers       = 64    // handshakes under way
	maxForks         = 64    // replicas whose forks are kept on disk, at 20 kB each
	maxForksTold     = 8     // and named in the alarm
	maxDamages       = 4_096 // damaged bundles that are remembered; the scrub finds the others again
	scrubSaved       = 256   // bundles between two savings of the scrub's place
	repairPause      = 30 * time.Second
	keptAuthorities  = 3 // whose keys the certifier keeps unpacked

	termSlack            = 10_000                                                         // terms that a ledger may have had at once
	termEvery            = 100 * time.Millisecond                                         // and one more in so long
	termBurst            = 16                                                             // times that one peer may raise the term in a row
	termRefill           = 5                                                              // and once more in so many election timeouts
	snapshotRate         = 1 << 20                                                        // bytes a second, the least at which a leader sends a snapshot
	maxAppendBytes       = 8 << 20                                                        // of entries in one request to a follower, which has PeerTimeout
	maxRequestBytes      = maxAppendBytes + ledger.MaxBundle*(ledger.MaxEnvelopeBytes+16) // of one request of Raft's: the largest entry is always sent
	maxReceiving         = 2 * maxRequestBytes                                            // of one peer's that are not answered: one that is sent again, and the first
	maxRequestValues     = 1 << 16                                                        // MessagePack values in one: 14 an entry, 512 entries
	maxRaisers           = 256                                                            // peers whose raises are counted
	maxElections         = 8                                                              // terms whose winner is remembered
	askAgain             = 50 * time.Millisecond                                          // between two questions for an election, of one replica
	handedOnFresh        = 10 * time.Second                                               // how long a leader's word counts that it hands on
	handingWait          = 500 * time.Millisecond                                         // and how long it waits until all have heard it
	settlePause          = 10 * time.Millisecond                                          // until a heartbeat that waits for Raft's main loop is looked at again
	doubtPause           = 250 * time.Millisecond                                         // least time between two questions for the replica set
	stepWait             = 2 * time.Second                                                // for what authorises a change of Raft's configuration
	maxLogEnds           = 65_536                                                         // entries of Raft's log after which the ledger's size is remembered, and twice that
	maxForeseen          = 64                                                             // entries of Raft's log that are applied in thought to say what they make
	maxElectionTimeout   = 8 * time.Second                                                // however many elections were in vain
	voteWrites           = 6                                                              // with an fsync each, for one vote: three at the candidate, three at the voter
	stableTerms          = 10                                                             // election timeouts after which a leader is taken to stay
	stallFactor          = 4                                                              // what a write may take, in what recent ones took, before it is overdue
	maxDiskStall         = 10 * time.Second                                               // and at most, however slow the disk
	recentWrites         = 16
	maxWatched           = 64                   // submissions watched for censorship
	maxBusy              = 1_024                // submissions for which the leader was too busy, remembered
	maxWatchedOfPeer     = 16                   // and of those, passed on by one peer
	maxWatchedStatements = 2_048                // and the statements in them
	maxPendingBytes      = 4 << 20              // of one that is passed on
	maxTriers            = 64                   // peers whose dry runs are counted
	dryRunBurst          = 2 * ledger.MaxBundle // statements of one peer, or of our clients, looked at for censorship at once
	dryRunRate           = 64                   // and so many more a second: 3 ms of it for signatures
	idleLimits           = 4                    // CensorLimits before a leader is accused that commits nothing else either
	excusedLimits        = 2                    // CensorLimits before one is accused that is too busy, or its disk full
	censorBurst          = 3                    // leaders that may be refused in a row
	censorEvery          = 10 * time.Minute     // and one more in so long
	censorHold           = 30 * time.Second     // how long one is refused
	censorBan            = 5                    // election timeouts for which it gets no vote
	maxRefusals          = 32                   // kinds of refusals that the status tells
	refusalLog           = time.Minute          // between two lines of the log about one kind
)
