package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger/canon"
)

// Link is one step of the authority chain (FORMAT.md section 10). Link 0 has
// genesis and nothing else.
type Link struct {
	Checkpoint  string          `json:"checkpoint,omitempty"`
	Fork        *Fork           `json:"fork,omitempty"`    // of a link that opens a generation
	Genesis     []byte          `json:"genesis,omitempty"` // entry 0
	Index       uint64          `json:"index"`
	Record      *Authority      `json:"record,omitempty"`
	RecordProof *StateProof     `json:"record_proof,omitempty"` // without value
	Seal        []byte          `json:"seal,omitempty"`         // entry
	SealProof   []Hash          `json:"seal_proof,omitempty"`
	Statements  []LinkStatement `json:"statements,omitempty"`
}

// LinkStatement is a statement that authorises a link's change, with its
// inclusion proof under the link's checkpoint.
type LinkStatement struct {
	Entry []byte `json:"entry"`
	Proof []Hash `json:"proof"`
	Seq   uint64 `json:"seq"`
}

// LinkError says which link of an authority chain is wrong, and why.
type LinkError struct {
	Index  uint64
	Reason error
}

func (e *LinkError) Error() string { return fmt.Sprintf("authority link %d: %v", e.Index, e.Reason) }
func (e *LinkError) Unwrap() error { return e.Reason }

// ParseLink reads a link's canonical JSON. It checks which fields are there,
// not what they say: see Follow.
func ParseLink(b []byte) (*Link, error) {
	if len(b) > MaxLinkBytes {
		return nil, fmt.Errorf("parse authority link: %d bytes, at most %d", len(b), MaxLinkBytes)
	}
	var l Link
	if err := canon.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("parse authority link: %w", err)
	}
	if err := l.checkFields(); err != nil {
		return nil, fmt.Errorf("parse authority link: %w", err)
	}
	return &l, nil
}

func (l *Link) checkFields() error {
	rest := l.Checkpoint != "" || l.Record != nil || l.RecordProof != nil || l.Seal != nil || l.SealProof != nil || l.Statements != nil || l.Fork != nil
	if l.Index == 0 {
		if len(l.Genesis) == 0 || rest {
			return errors.New("link 0 has genesis and nothing else")
		}
		return nil
	}
	switch {
	case l.Genesis != nil:
		return errors.New("genesis is in link 0 alone")
	case l.Checkpoint == "" || l.Record == nil || l.RecordProof == nil || len(l.Seal) == 0 || len(l.SealProof) == 0:
		return errors.New("checkpoint, record, record_proof, seal or seal_proof is missing")
	case len(l.RecordProof.Value) > 0 || l.RecordProof.Other != nil:
		return errors.New("record_proof: neither value nor other belongs here")
	case l.Fork != nil && l.Fork.Checkpoint == "":
		return errors.New("fork: its checkpoint is missing")
	case len(l.Statements) < 1 || len(l.Statements) > MaxLinkStatements:
		return fmt.Errorf("statements: want 1 to %d", MaxLinkStatements)
	}
	return nil
}

// Encode gives the link's canonical JSON.
func (l *Link) Encode() ([]byte, error) {
	if err := l.checkFields(); err != nil {
		return nil, fmt.Errorf("encode authority link: %w", err)
	}
	b, err := canon.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode authority link: %w", err)
	}
	if len(b) > MaxLinkBytes {
		return nil, fmt.Errorf("encode authority link: %d bytes, at most %d", len(b), MaxLinkBytes)
	}
	return b, nil
}

// Follow checks that l is the link after prev, on the ledger named genesis, and
// gives the authority that l establishes. It trusts nothing in l. The error is
// a *LinkError.
func Follow(genesis Hash, prev Authority, l *Link) (Authority, error) {
	old, err := NewCertifier(prev)
	if err != nil {
		return Authority{}, &LinkError{Index: l.Index, Reason: err}
	}
	step, err := follow(genesis, prev, old, l)
	if err != nil {
		return Authority{}, &LinkError{Index: l.Index, Reason: err}
	}
	return step.authority, nil
}

// step is what a checked link establishes.
type step struct {
	authority Authority
	certifier *Certifier
	head      Head
	fork      Head // of a link that opens a generation: the head it goes on from
}

func follow(genesis Hash, prev Authority, old *Certifier, l *Link) (step, error) {
	if err := l.checkFields(); err != nil {
		return step{}, err
	}
	if l.Index == 0 || l.Index != prev.Index+1 {
		return step{}, fmt.Errorf("it does not follow authority %d", prev.Index)
	}
	checkpoint, err := ParseCheckpoint([]byte(l.Checkpoint))
	if err != nil {
		return step{}, err
	}
	if err := l.checkSeal(checkpoint.Head); err != nil {
		return step{}, fmt.Errorf("seal: %w", err)
	}
	statements, causes, err := l.checkStatements(checkpoint.Head)
	if err != nil {
		return step{}, err
	}
	next, err := prev.successor(genesis, statements, causes)
	if err != nil {
		return step{}, err
	}
	if field := next.differs(*l.Record); field != "" {
		return step{}, fmt.Errorf("record: %s is not what the statements make of it", field)
	}
	if next.differsIn(prev) == "" {
		return step{}, errors.New("record: nothing changes")
	}
	certifier, err := NewCertifier(next)
	if err != nil {
		return step{}, err
	}
	var fork Head
	switch opens := statements[0].Payload.Type == TypeRecover; {
	case opens != (l.Fork != nil):
		return step{}, errors.New("fork: a link has one if and only if it opens a generation")
	case opens:
		body, err := DecodeBody[Recover](statements[0])
		if err != nil {
			return step{}, err
		}
		if fork, err = l.checkFork(old, body, checkpoint.Head); err != nil {
			return step{}, err
		}
	default:
		if _, err := old.Certifies(checkpoint); err != nil {
			return step{}, fmt.Errorf("under the authority before: %w", err)
		}
	}
	if _, err := certifier.Certifies(checkpoint); err != nil {
		return step{}, fmt.Errorf("under the authority that follows: %w", err)
	}
	return step{authority: next, certifier: certifier, head: checkpoint.Head, fork: fork}, nil
}

// differsIn is differs but for index and causes, which differ in any case.
func (a Authority) differsIn(b Authority) string {
	b.Index, b.Causes = a.Index, a.Causes
	return a.differs(b)
}

// checkSeal checks that the seal ends the head, announces this link and holds
// the record.
func (l *Link) checkSeal(h Head) error {
	e, err := ParseEntry(l.Seal)
	if err != nil {
		return err
	}
	seal, err := e.Seal()
	if err != nil {
		return err
	}
	if e.Seq+1 != h.Size {
		return fmt.Errorf("it is entry %d, the checkpoint's size is %d", e.Seq, h.Size)
	}
	if seal.Reason != SealHandover || seal.Handover != l.Index {
		return fmt.Errorf("it announces handover %d for reason %s", seal.Handover, seal.Reason)
	}
	if err := VerifyInclusion(l.SealProof, e.Seq, h.Size, LeafHash(l.Seal), h.Root); err != nil {
		return err
	}
	if l.RecordProof.Key != AuthorityKey {
		return fmt.Errorf("record_proof is of record %q", l.RecordProof.Key)
	}
	proof := *l.RecordProof
	if proof.Value, err = l.Record.Encode(); err != nil {
		return err
	}
	return proof.Verify(seal.Digest)
}

// checkStatements checks that the statements are entries of the head's tree, in
// order, and parses them. Whether they authorise anything is successor's.
func (l *Link) checkStatements(h Head) ([]*Statement, []uint64, error) {
	statements := make([]*Statement, 0, len(l.Statements))
	causes := make([]uint64, 0, len(l.Statements))
	for i, at := range l.Statements {
		if i > 0 && at.Seq <= causes[i-1] {
			return nil, nil, fmt.Errorf("statement %d: the seqs do not rise", at.Seq)
		}
		e, err := ParseEntry(at.Entry)
		if err != nil {
			return nil, nil, fmt.Errorf("statement %d: %w", at.Seq, err)
		}
		if e.Seq != at.Seq || e.Kind != KindStatement {
			return nil, nil, fmt.Errorf("statement %d: the entry is %s %d", at.Seq, e.Kind, e.Seq)
		}
		if err := VerifyInclusion(at.Proof, at.Seq, h.Size, LeafHash(at.Entry), h.Root); err != nil {
			return nil, nil, fmt.Errorf("statement %d: %w", at.Seq, err)
		}
		s, err := ParseStatement(e.Content)
		if err != nil {
			return nil, nil, fmt.Errorf("statement %d: %w", at.Seq, err)
		}
		statements = append(statements, s)
		causes = append(causes, at.Seq)
	}
	return statements, causes, nil
}

// GenesisLink makes link 0 of entry 0.
func GenesisLink(entry []byte) *Link { return &Link{Genesis: bytes.Clone(entry)} }
