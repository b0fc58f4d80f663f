// Package keys holds what is secret and what checks it: ML-DSA-65 keys and
// their ids, the derived ML-DSA-44 cosigning key, the COSE envelope of a
// statement, and key files.
//
// It is the only importer of a signature library: a change of algorithm or of
// implementation stays in this room.
//
// All signatures are pure ML-DSA with the empty context (FIPS 204; RFC 9964
// demands both for COSE). Signing is the deterministic variant of FIPS 204,
// section 3.4: one message under one key has one signature, so that a
// statement that is signed again is the same envelope and not a second one,
// tests and golden vectors are reproducible, and a weak random source cannot
// hurt. DESIGN.md says what that costs.
package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// PublicKey is an ML-DSA-65 public key, unpacked for verification (about
// 40 kB). It never changes and is safe for concurrent use.
type PublicKey struct {
	id       ID
	packed   string
	unpacked mldsa65.PublicKey
}

// ErrPublicKey says that bytes are no public key: their length is wrong. Every
// string of the right length is one (FIPS 204, algorithm 23).
var ErrPublicKey = errors.New("a public key of ML-DSA-65 has 1952 bytes")

// ParsePublicKey unpacks the 1,952 bytes of FIPS 204, section 7.2. It keeps
// nothing of b. This takes longer than verifying a signature: see Cache.
func ParsePublicKey(b []byte) (*PublicKey, error) {
	if len(b) != PublicKeySize {
		return nil, fmt.Errorf("parse public key of %d bytes: %w", len(b), ErrPublicKey)
	}
	p := &PublicKey{id: sha256.Sum256(b), packed: string(b)}
	p.unpacked.Unpack((*[PublicKeySize]byte)(b))
	restoreSpeed()
	return p, nil
}

// Bytes gives the packed key, a fresh copy.
func (p *PublicKey) Bytes() []byte { return []byte(p.packed) }

// ID gives SHA-256 of the packed key.
func (p *PublicKey) ID() ID { return p.id }

// Verify says whether sig is this key's signature of msg, with the empty
// context.
func (p *PublicKey) Verify(msg, sig []byte) bool {
	defer restoreSpeed()
	return len(sig) == SignatureSize && mldsa65.Verify(&p.unpacked, msg, nil, sig)
}

// PrivateKey is an ML-DSA-65 key pair. Until it is wiped it never changes and is
// safe for concurrent use. Printing it in any way shows its id only.
type PrivateKey struct {
	seed   [SeedSize]byte
	signer *mldsa65.PrivateKey
	public *PublicKey
}

// Generate makes a key from the system's random source.
func Generate() (*PrivateKey, error) {
	var seed [SeedSize]byte
	defer WipeBytes(seed[:])
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return FromSeed(seed), nil
}

// FromSeed makes the key of a seed (FIPS 204, algorithm 6).
func FromSeed(seed [SeedSize]byte) *PrivateKey {
	public, signer := mldsa65.NewKeyFromSeed(&seed)
	defer WipeBytes(seed[:]) // of the parameter, which is a copy
	restoreSpeed()
	unpacked, err := ParsePublicKey(public.Bytes())
	invariant(err == nil, "a generated public key has the right length")
	return &PrivateKey{seed: seed, signer: signer, public: unpacked}
}

// Wipe writes zeros over the seed and the expanded key. Nobody may use the key
// any more; its id and public half stay. It may be called of nil.
func (k *PrivateKey) Wipe() {
	if k == nil {
		return
	}
	WipeBytes(k.seed[:])
	*k.signer = mldsa65.PrivateKey{}
	runtime.KeepAlive(k.signer)
}

// Seed gives the secret itself.
func (k *PrivateKey) Seed() [SeedSize]byte { return k.seed }

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// ID gives the public half's id.
func (k *PrivateKey) ID() ID { return k.public.id }

// Sign gives the 3,309-byte signature of msg, with the empty context, by the
// deterministic variant. Whatever is signed is either a Sig_structure of COSE
// or begins with a PurposePrefix, so that no signature serves two purposes.
func (k *PrivateKey) Sign(msg []byte) []byte {
	sig := make([]byte, SignatureSize)
	err := mldsa65.SignTo(k.signer, msg, nil, false, sig)
	restoreSpeed()
	invariant(err == nil, "the empty context is not too long")
	return sig
}

// Format prints the id, whatever the verb: a private key must not reach a log
// by way of %v or %#v.
func (k *PrivateKey) Format(state fmt.State, _ rune) {
	if k == nil {
		fmt.Fprint(state, "no private key")
		return
	}
	fmt.Fprintf(state, "private key of %s", k.public.id)
}

// PurposePrefix gives what every message that is signed with ML-DSA-65, other
// than a statement, begins with: "quorate/<purpose>/v1\n\0". No Sig_structure
// begins so: its first byte is 0x84.
func PurposePrefix(purpose string) []byte {
	return []byte("quorate/" + purpose + "/v1\n\x00")
}
