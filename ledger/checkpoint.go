package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Head names a prefix of the ledger: Size entries, whose RFC 6962 tree has this
// root.
type Head struct {
	Origin string
	Size   uint64
	Root   Hash
}

// Body is the text of a checkpoint (C2SP tlog-checkpoint), which ends in a line
// feed.
func (h Head) Body() []byte {
	b := make([]byte, 0, len(h.Origin)+72)
	b = append(b, h.Origin...)
	b = append(b, '\n')
	b = strconv.AppendUint(b, h.Size, 10)
	b = append(b, '\n')
	b = base64.StdEncoding.AppendEncode(b, h.Root[:])
	return append(b, '\n')
}

// parseBody reads what Body gives, and nothing else.
func parseBody(text []byte) (Head, error) {
	lines := strings.SplitN(string(text), "\n", 5)
	if len(lines) != 4 || lines[3] != "" {
		return Head{}, errors.New("want three lines: origin, size, root")
	}
	h := Head{Origin: lines[0]}
	if err := ValidOrigin(h.Origin); err != nil {
		return Head{}, err
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > canon.MaxInt || size == 0 {
		return Head{}, fmt.Errorf("size %.20q: want 1 to 2^53-1", lines[1])
	}
	h.Size = size
	root, err := base64Std.DecodeString(lines[2])
	if err != nil || len(root) != len(h.Root) {
		return Head{}, errors.New("root: want base64 of 32 bytes")
	}
	h.Root = Hash(root)
	if !bytes.Equal(h.Body(), text) {
		return Head{}, errors.New("not in its one form")
	}
	return h, nil
}

// CosignerName is the key name of a replica's cosignatures.
func CosignerName(origin, replica string) string { return origin + "/replica/" + replica }

// message44 is what an ML-DSA-44 cosignature signs: C2SP tlog-cosignature, for
// the whole tree.
func (h Head) message44(name string, unixSeconds uint64) []byte {
	return h.message("subtree/v1\n\x00", name, unixSeconds)
}

// message65 is what an ML-DSA-65 cosignature signs: the same, under a purpose
// of our own and the branch. C2SP's binds the origin alone, which another
// ledger of the same replicas could bear too.
func (h Head) message65(branch Hash, name string, unixSeconds uint64) []byte {
	return h.message(string(keys.PurposePrefix("cosignature"))+string(branch[:]), name, unixSeconds)
}

func (h Head) message(label, name string, unixSeconds uint64) []byte {
	invariant(len(name) < 256 && len(h.Origin) < 256, "names of cosigners and origins are short")
	b := make([]byte, 0, 512)
	b = append(b, label...)
	b = append(append(b, byte(len(name))), name...)
	b = binary.BigEndian.AppendUint64(b, unixSeconds)
	b = append(append(b, byte(len(h.Origin))), h.Origin...)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, h.Size)
	return append(b, h.Root[:]...)
}

// Cosignature is one replica's word that it holds a head, with everything
// before it, at a time. Agents get the ML-DSA-65 part alone.
type Cosignature struct {
	Replica string  // name
	Time    uint64  // seconds since 1970, bound by both signatures
	ID44    [4]byte // key id of the ML-DSA-44 line; zero without MLDSA44
	ID65    [4]byte // key id of the ML-DSA-65 line
	MLDSA44 []byte  // 2,420 bytes, or none
	MLDSA65 []byte  // 3,309 bytes; the one that certifies
}

// Cosign makes replica's cosignature of h, a head of this branch (see Branch). unixSeconds
// is at least 1: zero means no time in C2SP.
func Cosign(branch Hash, k *keys.PrivateKey, c *keys.Cosigner44, replica string, h Head, unixSeconds uint64) Cosignature {
	invariant(unixSeconds > 0 && unixSeconds <= canon.MaxInt, "a cosignature has a time")
	name := CosignerName(h.Origin, replica)
	return Cosignature{
		Replica: replica,
		Time:    unixSeconds,
		ID44:    noteKeyID(name, noteMLDSA44, c.Public()),
		ID65:    noteKeyID(name, noteMLDSA65, k.Public().Bytes()),
		MLDSA44: c.Sign(h.message44(name, unixSeconds)),
		MLDSA65: k.Sign(h.message65(branch, name, unixSeconds)),
	}
}

// Verify checks both signatures of c on h, a head of this branch, under the keys
// of r.
func (c Cosignature) Verify(branch Hash, h Head, r AuthorityReplica) error {
	v, err := newReplicaVerifier(branch, h.Origin, r)
	if err != nil {
		return fmt.Errorf("verify cosignature: %w", err)
	}
	switch {
	case c.Replica != r.Name:
		return fmt.Errorf("verify cosignature of %q: it names replica %q", r.Name, c.Replica)
	case c.ID65 != v.id65 || c.ID44 != v.id44:
		return fmt.Errorf("verify cosignature of %q: it is of another key", r.Name)
	case len(c.MLDSA44) == 0:
		return fmt.Errorf("verify cosignature of %q: its ML-DSA-44 signature is missing", r.Name)
	}
	return v.verify(h, c)
}

// WithoutMLDSA44 gives the part of c that agents are sent.
func (c Cosignature) WithoutMLDSA44() Cosignature {
	c.ID44, c.MLDSA44 = [4]byte{}, nil
	return c
}

// Checkpoint is a head with its signatures (FORMAT.md section 9).
type Checkpoint struct {
	Head         Head
	LogLines     []string // the log's own lines, verbatim, without line feed
	Cosignatures []Cosignature
	OtherLines   []string // lines of other names, as witnesses add them
}

// Add puts a cosignature in, in place of an older one of the same key.
func (c *Checkpoint) Add(s Cosignature) {
	for i, old := range c.Cosignatures {
		if old.Replica == s.Replica && old.ID65 == s.ID65 {
			if s.Time >= old.Time {
				c.Cosignatures[i] = s
			}
			return
		}
	}
	c.Cosignatures = append(c.Cosignatures, s)
}

// AddFitting is Add for a cosignature whose lines leave the note one that can be read
// and that each of these certifiers takes; else it does nothing. Key ids have four
// bytes and a replica chooses its keys, so one that lies can have two lines of one id, or
// the id of another key of its own, and nobody is to be kept from certifying by that.
func (c *Checkpoint) AddFitting(s Cosignature, certifiers ...*Certifier) {
	if len(s.MLDSA44) > 0 && s.ID44 == s.ID65 {
		return
	}
	for _, old := range c.Cosignatures {
		if old.Replica != s.Replica || old.ID65 == s.ID65 {
			continue
		}
		if old.ID44 == s.ID65 && len(old.MLDSA44) > 0 || len(s.MLDSA44) > 0 && (s.ID44 == old.ID65 || s.ID44 == old.ID44) {
			return
		}
	}
	for _, f := range certifiers {
		v := f.replica(s)
		if v != nil && v.verify(c.Head, s.of(v)) != nil {
			return
		}
	}
	c.Add(s)
}

// Note gives the checkpoint's text, its lines in the order of FORMAT.md
// section 9.
func (c *Checkpoint) Note() []byte {
	cosignatures := slices.Clone(c.Cosignatures)
	slices.SortStableFunc(cosignatures, compareCosignatures)
	var b bytes.Buffer
	b.Write(c.Head.Body())
	b.WriteByte('\n')
	for _, line := range c.LogLines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	for _, s := range cosignatures {
		name := CosignerName(c.Head.Origin, s.Replica)
		if len(s.MLDSA44) > 0 {
			b.WriteString(noteLine(name, s.ID44, timedSignature(s.Time, s.MLDSA44)))
			b.WriteByte('\n')
		}
		b.WriteString(noteLine(name, s.ID65, timedSignature(s.Time, s.MLDSA65)))
		b.WriteByte('\n')
	}
	for _, line := range c.OtherLines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func compareCosignatures(a, b Cosignature) int {
	if n := strings.Compare(a.Replica, b.Replica); n != 0 {
		return n
	}
	return bytes.Compare(a.ID65[:], b.ID65[:])
}

// ParseCheckpoint reads a note in the form of FORMAT.md section 9. It verifies
// no signature: see Authority.Certifies. Whatever it accepts, Note gives back.
func ParseCheckpoint(note []byte) (*Checkpoint, error) {
	text, lines, err := splitNote(note)
	if err != nil {
		return nil, fmt.Errorf("parse checkpoint: %w", err)
	}
	head, err := parseBody(text)
	if err != nil {
		return nil, fmt.Errorf("parse checkpoint: %w", err)
	}
	c := &Checkpoint{Head: head}
	if err := c.takeLines(lines); err != nil {
		return nil, fmt.Errorf("parse checkpoint: %w", err)
	}
	if !bytes.Equal(c.Note(), note) {
		return nil, errors.New("parse checkpoint: the lines are not in order")
	}
	return c, nil
}

// takeLines sorts lines by whose they are. A key has one line at most: a
// cosignature that stands twice is one that is made to look like two.
func (c *Checkpoint) takeLines(lines []signatureLine) error {
	type key struct {
		name string
		id   [noteKeyIDLen]byte
	}
	seen := map[key]bool{}
	replicas := CosignerName(c.Head.Origin, "")
	var half *Cosignature // an ML-DSA-44 line that waits for its ML-DSA-65 line
	for i, line := range lines {
		if k := (key{line.name, line.id}); seen[k] {
			return fmt.Errorf("signature line %d: a second line of key %x of %s", i+1, line.id, line.name)
		} else {
			seen[k] = true
		}
		replica, isReplica := strings.CutPrefix(line.name, replicas)
		if half != nil && (!isReplica || replica != half.Replica) {
			return fmt.Errorf("signature line %d: the ML-DSA-65 line of %s should stand here", i+1, half.Replica)
		}
		switch {
		case line.name == c.Head.Origin:
			c.LogLines = append(c.LogLines, line.text)
			continue
		case !isReplica:
			c.OtherLines = append(c.OtherLines, line.text)
			continue
		}
		var err error
		if half, err = c.takeCosignature(replica, line, half); err != nil {
			return fmt.Errorf("signature line %d: %w", i+1, err)
		}
	}
	if half != nil {
		return fmt.Errorf("the ML-DSA-65 line of %s is missing", half.Replica)
	}
	return nil
}

// takeCosignature takes one line of a replica: either kind is known by its
// length.
func (c *Checkpoint) takeCosignature(replica string, line signatureLine, half *Cosignature) (*Cosignature, error) {
	if err := ValidName(replica); err != nil {
		return nil, err
	}
	if len(line.sig) < 8 {
		return nil, errors.New("a cosignature has a time and a signature")
	}
	seconds, sig := binary.BigEndian.Uint64(line.sig), line.sig[8:]
	if seconds == 0 || seconds > canon.MaxInt {
		return nil, errors.New("a cosignature's time is 1 to 2^53-1 seconds")
	}
	switch len(sig) {
	case keys.Cosigner44SignatureSize:
		if half != nil {
			return nil, fmt.Errorf("two ML-DSA-44 lines of %s in a row", replica)
		}
		return &Cosignature{Replica: replica, Time: seconds, ID44: line.id, MLDSA44: sig}, nil
	case keys.SignatureSize:
		s := Cosignature{Replica: replica, Time: seconds}
		if half != nil {
			if half.Time != seconds {
				return nil, fmt.Errorf("the two lines of %s have different times", replica)
			}
			s = *half
		}
		s.ID65, s.MLDSA65 = line.id, sig
		c.Cosignatures = append(c.Cosignatures, s)
		return nil, nil
	}
	return nil, fmt.Errorf("a cosignature of %d bytes is neither ML-DSA-44 nor ML-DSA-65", len(sig))
}
