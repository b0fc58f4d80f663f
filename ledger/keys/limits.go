package keys

// Sizes of FIPS 204, table 2, in bytes. A private key is its 32-byte seed
// (RFC 9964).
const (
	SeedSize                = 32
	PublicKeySize           = 1952
	SignatureSize           = 3309
	Cosigner44PublicKeySize = 1312
	Cosigner44SignatureSize = 2420
)

const (
	// MaxPayload is the most that a statement says, in bytes.
	MaxPayload = 32 << 10

	// MaxType is the longest "typ", in bytes.
	MaxType = 64

	// MaxEnvelope is the largest envelope: tag and array, protected header,
	// empty map, payload, signature, each with its shortest CBOR head.
	MaxEnvelope = 2 + (2 + maxProtected) + 1 + (3 + MaxPayload) + (3 + SignatureSize)

	// maxProtected is the largest protected header: map, alg, kid, typ.
	maxProtected = 1 + 3 + 35 + 3 + MaxType

	// maxKeyFile and maxPublicFile bound what is read of a file that may be any
	// file. Key files have about 2 kB, public ones about 9 kB.
	maxKeyFile    = 16 << 10
	maxPublicFile = 32 << 10

	// maxWordsText bounds what ParseWords looks at: 12 words of at most 8
	// letters, and room for spaces.
	maxWordsText = 512

	// MinThreshold is the fewest shares that may open a backup: one would be no
	// sharing. MaxShares is the most that it has: one of each operator.
	MinThreshold = 2
	MaxShares    = 24

	// MaxBackup bounds a backup's file, in bytes: MaxShares shares of about 4 kB
	// (in base64url) and the ciphertext. MaxSealedShare bounds a sealed share,
	// maxShare what is in it, and maxPrincipal a name or role there.
	MaxBackup      = 256 << 10
	MaxSealedShare = 8 << 10
	maxShare       = 2 << 10
	maxPrincipal   = 64

	// maxRecipients bounds SealTo, well above any council or replica set.
	maxRecipients = 256

	// DefaultWorkFactor is log2 of scrypt's N for new key files: about a second
	// on a laptop, 256 MiB of memory. maxWorkFactor is what a file that is read
	// may ask for: it may come from elsewhere, and 2^20 is 1 GiB.
	DefaultWorkFactor = 18
	maxWorkFactor     = 20
)
