package archive

// The bounds of this room. The first four are fixed by C2SP tlog-tiles; the rest are ours.
const (
	// MaxEntryBytes is the longest entry: a bundle gives each a two-byte length.
	MaxEntryBytes = 1<<16 - 1

	// TileWidth is the number of hashes in a full tile and of entries in a full bundle.
	TileWidth = 256

	tileHeight = 8                    // a tile spans eight levels of the binary tree
	tileBytes  = TileWidth * hashSize // 8,192

	// maxSize bounds the number of entries. It keeps every size and position exact in an int64 (the
	// type of sumdb/tlog) and in a JSON number.
	maxSize = 1 << 53

	// maxLevels is the number of tile levels of a tree of maxSize entries: 256^7 = 2^56.
	maxLevels = 7

	// maxTileLevel is the highest level that a tile path may name.
	maxTileLevel = 63

	// maxPendingBytes is how much Append buffers before it makes the caller wait for the disk. It only
	// bites when nobody calls Sync, or when the disk is slower than the writer.
	maxPendingBytes = 32 << 20

	// defaultCacheTiles is 8 MiB of tiles, enough for the proofs of the newest 262,144 entries.
	defaultCacheTiles = 1024

	// bundleCacheBytes bounds the cache of parsed bundles.
	bundleCacheBytes = 16 << 20

	// writeChunkBytes is the size of the pieces in which records go to the tail file.
	writeChunkBytes = 1 << 20

	// maxScratchBytes is how much room is kept between two files that are written: two bundles of records
	// of 6.5 KB.
	maxScratchBytes = 4 << 20

	// maxTailHeader is more than the header of a tail takes: two rows of 255 hashes for each level above
	// the lowest, and what is fixed.
	maxTailHeader = 2 * maxLevels * tileBytes

	// tornSectorBytes is the smallest unit that a disk writes as a whole.
	tornSectorBytes = 512

	// maxReadyDirs bounds the memory of folders that need no fsync; each holds a thousand files.
	maxReadyDirs = 64
)
