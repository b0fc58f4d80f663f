package agent

// The bounds of what is on disk.
const (
	seqBlockMain  = 16 // seqs reserved at once: a restart leaves at most so many unused
	seqBlockProbe = 64
	ackedAhead    = 8 // ticks of acks that are written down at once
	maxSeqsBytes  = 4 << 10

	maxRingKeys     = 4_096 // of a node's life; the oldest whose file is gone give way
	maxRingBytes    = 2 << 20
	maxDestroyBytes = 1 << 20 // of a key file that is overwritten

	// An outbox is rewritten when it has so many bytes that are done with, and
	// more than it has others: it is at most twice gossip.MaxOutboxBytes and this.
	outboxSlack = 256 << 10

	maxStateFileBytes = 512 << 20
	maxStateRecords   = 4 << 20
	maxStateLinks     = 1 << 16
)
