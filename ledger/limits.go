package ledger

// Bounds of FORMAT.md. Every parser checks its input against them before it
// allocates.
const (
	MaxEntryBytes      = 65_535
	MaxPayloadBytes    = 32_768
	MaxEnvelopeBytes   = MaxPayloadBytes + 4_096
	MaxBundle          = 512 // statements in one submission
	MaxJoins           = 300 // joins in one node.admit
	MaxNonceTTLMillis  = 30 * 24 * 3_600_000
	MaxLiveNonces      = 256
	SeqWindow          = 1_024
	MaxReplicas        = 31
	MaxCouncil         = 64
	MaxMemoBytes       = 4_096
	MaxCheckpointBytes = 1 << 20
	MaxLinkBytes       = 4 << 20
	MaxAuthorityLinks  = 1 << 20
	maxNameBytes       = 63
	MaxRecordKeyBytes  = 1_024   // key of a state record
	MaxStateProofBytes = 2 << 20 // with the value
	MaxInclusionHashes = 64      // depth of a tree of 2^53 entries is 53
	MaxVKeyBytes       = 4_096
	MaxNoteLines       = 128 // signature lines of a checkpoint
	MaxLinkStatements  = 1 + MaxCouncil
	MaxProofFileBytes  = 64 << 20

	// Of a join pack's endorsement (FORMAT.md section 18).
	MaxEndorsedAgeMillis   = 31 * 24 * 3_600_000 // unless the reader says otherwise
	MaxEndorsedAheadMillis = 3_600_000           // of the reader's clock

	// From format 2 on.
	MaxNodePayloadBytes = 6_144 // of a node's statement that is no evidence: two fit one evidence
	MaxObservedTicks    = 1_000
	MaxProbeSubjects    = 64 // of one probe
	ProbeNonceBytes     = 16
	MaxAttestEpochs     = 16
	MaxAttested         = 1_024 // nodes in one attestation, over all its epochs

	// From format 3 on.
	MaxRotateBytes        = 7_680  // payload of a node's key.rotate: two fit one evidence
	MaxReplicaRotateBytes = 12_288 // of a replica's
	MaxShares             = 24     // of a backup
	shareSetBytes         = 16
	maxKeysReason         = 255 // bytes of a restore test's or a destruction's reason
)
