package keys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
)

// cosigner44Info separates the cosigning key from the key that it is derived
// from (HKDF, RFC 5869).
const cosigner44Info = "quorate/cosigner-mldsa44/v1"

// Cosigner44 is an ML-DSA-44 key pair, the kind that C2SP's cosignatures take:
// a replica's, derived from its ML-DSA-65 seed so that there is one secret to
// keep, or the log's own. It is safe for concurrent use.
type Cosigner44 struct {
	signer *mldsa44.PrivateKey
	public [Cosigner44PublicKeySize]byte
}

// Cosigner44 derives the cosigning key: the ML-DSA-44 key of the seed
// HKDF-SHA256(ikm = seed, no salt, info = "quorate/cosigner-mldsa44/v1", 32).
func (k *PrivateKey) Cosigner44() *Cosigner44 {
	derived, err := hkdf.Key(sha256.New, k.seed[:], nil, cosigner44Info, SeedSize)
	invariant(err == nil, "HKDF gives 32 bytes")
	defer WipeBytes(derived)
	return NewCosigner44([SeedSize]byte(derived))
}

// NewCosigner44 makes the ML-DSA-44 key of a seed (FIPS 204, algorithm 6).
func NewCosigner44(seed [SeedSize]byte) *Cosigner44 {
	public, signer := mldsa44.NewKeyFromSeed(&seed)
	defer WipeBytes(seed[:]) // of the parameter, which is a copy
	restoreSpeed()
	c := &Cosigner44{signer: signer}
	public.Pack(&c.public)
	return c
}

// Public gives the packed public key, a fresh copy of 1,312 bytes.
func (c *Cosigner44) Public() []byte {
	public := c.public
	return public[:]
}

// Sign gives the 2,420-byte signature of msg, deterministic as PrivateKey's.
func (c *Cosigner44) Sign(msg []byte) []byte {
	sig := make([]byte, Cosigner44SignatureSize)
	err := mldsa44.SignTo(c.signer, msg, nil, false, sig)
	restoreSpeed()
	invariant(err == nil, "the empty context is not too long")
	return sig
}

// Wipe writes zeros over the key. Nobody may use it any more; it may be called of
// nil.
func (c *Cosigner44) Wipe() {
	if c == nil {
		return
	}
	*c.signer = mldsa44.PrivateKey{}
	runtime.KeepAlive(c.signer)
}

// Format prints no more than what it is, whatever the verb.
func (c *Cosigner44) Format(state fmt.State, _ rune) {
	fmt.Fprint(state, "ML-DSA-44 cosigning key")
}

// Public44 is an ML-DSA-44 public key, unpacked for verification. It never
// changes and is safe for concurrent use.
type Public44 struct {
	packed   string
	unpacked mldsa44.PublicKey
}

// ErrPublicKey44 says that bytes are no ML-DSA-44 public key.
var ErrPublicKey44 = errors.New("a public key of ML-DSA-44 has 1312 bytes")

// ParsePublic44 unpacks a public key. It keeps nothing of b.
func ParsePublic44(b []byte) (*Public44, error) {
	if len(b) != Cosigner44PublicKeySize {
		return nil, fmt.Errorf("parse public key of %d bytes: %w", len(b), ErrPublicKey44)
	}
	p := &Public44{packed: string(b)}
	p.unpacked.Unpack((*[Cosigner44PublicKeySize]byte)(b))
	restoreSpeed()
	return p, nil
}

// Bytes gives the packed key, a fresh copy.
func (p *Public44) Bytes() []byte { return []byte(p.packed) }

// Verify says whether sig is this key's signature of msg, with the empty
// context.
func (p *Public44) Verify(msg, sig []byte) bool {
	defer restoreSpeed()
	return len(sig) == Cosigner44SignatureSize && mldsa44.Verify(&p.unpacked, msg, nil, sig)
}

// Verify44 is Public44.Verify for a packed key, which it unpacks each time: who
// verifies many signatures of one key keeps a Public44.
func Verify44(public, msg, sig []byte) bool {
	p, err := ParsePublic44(public)
	return err == nil && p.Verify(msg, sig)
}
