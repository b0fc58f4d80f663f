package audit

import "github.com/quorate/quorate/ledger"

const (
	maxVKeyBytes   = 16 << 10
	maxPolicyBytes = 1 << 20
	maxVKeysBytes  = 4 << 20 // of log.vkeys, at 2 kB a pair
	maxTileBytes   = 256 * 32
	maxBundleBytes = 256 * (2 + ledger.MaxEntryBytes)
	maxLevels      = 8         // of tiles: 256^7 entries are more than 2^53
	maxLineBytes   = 160 << 10 // an entry's content, and in a former export the entry in base64
	lineReadBytes  = 128 << 10
	chunkBytes     = 512 << 10 // of an archive, unzipped ahead of the files
	chunksAhead    = 4
	maxReceipt     = 8 << 10

	// An archive unpacks to at most this many times its size, proofs aside,
	// plus a little: each entry brings 32 bytes that no compressor makes
	// smaller (its prev), each statement 3,309 more, so the most that the
	// longest and dullest entries give is 36.
	maxUnpackRatio      = 64
	unpackAllowance     = 16 << 20
	maxUnpackedBytes    = 1 << 40
	maxUnpackedFiles    = 1 << 26
	maxUnpackedProofs   = 4 << 30 // bytes of all proofs: one resembles the other, so no ratio bounds them
	maxTarPadding       = 1 << 20
	tarBlockBytes       = 512
	tarEndBytes         = 2 * tarBlockBytes
	maxFrameBytes       = 64 << 20 // of a frame of an archive that is read without unpacking it
	bytesAFrame         = 4 << 10  // least, on average: a bundle's prevs are 8 KiB that no compressor makes smaller
	framesBeside        = 8        // of the head, the last bundle and the end
	maxDecoderWindow    = 64 << 20
	unitsAhead          = 16   // bundles that are read and not yet replayed or written, of at most 40 MB each
	knownKeysUnpacked   = 4096 // of about 40 kB each
	directKeysUnpacked  = 64
	maxDisputedListed   = 32 // entries of one key that a report names
	exportFetchersAhead = 8  // requests to a source at a time
)
