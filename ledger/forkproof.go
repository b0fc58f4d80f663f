package ledger

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger/canon"
)

// ForkProofType is the type of a fork proof file.
const ForkProofType = "quorate/fork-proof.v1"

// ForkProof proves that one replica cosigned two heads that no one history has,
// with nothing but the genesis hash (FORMAT.md section 16). Ours is a head of the
// history of whoever made the file, at least as large as Theirs; Root is the root
// of Ours' history at Theirs' size, and Consistency the RFC 6962 proof of it,
// empty at the same size. Each note carries the accused's cosignature alone.
type ForkProof struct {
	Authority   []*Link `json:"authority"`
	Consistency []Hash  `json:"consistency"`
	Ours        string  `json:"ours"`
	Root        Hash    `json:"root"`
	Theirs      string  `json:"theirs"`
	Type        string  `json:"type"`
}

// ForkReport is what a checked fork proof says.
type ForkReport struct {
	Genesis      Hash
	Replica      string // the accused
	Operator     string
	Key          Hash // id of its key
	Generation   uint64
	Ours, Theirs Head
	Root         Hash   // of Ours' history at Theirs' size
	Signed       uint64 // seconds: when it signed Theirs
}

// Encode gives the file, canonical JSON. It sets the type.
func (p *ForkProof) Encode() ([]byte, error) {
	p.Type = ForkProofType
	if p.Consistency == nil {
		p.Consistency = []Hash{}
	}
	b, err := canon.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode fork proof: %w", err)
	}
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("encode fork proof: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	return b, nil
}

// ParseForkProof reads what Encode gives, and nothing else.
func ParseForkProof(b []byte) (*ForkProof, error) {
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("parse fork proof: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	var p ForkProof
	if err := canon.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("parse fork proof: %w", err)
	}
	if p.Type != ForkProofType {
		return nil, fmt.Errorf("parse fork proof: type %.64q, want %q", p.Type, ForkProofType)
	}
	return &p, nil
}

// Ledger is the genesis hash that the file itself names: to show what it is
// about, not to trust it.
func (p *ForkProof) Ledger() (Hash, error) {
	if len(p.Authority) == 0 {
		return Hash{}, fmt.Errorf("read fork proof: it has no authority: %w", ErrProof)
	}
	_, hash, err := ParseGenesis(p.Authority[0].Genesis)
	return hash, err
}

// Verify checks the proof under the authority chain that it carries. Both
// signatures must be of one key and of one generation: after a recovery a replica
// rightly signs other heads at sizes that it signed before.
func (p *ForkProof) Verify(genesis Hash) (*ForkReport, error) {
	report, err := p.verify(genesis)
	if err != nil {
		return nil, fmt.Errorf("verify fork proof: %w", err)
	}
	return report, nil
}

func (p *ForkProof) verify(genesis Hash) (*ForkReport, error) {
	chain, err := WalkChain(genesis, p.Authority)
	if err != nil {
		return nil, err
	}
	ours, mine, err := soleCosignature(p.Ours)
	if err != nil {
		return nil, err
	}
	theirs, other, err := soleCosignature(p.Theirs)
	if err != nil {
		return nil, err
	}
	if mine.Replica != other.Replica || ours.Origin != theirs.Origin {
		return nil, fmt.Errorf("the two heads are of %q and %q: %w", mine.Replica, other.Replica, ErrProof)
	}
	if err := Contradict(p.Consistency, p.Root, ours, theirs); err != nil {
		return nil, err
	}
	if ours.Origin != chain.Latest.Origin {
		return nil, fmt.Errorf("the heads are of %q, the ledger is %q: %w", ours.Origin, chain.Latest.Origin, ErrProof)
	}
	for index := range chain.Len() {
		a, _ := chain.At(index)
		for _, r := range a.Active() {
			if r.Name == mine.Replica && mine.Verify(a.Branch(), ours, r) == nil && other.Verify(a.Branch(), theirs, r) == nil {
				return &ForkReport{Genesis: genesis, Replica: r.Name, Operator: r.Operator, Key: r.KeyID(), Generation: a.Generation,
					Ours: ours, Theirs: theirs, Root: p.Root, Signed: other.Time}, nil
			}
		}
	}
	return nil, fmt.Errorf("no key that %q had signed both: %w", mine.Replica, ErrProof)
}

// Contradict checks that no history has both heads: root is that of ours' history
// at theirs' size, and theirs has another.
func Contradict(consistency []Hash, root Hash, ours, theirs Head) error {
	if theirs.Root == root {
		return fmt.Errorf("both heads are of one history: %w", ErrProof)
	}
	return VerifyConsistency(consistency, theirs.Size, root, ours.Size, ours.Root)
}

// soleCosignature reads a note that one replica signed, and nobody else.
func soleCosignature(note string) (Head, Cosignature, error) {
	c, err := ParseCheckpoint([]byte(note))
	if err != nil {
		return Head{}, Cosignature{}, err
	}
	if len(c.Cosignatures) != 1 || len(c.LogLines)+len(c.OtherLines) > 0 {
		return Head{}, Cosignature{}, errors.New("want a note with one cosignature and no other line")
	}
	return c.Head, c.Cosignatures[0], nil
}
