package ledger

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
)

// The two files that `prove` writes and `verify` checks with nothing but the
// genesis hash (FORMAT.md section 11).

// StateProofType is the type of a state proof file.
const StateProofType = "quorate/state-proof.v1"

// KeyRecordPrefix is before the hex of a key's id in the key of its record.
const KeyRecordPrefix = "key/"

const tlogProofHeader = "c2sp.org/tlog-proof@v1\n"

// ProofReport is what a checked proof file says.
type ProofReport struct {
	Genesis     Hash
	Head        Head   // certified
	Authority   uint64 // index of the authority that certified it
	Cosigners   int    // distinct active replicas
	Threshold   int
	Signed      uint64 // seconds: when the threshold had signed
	Entry       *Entry // of an entry proof
	Key         string // of a state proof
	Value       []byte // of a state proof: the record, or nil if there is none
	SealedAt    uint64 // of a state proof: the seal's stamp, milliseconds
	SealedEpoch uint64 // of a state proof
	KeyRecord   []byte // of an entry proof with a key: the record of the key that its statement names
	KeySize     uint64 // the size at which it is so
}

// EntryProof proves that an entry is in the ledger: a C2SP tlog-proof with the
// entry, and the authority chain unless the reader has it, in its extra line.
type EntryProof struct {
	Seq        uint64
	Proof      []Hash // RFC 6962 inclusion proof
	Checkpoint []byte // note
	Authority  []*Link
	Entry      []byte
	Key        *KeyProof // optional, of a statement
}

// KeyProof proves how the key that a statement names stands later than its entry: a
// state proof of the key's record, under the same authority chain.
type KeyProof struct {
	Checkpoint string     `json:"checkpoint"`
	Proof      StateProof `json:"proof"`
	Seal       []byte     `json:"seal"` // entry
	SealProof  []Hash     `json:"seal_proof"`
}

// entryProofExtra is the extra line of an entry proof.
type entryProofExtra struct {
	Authority []*Link   `json:"authority,omitempty"`
	Entry     []byte    `json:"entry"`
	Key       *KeyProof `json:"key,omitempty"`
}

// Encode gives the .tlog-proof file.
func (p *EntryProof) Encode() ([]byte, error) {
	extra, err := canon.Marshal(entryProofExtra{Authority: p.Authority, Entry: p.Entry, Key: p.Key})
	if err != nil {
		return nil, fmt.Errorf("encode entry proof: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(tlogProofHeader)
	fmt.Fprintf(&b, "extra %s\n", base64.StdEncoding.EncodeToString(extra))
	fmt.Fprintf(&b, "index %d\n", p.Seq)
	for _, h := range p.Proof {
		fmt.Fprintf(&b, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	if b.Len() > MaxProofFileBytes {
		return nil, fmt.Errorf("encode entry proof: %d bytes, at most %d", b.Len(), MaxProofFileBytes)
	}
	return b.Bytes(), nil
}

// ParseEntryProof reads what Encode gives, and nothing else.
func ParseEntryProof(b []byte) (*EntryProof, error) {
	p, err := parseEntryProof(b)
	if err != nil {
		return nil, fmt.Errorf("parse entry proof: %w", err)
	}
	return p, nil
}

func parseEntryProof(b []byte) (*EntryProof, error) {
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	rest, ok := strings.CutPrefix(string(b), tlogProofHeader)
	if !ok {
		return nil, errors.New("it does not begin as a tlog-proof, version 1")
	}
	head, checkpoint, ok := strings.Cut(rest, "\n\n")
	if !ok {
		return nil, errors.New("no empty line before the checkpoint")
	}
	lines := strings.SplitN(head, "\n", 3+MaxInclusionHashes)
	if len(lines) < 2 || len(lines) > 2+MaxInclusionHashes {
		return nil, errors.New("want an extra line, an index line and hashes")
	}
	p := &EntryProof{Checkpoint: []byte(checkpoint), Proof: []Hash{}}
	encoded, isExtra := strings.CutPrefix(lines[0], "extra ")
	number, isIndex := strings.CutPrefix(lines[1], "index ")
	if !isExtra || !isIndex {
		return nil, errors.New("want an extra line, then an index line")
	}
	raw, err := base64Std.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("extra: %w", err)
	}
	var extra entryProofExtra
	if err := canon.Unmarshal(raw, &extra); err != nil {
		return nil, fmt.Errorf("extra: %w", err)
	}
	p.Authority, p.Entry, p.Key = extra.Authority, extra.Entry, extra.Key
	if p.Seq, err = strconv.ParseUint(number, 10, 53); err != nil {
		return nil, errors.New("index: want 0 to 2^53-1")
	}
	for i, line := range lines[2:] {
		h, err := base64Std.DecodeString(line)
		if err != nil || len(h) != len(Hash{}) {
			return nil, fmt.Errorf("hash %d: want base64 of 32 bytes", i)
		}
		p.Proof = append(p.Proof, Hash(h))
	}
	if _, err := ParseCheckpoint(p.Checkpoint); err != nil {
		return nil, err
	}
	again, err := p.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("not in its one form")
	}
	return p, nil
}

// Verify checks the proof under the authority chain that it carries.
func (p *EntryProof) Verify(genesis Hash) (*ProofReport, error) {
	chain, err := WalkChain(genesis, p.Authority)
	if err != nil {
		return nil, fmt.Errorf("verify entry proof: %w", err)
	}
	return p.VerifyUnder(chain)
}

// VerifyUnder checks the proof under a chain that the reader has.
func (p *EntryProof) VerifyUnder(chain *Chain) (*ProofReport, error) {
	e, err := ParseEntry(p.Entry)
	if err != nil {
		return nil, fmt.Errorf("verify entry proof: %w", err)
	}
	if e.Seq != p.Seq {
		return nil, fmt.Errorf("verify entry proof: it is of index %d, the entry is %d", p.Seq, e.Seq)
	}
	report, err := chain.report(p.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("verify entry proof: %w", err)
	}
	if err := VerifyInclusion(p.Proof, p.Seq, report.Head.Size, LeafHash(p.Entry), report.Head.Root); err != nil {
		return nil, fmt.Errorf("verify entry proof: %w", err)
	}
	report.Entry = e
	if p.Key != nil {
		if err := p.Key.verify(chain, e, report); err != nil {
			return nil, fmt.Errorf("verify entry proof: key: %w", err)
		}
	}
	return report, nil
}

// verify proves the record of the key that an entry's statement names, at a head that
// has the entry.
func (k *KeyProof) verify(chain *Chain, e *Entry, report *ProofReport) error {
	if e.Kind != KindStatement {
		return fmt.Errorf("entry %d is no statement, and names no key", e.Seq)
	}
	st, err := ParseStatement(e.Content)
	if err != nil {
		return err
	}
	state, err := (&StateProofFile{Checkpoint: k.Checkpoint, Proof: k.Proof, Seal: k.Seal, SealProof: k.SealProof}).VerifyUnder(chain)
	switch {
	case err != nil:
		return err
	case state.Key != KeyRecordPrefix+st.KeyID.String():
		return fmt.Errorf("it proves the record %q, the statement names key %s", state.Key, st.KeyID)
	case state.Head.Size <= e.Seq:
		return fmt.Errorf("it is of size %d, before entry %d", state.Head.Size, e.Seq)
	case len(state.Value) == 0:
		return fmt.Errorf("the ledger has no key %s at size %d", st.KeyID, state.Head.Size)
	}
	report.KeyRecord, report.KeySize = state.Value, state.Head.Size
	return nil
}

// With gives the entry proof with a state proof of its statement's key, and with the
// longer of their authority chains.
func (p *EntryProof) With(key *StateProofFile) {
	p.Key = &KeyProof{Checkpoint: key.Checkpoint, Proof: key.Proof, Seal: key.Seal, SealProof: key.SealProof}
	if len(key.Authority) > len(p.Authority) {
		p.Authority = key.Authority
	}
}

// report checks a checkpoint and says who certified it and when.
func (c *Chain) report(note []byte) (*ProofReport, error) {
	checkpoint, err := c.VerifyCheckpoint(note)
	if err != nil {
		return nil, err
	}
	index := c.indexFor(checkpoint.Head.Size)
	s := c.steps[index]
	n, err := s.certifier.Certifies(checkpoint)
	if err != nil {
		return nil, err
	}
	return &ProofReport{
		Genesis:   c.Genesis,
		Head:      checkpoint.Head,
		Authority: uint64(index),
		Cosigners: n,
		Threshold: s.certifier.threshold,
		Signed:    checkpoint.Signed(s.authority),
	}, nil
}

// StateProofFile proves a record of the state, or that there is none, at a
// certified head: the head ends in a seal, which holds the state digest.
type StateProofFile struct {
	Authority  []*Link    `json:"authority"`
	Checkpoint string     `json:"checkpoint"`
	Proof      StateProof `json:"proof"`
	Seal       []byte     `json:"seal"` // entry
	SealProof  []Hash     `json:"seal_proof"`
	Type       string     `json:"type"`
}

// Encode gives the file, canonical JSON. It sets the type.
func (p *StateProofFile) Encode() ([]byte, error) {
	p.Type = StateProofType
	b, err := canon.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode state proof file: %w", err)
	}
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("encode state proof file: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	return b, nil
}

// ParseStateProofFile reads what Encode gives, and nothing else.
func ParseStateProofFile(b []byte) (*StateProofFile, error) {
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("parse state proof file: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	var p StateProofFile
	if err := canon.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("parse state proof file: %w", err)
	}
	if p.Type != StateProofType {
		return nil, fmt.Errorf("parse state proof file: type %.64q, want %q", p.Type, StateProofType)
	}
	return &p, nil
}

// Verify checks the proof under the authority chain that it carries.
func (p *StateProofFile) Verify(genesis Hash) (*ProofReport, error) {
	chain, err := WalkChain(genesis, p.Authority)
	if err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	return p.VerifyUnder(chain)
}

// VerifyUnder checks the proof under a chain that the reader has.
func (p *StateProofFile) VerifyUnder(chain *Chain) (*ProofReport, error) {
	report, err := chain.report([]byte(p.Checkpoint))
	if err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	e, err := ParseEntry(p.Seal)
	if err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	seal, err := e.Seal()
	if err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	if e.Seq+1 != report.Head.Size {
		return nil, fmt.Errorf("verify state proof: the seal is entry %d, the head's size is %d", e.Seq, report.Head.Size)
	}
	if err := VerifyInclusion(p.SealProof, e.Seq, report.Head.Size, LeafHash(p.Seal), report.Head.Root); err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	if err := p.Proof.Verify(seal.Digest); err != nil {
		return nil, fmt.Errorf("verify state proof: %w", err)
	}
	report.Key, report.Value = p.Proof.Key, p.Proof.Value
	report.SealedAt, report.SealedEpoch = e.Stamp, seal.Epoch
	return report, nil
}
