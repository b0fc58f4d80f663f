package fsm

// Bounds of the rules, beside those of package ledger. They are part of the
// rules: a replica with other bounds would derive another state.
const (
	maxOpenProposals   = 32      // of one author, open or decided
	maxClosedProposals = 256     // of one author that stay for the policy's retention
	crowdedMillis      = 10_000  // how long further ones stay
	maxPendingJoins    = 4_096   // of all operators
	maxOperatorJoins   = 1_024   // pending joins that name one operator
	maxOperators       = 1_024   //
	maxNodes           = 100_000 //
	maxReasonBytes     = 1_024   // of a freeze or a quarantine
	maxTextBytes       = 16_384  // of a record's text
	maxLabelBytes      = 255     // of a record's name or media type
	maxRecipient       = 4_096   // bytes of an age recipient
	maxLinks           = 64      // that one node speaks of
	maxMutes           = 256     // of one node
	maxMisses          = 6       // more count as so many
	maxOrdinal         = 1<<24 - 1

	evidenceEpochs      = 1_008 // an offence is punished so long after it
	maxLegacyEpochs     = 8_192 // an operator's removed node weighs on its next ones no longer
	linkRetentionEpochs = 144   // a link that nobody speaks of is forgotten

	// maxChangedKeys is how many changes wait for the next seal to be hashed. No
	// rule depends on it.
	maxChangedKeys = 16_384

	// maxStamp keeps sums of a stamp and any policy duration below 2^53.
	maxStamp = 1 << 52
)
