package gossip

import "github.com/quorate/quorate/ledger"

// Bounds of the room. Every parser checks its input against them before it
// allocates, and every table that others can fill stays below them.
const (
	// MaxWindowRows is how many (key, epoch, space) a Window keeps: 5,000
	// authors in two epochs and two spaces. Authors beyond are refused for the
	// epoch, not forgotten.
	MaxWindowRows = 20_000
	// MaxWindowSeqs is how many seqs a Window keeps while it grows freely; beyond
	// it each row keeps its even share. The table ends below twice as many, at
	// 40 bytes each: 5.3 MB, and its rows in 4 MB.
	MaxWindowSeqs = 1 << 16
	// MaxKeptBytes is how many bytes of envelopes a Window keeps, the newest, so
	// that evidence can be made of them.
	MaxKeptBytes = 4 << 20

	// MaxNotedWords is how many observations of others are kept by counter, at
	// about 200 bytes each.
	MaxNotedWords = 8_192
	// MaxOffences is how many offences are remembered as known.
	MaxOffences = 4_096
	// BanEpochs is how long a proven offender is dropped before the ledger has
	// decided.
	BanEpochs = 4
	// MaxMet is how many peers' acks to us are kept, newestAcks of each, at about
	// 4 kB each.
	MaxMet     = 256
	newestAcks = 4

	// MaxSubjects is how many nodes one node watches: what it is drawn for beyond
	// them it leaves to the others who are drawn. It times the epochs of a window
	// is ledger.MaxAttested.
	MaxSubjects = 128
	// MaxLinks is how many links one node declares; the rules keep no more.
	MaxLinks = 64
	// probesShare of the probe quota, in eighths, is for our own probes; the rest
	// is for acks.
	probesShare = 5
	// strangerAcks is how many probes of nodes that have no reason to probe us are
	// acknowledged in an epoch.
	strangerAcks = 64

	// MaxVows is how many peers a Vows remembers by name; beyond it the oldest
	// become a floor for all.
	MaxVows = 1_024

	// MaxOutboxItems and MaxOutboxBytes bound what waits to be said or relayed.
	MaxOutboxItems = 512
	MaxOutboxBytes = 4 << 20

	// MaxStatementBytes is the longest envelope that gossip carries: of evidence.
	MaxStatementBytes = ledger.MaxEnvelopeBytes
	// maxRotationBytes is the longest payload of a rotation: two still fit one evidence.
	maxRotationBytes = 7_680
	// MaxProbeBytes is the longest probe or ack.
	MaxProbeBytes = 8_192
)
