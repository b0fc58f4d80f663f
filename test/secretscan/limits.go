package secretscan

// Bounds of a scan.
const (
	minSecret     = 12 // bytes: shorter ones would be found by chance
	partBytes     = 16 // of a secret, at its beginning and its end, or half of a shorter one
	minPart       = 8
	windowBytes   = 64 << 10
	tarHead       = 512
	maxDepth      = 4 // streams within streams
	maxMembers    = 1 << 20
	maxUnpacked   = 8 << 30
	maxZstdWindow = 256 << 20
	maxFound      = 1000
)
