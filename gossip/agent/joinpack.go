package agent

import (
	"fmt"
	"os"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// JoinPackType is the type of a join pack file.
const JoinPackType = "quorate/join-pack.v1"

// JoinPack is what a new agent starts from: the genesis hash, which proves
// authority, and a recent certified head, which the ledger must have reached:
// recency, which genesis alone does not prove. Whoever hands the pack over vouches for the
// head.
type JoinPack struct {
	Genesis ledger.Hash `json:"genesis"`
	Head    string      `json:"head,omitempty"` // a checkpoint's note
	Type    string      `json:"type"`
}

// Encode gives the file, canonical JSON. It sets the type.
func (p *JoinPack) Encode() ([]byte, error) {
	p.Type = JoinPackType
	return canon.Marshal(p)
}

// ReadJoinPack reads a join pack file.
func ReadJoinPack(path string) (*JoinPack, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read join pack: %w", err)
	}
	var p JoinPack
	if err := canon.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read join pack %s: %w", path, err)
	}
	if p.Type != JoinPackType {
		return nil, fmt.Errorf("read join pack %s: type %.64q, want %q", path, p.Type, JoinPackType)
	}
	if p.Genesis.IsZero() {
		return nil, fmt.Errorf("read join pack %s: it has no genesis hash", path)
	}
	if p.Head != "" {
		if _, err := ledger.ParseCheckpoint([]byte(p.Head)); err != nil {
			return nil, fmt.Errorf("read join pack %s: head: %w", path, err)
		}
	}
	return &p, nil
}
