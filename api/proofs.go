package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

type inclusionInput struct {
	ReadInput
	Seq  uint64 `query:"seq" required:"true"`
	Size uint64 `query:"size" doc:"Of the tree; 0: the newest certified one"`
}

type consistencyInput struct {
	ReadInput
	From uint64 `query:"from" required:"true" doc:"Size of the older tree, at least 1"`
	To   uint64 `query:"to" doc:"Size of the newer tree; 0: the newest certified one"`
}

type stateInput struct {
	ReadInput
	Key string `query:"key" required:"true" maxLength:"256" doc:"Key of the record, such as node/edge-7 or policy"`
}

func (s *Server) proofRoutes(h huma.API) {
	registerRead(s, h, "prove-inclusion", "/v1/proofs/inclusion", "RFC 6962 inclusion proof of an entry",
		func(_ context.Context, _ *View, in *inclusionInput) (*client.InclusionProof, error) {
			return s.inclusion(in.Seq, in.Size)
		})
	registerRead(s, h, "prove-consistency", "/v1/proofs/consistency", "RFC 6962 consistency proof between two sizes",
		func(_ context.Context, _ *View, in *consistencyInput) (*client.ConsistencyProof, error) {
			return s.consistency(in.From, in.To)
		})
	registerRead(s, h, "prove-state", "/v1/proofs/state", "Proof of one record of the state, or of its absence, against the newest certified seal",
		func(_ context.Context, v *View, in *stateInput) (*client.StateProof, error) {
			if in.Consistency != client.Certified {
				return nil, badParameter("query.consistency", "only certified state can be proven")
			}
			return s.stateProof(v, in.Key)
		})
}

// provable gives the tree size that a proof is for: never beyond the certified
// one, because the head above it is nobody's word yet.
func (s *Server) provable(size uint64) (uint64, error) {
	_, certified := s.backend.Checkpoint()
	if certified == 0 {
		return 0, ErrNotReady
	}
	if size == 0 {
		return certified, nil
	}
	if size > certified {
		return 0, notFound("the tree of %d entries is not certified yet; the newest certified one has %d", size, certified)
	}
	return size, nil
}

func (s *Server) inclusion(seq, size uint64) (*client.InclusionProof, error) {
	size, err := s.provable(size)
	if err != nil {
		return nil, err
	}
	if seq >= size {
		return nil, notFound("entry %d is not in the tree of %d entries", seq, size)
	}
	proof, err := s.backend.Archive().ProveInclusion(seq, size)
	if err != nil {
		return nil, err
	}
	root, err := s.backend.Archive().TreeHash(size)
	if err != nil {
		return nil, err
	}
	return &client.InclusionProof{Seq: seq, Size: size, Root: ledger.Hash(root).String(), Hashes: hexHashes(proof)}, nil
}

func (s *Server) consistency(from, to uint64) (*client.ConsistencyProof, error) {
	to, err := s.provable(to)
	if err != nil {
		return nil, err
	}
	if from == 0 || from > to {
		return nil, badParameter("query.from", "want 1 to %d", to)
	}
	a := s.backend.Archive()
	proof, err := a.ProveConsistency(from, to)
	if err != nil {
		return nil, err
	}
	older, err := a.TreeHash(from)
	if err != nil {
		return nil, err
	}
	newer, err := a.TreeHash(to)
	if err != nil {
		return nil, err
	}
	return &client.ConsistencyProof{
		From: from, To: to, FromRoot: ledger.Hash(older).String(), ToRoot: ledger.Hash(newer).String(), Hashes: hexHashes(proof),
	}, nil
}

// stateProof proves a record under the seal that ends the certified head.
func (s *Server) stateProof(v *View, key string) (*client.StateProof, error) {
	if !v.Certified || v.Size == 0 {
		return nil, ErrNotReady
	}
	proof, err := v.State.Prove(key)
	if err != nil {
		return nil, badParameter("query.key", "%v", err)
	}
	encoded, err := proof.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode state proof: %w", err)
	}
	checkpoint, err := ledger.ParseCheckpoint(v.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("read own checkpoint: %w", err)
	}
	size := checkpoint.Head.Size
	if size != v.Size {
		return nil, fmt.Errorf("prove state: the checkpoint has size %d, the state %d", size, v.Size)
	}
	seal, err := s.backend.Archive().Entry(size - 1)
	if err != nil {
		return nil, err
	}
	path, err := s.backend.Archive().ProveInclusion(size-1, size)
	if err != nil {
		return nil, err
	}
	return &client.StateProof{
		Key: key, Checkpoint: string(v.Checkpoint), Seal: seal, SealProof: hexHashes(path), Proof: json.RawMessage(encoded),
	}, nil
}

func hexHashes(hashes []tlog.Hash) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = ledger.Hash(h).String()
	}
	return out
}

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }

// cursorSeq is parseCursor for lists by seq, from before down; first is where
// the first page begins.
func cursorSeq(list, cursor string, first uint64) (uint64, error) {
	last, err := parseCursor(list, cursor)
	if err != nil || last == "" {
		return first, err
	}
	seq, err := strconv.ParseUint(last, 10, 64)
	if err != nil || seq > first || uitoa(seq) != last {
		return 0, badParameter("query.cursor", "not a cursor of this list; begin again without one")
	}
	return seq, nil
}

func decodeEffect[T any](e *ledger.Effect) (T, error) {
	var body T
	if err := canon.Unmarshal(e.Body, &body); err != nil {
		return body, errors.Join(fmt.Errorf("read effect %s", e.Type), err)
	}
	return body, nil
}
