package keys

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// peerInfo separates the peer key from all else that is derived from a seed.
const peerInfo = "quorate/peer-ed25519/v1"

// PeerKey derives a node's Ed25519 peer key: the key of the seed
// HKDF-SHA256(ikm = the ML-DSA-65 seed, no salt, info =
// "quorate/peer-ed25519/v1", 32 bytes), so that a node has one secret to keep.
// The ledger binds its public half to the node's key by the join statement.
func (k *PrivateKey) PeerKey() ed25519.PrivateKey {
	derived, err := hkdf.Key(sha256.New, k.seed[:], nil, peerInfo, ed25519.SeedSize)
	if err != nil {
		// HKDF fails only for lengths above 255 hashes.
		panic(fmt.Sprintf("derive peer key: %v", err))
	}
	defer WipeBytes(derived)
	return ed25519.NewKeyFromSeed(derived)
}
