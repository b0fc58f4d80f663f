package ledger

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger/keys"
)

// NotCertifiedError says that too few replicas cosigned a head.
type NotCertifiedError struct {
	Have, Want int // distinct active replicas
}

func (e *NotCertifiedError) Error() string {
	return fmt.Sprintf("the head is cosigned by %d replicas, certified by %d", e.Have, e.Want)
}

// BadSignatureError says that a line of a known key does not verify, which
// makes the whole note invalid: whoever holds such a note was lied to.
type BadSignatureError struct{ Name, Kind string }

func (e *BadSignatureError) Error() string {
	return fmt.Sprintf("the %s line of %s does not verify", e.Kind, e.Name)
}

// A Certifier checks checkpoints under one authority, with its keys unpacked:
// that costs as much as verifying, so whoever checks often keeps one. It never
// changes and is safe for concurrent use.
type Certifier struct {
	origin    string
	threshold int
	log       LogKeys
	replicas  []replicaVerifier
}

// replicaVerifier holds the unpacked keys of a replica.
type replicaVerifier struct {
	branch     Hash   // Authority.Branch
	name       string // of the replica
	cosigner   string // key name
	id44, id65 [noteKeyIDLen]byte
	key44      *keys.Public44
	key65      *keys.PublicKey
}

func newReplicaVerifier(branch Hash, origin string, r AuthorityReplica) (replicaVerifier, error) {
	v := replicaVerifier{branch: branch, name: r.Name, cosigner: CosignerName(origin, r.Name)}
	var err error
	if v.key44, err = keys.ParsePublic44(r.Cosigner); err != nil {
		return v, fmt.Errorf("replica %s: %w", r.Name, err)
	}
	if v.key65, err = keys.ParsePublicKey(r.Public); err != nil {
		return v, fmt.Errorf("replica %s: %w", r.Name, err)
	}
	v.id44 = noteKeyID(v.cosigner, noteMLDSA44, r.Cosigner)
	v.id65 = noteKeyID(v.cosigner, noteMLDSA65, r.Public)
	return v, nil
}

// verify checks the signatures that c has.
func (v *replicaVerifier) verify(h Head, c Cosignature) error {
	if len(c.MLDSA44) > 0 && !v.key44.Verify(h.message44(v.cosigner, c.Time), c.MLDSA44) {
		return &BadSignatureError{Name: v.cosigner, Kind: "ML-DSA-44"}
	}
	if !v.key65.Verify(h.message65(v.branch, v.cosigner, c.Time), c.MLDSA65) {
		return &BadSignatureError{Name: v.cosigner, Kind: "ML-DSA-65"}
	}
	return nil
}

// NewCertifier unpacks the keys of a's active replicas.
func NewCertifier(a Authority) (*Certifier, error) {
	active := a.Active()
	c := &Certifier{origin: a.Origin, threshold: CosignThreshold(len(active)), log: a.Log}
	for _, r := range active {
		v, err := newReplicaVerifier(a.Branch(), a.Origin, r)
		if err != nil {
			return nil, err
		}
		c.replicas = append(c.replicas, v)
	}
	return c, nil
}

// Certifies checks c and counts the distinct active replicas whose ML-DSA-65
// cosignatures it bears. The error is a *NotCertifiedError if they are too few,
// a *BadSignatureError if a line of a known key does not verify. Lines of
// unknown keys count for nothing.
func (f *Certifier) Certifies(c *Checkpoint) (int, error) {
	if c.Head.Origin != f.origin {
		return 0, fmt.Errorf("certify checkpoint: its origin is %q, not %q", c.Head.Origin, f.origin)
	}
	if err := f.verifyLogLines(c); err != nil {
		return 0, fmt.Errorf("certify checkpoint of size %d: %w", c.Head.Size, err)
	}
	counted := map[string]bool{}
	for _, s := range c.Cosignatures {
		v := f.replica(s)
		if v == nil {
			continue
		}
		if err := v.verify(c.Head, s.of(v)); err != nil {
			return 0, fmt.Errorf("certify checkpoint of size %d: %w", c.Head.Size, err)
		}
		counted[v.name] = true
	}
	if len(counted) < f.threshold {
		return len(counted), fmt.Errorf("certify checkpoint of size %d: %w", c.Head.Size,
			&NotCertifiedError{Have: len(counted), Want: f.threshold})
	}
	return len(counted), nil
}

// of is what of a cosignature counts under a replica's keys: an ML-DSA-44 line of a key
// that we don't know beside a known ML-DSA-65 line is an unknown line like any other.
func (c Cosignature) of(v *replicaVerifier) Cosignature {
	if c.ID44 != v.id44 {
		return c.WithoutMLDSA44()
	}
	return c
}

// Verify is Cosignature.Verify for whichever active replica's key s names.
func (f *Certifier) Verify(h Head, s Cosignature) error {
	v := f.replica(s)
	switch {
	case v == nil:
		return fmt.Errorf("verify cosignature: %q is no active replica with this key", s.Replica)
	case s.ID44 != v.id44:
		return fmt.Errorf("verify cosignature of %q: it is of another key", s.Replica)
	case len(s.MLDSA44) == 0:
		return fmt.Errorf("verify cosignature of %q: its ML-DSA-44 signature is missing", s.Replica)
	}
	return v.verify(h, s)
}

// replica gives the active replica whose ML-DSA-65 line s is, or nil.
func (f *Certifier) replica(s Cosignature) *replicaVerifier {
	for i := range f.replicas {
		if v := &f.replicas[i]; v.name == s.Replica && v.id65 == s.ID65 {
			return v
		}
	}
	return nil
}

// verifyLogLines checks the lines of the log's keys. They carry no authority,
// but a wrong one makes the note invalid.
func (f *Certifier) verifyLogLines(c *Checkpoint) error {
	id25519 := noteKeyID(f.origin, noteEd25519, f.log.Ed25519)
	id44 := noteKeyID(f.origin, noteMLDSA44, f.log.MLDSA44)
	for _, text := range c.LogLines {
		line, err := parseSignatureLine(text)
		if err != nil {
			return err
		}
		switch line.id {
		case id25519:
			if len(f.log.Ed25519) != ed25519.PublicKeySize || !ed25519.Verify(f.log.Ed25519, c.Head.Body(), line.sig) {
				return &BadSignatureError{Name: f.origin, Kind: "Ed25519"}
			}
		case id44:
			if len(line.sig) < 8 {
				return &BadSignatureError{Name: f.origin, Kind: "ML-DSA-44"}
			}
			seconds := binary.BigEndian.Uint64(line.sig)
			if !keys.Verify44(f.log.MLDSA44, c.Head.message44(f.origin, seconds), line.sig[8:]) {
				return &BadSignatureError{Name: f.origin, Kind: "ML-DSA-44"}
			}
		}
	}
	return nil
}

// Certifies is NewCertifier and its Certifies at once.
func (a Authority) Certifies(c *Checkpoint) (n int, err error) {
	f, err := NewCertifier(a)
	if err != nil {
		return 0, fmt.Errorf("certify checkpoint: %w", err)
	}
	return f.Certifies(c)
}

// Signed is the time, in seconds, at which a's threshold of replicas had signed
// c: the threshold-th newest cosignature of distinct active replicas, or 0. It
// trusts that a certifies c.
func (c *Checkpoint) Signed(a Authority) uint64 {
	newest := map[string]uint64{}
	active := a.Active()
	for _, r := range active {
		id := noteKeyID(CosignerName(a.Origin, r.Name), noteMLDSA65, r.Public)
		for _, s := range c.Cosignatures {
			if s.Replica == r.Name && s.ID65 == id {
				newest[r.Name] = max(newest[r.Name], s.Time)
			}
		}
	}
	times := make([]uint64, 0, len(newest))
	for _, t := range newest {
		times = append(times, t)
	}
	slices.Sort(times)
	threshold := CosignThreshold(len(active))
	if len(times) < threshold {
		return 0
	}
	return times[len(times)-threshold]
}
