package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
)

// TestPeerKey derives the key a second time, as its documentation says, and
// holds it apart from the seed and from the cosigning key's.
func TestPeerKey(t *testing.T) {
	key := testKey(1)
	seed := key.Seed()
	derived, err := hkdf.Key(sha256.New, seed[:], nil, "quorate/peer-ed25519/v1", 32)
	if err != nil {
		t.Fatal(err)
	}
	peer := key.PeerKey()
	if !bytes.Equal(peer.Seed(), derived) {
		t.Error("the peer key is not the derived one")
	}
	cosigner, err := hkdf.Key(sha256.New, seed[:], nil, cosigner44Info, 32)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(peer.Seed(), seed[:]) || bytes.Equal(peer.Seed(), cosigner) || peer.Equal(testKey(2).PeerKey()) {
		t.Error("two keys share a seed")
	}
	public := peer.Public().(ed25519.PublicKey)
	if !ed25519.Verify(public, []byte("m"), ed25519.Sign(peer, []byte("m"))) {
		t.Error("the peer key does not verify what it signs")
	}
}
