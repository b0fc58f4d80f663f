package audit

const (
	maxCheckpointBytes = 1 << 20
	maxVKeyBytes       = 16 << 10
	maxPolicyBytes     = 1 << 20
	maxLinkBytes       = 4 << 20
	maxTileBytes       = 256 * 32
	maxBundleBytes     = 256 * (2 + 65_535)
	maxLineBytes       = 1 << 20
	maxLinks           = 1 << 20
	maxUnpackedBytes   = 1 << 40
	maxUnpackedFiles   = 1 << 26
	chunkBundles       = 8 // bundles that are read, hashed and verified as one unit of work
	chunksAhead        = 8 // units that may wait for the replay
)
