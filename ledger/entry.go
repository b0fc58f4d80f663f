package ledger

import (
	"fmt"

	"github.com/quorate/quorate/ledger/canon"
)

// Kind is the kind of an entry.
type Kind uint8

// The kinds of FORMAT.md section 5.
const (
	KindGenesis Kind = iota
	KindStatement
	KindEffect
	KindSeal
)

// String names the kind as entries.jsonl does.
func (k Kind) String() string {
	switch k {
	case KindGenesis:
		return "genesis"
	case KindStatement:
		return "statement"
	case KindEffect:
		return "effect"
	case KindSeal:
		return "seal"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Entry is one link of the hash chain and one leaf of the tree.
type Entry struct {
	Seq     uint64
	Stamp   uint64 // milliseconds; never falls
	Prev    Hash   // leaf hash of the entry before
	Kind    Kind
	Content []byte
}

// Effect is the content of an effect entry: a derived fact, with the seqs of
// the entries that caused it.
type Effect struct {
	Body   canon.Raw `json:"body"`
	Causes []uint64  `json:"causes"`
	Type   string    `json:"type"`
}

// The reasons of a seal.
const (
	SealRoutine  = "routine"
	SealUrgent   = "urgent"
	SealHandover = "handover"
)

// Seal is the content of a seal entry.
type Seal struct {
	Digest   Hash   `json:"digest"` // state digest after every entry before it
	Epoch    uint64 `json:"epoch"`
	Handover uint64 `json:"handover,omitempty"` // index of the new authority
	Reason   string `json:"reason"`
}

// Encode returns the entry's deterministic CBOR (RFC 8949 section 4.2.1), at
// most MaxEntryBytes.
func (e *Entry) Encode() ([]byte, error) {
	b := make([]byte, 0, 64+len(e.Content))
	b = append(b, 0x86, 0x01)
	b = appendHead(b, 0, e.Seq)
	b = appendHead(b, 0, e.Stamp)
	b = appendBytes(b, e.Prev[:])
	b = appendHead(b, 0, uint64(e.Kind))
	b = appendBytes(b, e.Content)
	if len(b) > MaxEntryBytes {
		return nil, fmt.Errorf("encode entry %d: %d bytes, at most %d", e.Seq, len(b), MaxEntryBytes)
	}
	return b, nil
}

// ParseEntry reads an entry; whatever it accepts encodes to the same bytes.
func ParseEntry(b []byte) (*Entry, error) {
	if len(b) > MaxEntryBytes {
		return nil, fmt.Errorf("parse entry: %d bytes, at most %d", len(b), MaxEntryBytes)
	}
	d := cborReader{rest: b}
	var e Entry
	if n := d.head(4); n != 6 && d.err == nil {
		return nil, fmt.Errorf("parse entry: array of %d, want 6", n)
	}
	if v := d.head(0); v != 1 && d.err == nil {
		return nil, fmt.Errorf("parse entry: version %d, this program reads 1", v)
	}
	e.Seq = d.head(0)
	e.Stamp = d.head(0)
	prev := d.bytes()
	kind := d.head(0)
	e.Content = d.bytes()
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("parse entry: %w", err)
	}
	if len(prev) != len(e.Prev) {
		return nil, fmt.Errorf("parse entry: prev has %d bytes, want 32", len(prev))
	}
	copy(e.Prev[:], prev)
	if kind > uint64(KindSeal) {
		return nil, fmt.Errorf("parse entry: unknown kind %d", kind)
	}
	if e.Seq > canon.MaxInt || e.Stamp > canon.MaxInt {
		return nil, fmt.Errorf("parse entry: seq or stamp above 2^53-1")
	}
	e.Kind = Kind(kind)
	return &e, nil
}

// Effect decodes the content of an effect entry.
func (e *Entry) Effect() (*Effect, error) {
	if e.Kind != KindEffect {
		return nil, fmt.Errorf("entry %d is a %s, not an effect", e.Seq, e.Kind)
	}
	var f Effect
	if err := canon.Unmarshal(e.Content, &f); err != nil {
		return nil, fmt.Errorf("parse effect %d: %w", e.Seq, err)
	}
	return &f, nil
}

// Seal decodes the content of a seal entry.
func (e *Entry) Seal() (*Seal, error) {
	if e.Kind != KindSeal {
		return nil, fmt.Errorf("entry %d is a %s, not a seal", e.Seq, e.Kind)
	}
	var s Seal
	if err := canon.Unmarshal(e.Content, &s); err != nil {
		return nil, fmt.Errorf("parse seal %d: %w", e.Seq, err)
	}
	switch s.Reason {
	case SealRoutine, SealUrgent, SealHandover:
	default:
		return nil, fmt.Errorf("parse seal %d: unknown reason %q", e.Seq, s.Reason)
	}
	if (s.Reason == SealHandover) != (s.Handover > 0) {
		return nil, fmt.Errorf("parse seal %d: reason %s with handover %d", e.Seq, s.Reason, s.Handover)
	}
	return &s, nil
}
