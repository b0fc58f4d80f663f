package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// decision is a decision effect on the ledger.
type decision struct {
	seq      uint64
	proposal ledger.Hash // statement id
}

// note keeps what proofs of decisions need.
func (f *fetched) note(c *checked) error {
	switch {
	case c.effect == fsm.EffectDecision:
		effect, err := c.entry.Effect()
		if err != nil {
			return err
		}
		var body fsm.ProposalEffect
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return fmt.Errorf("read decision: %w", err)
		}
		f.decisions = append(f.decisions, decision{seq: c.entry.Seq, proposal: body.Proposal})
	case c.statement != nil && c.statement.Payload.Type == ledger.TypePropose:
		if f.proposals == nil {
			f.proposals = map[ledger.Hash]uint64{}
		}
		f.proposals[c.statement.ID] = c.entry.Seq
	}
	return nil
}

// proofs writes, for each decision, what proves it alone.
func (x *exporter) proofs(ctx context.Context) error {
	if len(x.decisions) == 0 {
		return nil
	}
	links, err := x.head.parsedLinks()
	if err != nil {
		return err
	}
	for _, d := range x.decisions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.entryProof(d.seq, links); err != nil {
			return err
		}
		if seq, ok := x.proposals[d.proposal]; ok {
			if err := x.transparentStatement(ctx, seq); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exporter) entryProof(seq uint64, links []*ledger.Link) error {
	entry, err := x.tree.entry(seq)
	if err != nil {
		return err
	}
	proof, err := x.tree.inclusion(seq)
	if err != nil {
		return err
	}
	p := ledger.EntryProof{Seq: seq, Proof: proof, Entry: entry, Authority: links, Checkpoint: x.head.note}
	data, err := p.Encode()
	if err != nil {
		return err
	}
	x.proofFiles++
	return x.add(proofName(seq, proofEntry), data)
}

// transparentStatement writes the statement of entry seq with the source's
// receipt, if the source gives one.
func (x *exporter) transparentStatement(ctx context.Context, seq uint64) error {
	path := fmt.Sprintf("receipts/%d", seq)
	raw, err := x.src.Get(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	receipt, err := ledger.ParseReceipt(raw)
	if err != nil {
		return badFile(StepProof, path, err)
	}
	entry, err := x.tree.entry(seq)
	if err != nil {
		return err
	}
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return badEntry(StepEntry, seq, x.head.size(), err)
	}
	if err := x.head.checkReceipt(x.tree, receipt, seq, entry); err != nil {
		return badFile(StepProof, path, err)
	}
	data, err := ledger.TransparentStatement(e.Content, receipt)
	if err != nil {
		return badFile(StepProof, path, err)
	}
	x.proofFiles++
	return x.add(proofName(seq, proofStatement), data)
}

// checkReceipt checks that a receipt is of entry seq, in this very tree, by a
// replica that certified heads of that size.
func (h *head) checkReceipt(t *tree, r ledger.Receipt, seq uint64, entry []byte) error {
	if r.Seq != seq || r.Size <= seq || r.Size > h.size() {
		return fmt.Errorf("it is of entry %d in a tree of %d, want entry %d in one of at most %d", r.Seq, r.Size, seq, h.size())
	}
	public, err := h.replicaKey(r.KeyID, r.Size)
	if err != nil {
		return err
	}
	root, err := t.rootAt(r.Size)
	if err != nil {
		return err
	}
	return r.Verify(public, entry, root)
}

// replicaKey gives the key of the replica that was active at a size.
func (h *head) replicaKey(id ledger.Hash, size uint64) (*keys.PublicKey, error) {
	active := h.chain.ForSize(size).Active()
	at := slices.IndexFunc(active, func(r ledger.AuthorityReplica) bool { return r.KeyID() == id })
	if at < 0 {
		return nil, fmt.Errorf("key %s is no active replica's at size %d", id, size)
	}
	return keys.ParsePublicKey(active[at].Public)
}

// proofFiles verifies every file below proofs/ against the tree.
func (v *verifier) proofFiles(ctx context.Context) error {
	return v.dir.each(func(path string) error {
		seq, kind, ok := parseProofName(path)
		if !ok {
			return ctx.Err()
		}
		data, err := v.dir.Get(ctx, path)
		if err != nil {
			return readError(StepProof, path, err)
		}
		entry, err := v.tree.entry(seq)
		if err != nil {
			return err
		}
		if kind == proofEntry {
			err = v.head.checkEntryProof(data, seq, entry)
		} else {
			err = v.head.checkTransparent(v.tree, data, seq, entry)
		}
		if err != nil {
			return &BadError{Step: StepProof, File: path, Seq: seq, HasSeq: true, Reason: err}
		}
		v.report.Proofs++
		return nil
	})
}

// checkEntryProof checks a .tlog-proof of an export. Its links are those of the
// export, which are verified already, or they are walked for themselves.
func (h *head) checkEntryProof(data []byte, seq uint64, entry []byte) error {
	p, err := ledger.ParseEntryProof(data)
	if err != nil {
		return err
	}
	if p.Seq != seq || !bytes.Equal(p.Entry, entry) {
		return fmt.Errorf("it is of another entry, %d", p.Seq)
	}
	same, err := h.beginsWith(p.Authority)
	if err != nil {
		return err
	}
	var found *ledger.ProofReport
	if same {
		found, err = p.VerifyUnder(h.chain)
	} else {
		found, err = p.Verify(h.chain.Genesis)
	}
	if err == nil {
		_, err = CheckKey(found)
	}
	return err
}

// beginsWith says whether links are the first of the head's.
func (h *head) beginsWith(links []*ledger.Link) (bool, error) {
	if len(links) > len(h.links) {
		return false, nil
	}
	for i, link := range links {
		raw, err := link.Encode()
		if err != nil {
			return false, err
		}
		if !bytes.Equal(raw, h.links[i]) {
			return false, nil
		}
	}
	return true, nil
}

// checkTransparent checks a transparent statement: that it is the one on the
// ledger, and the replica's receipt. The author's signature is the replay's.
func (h *head) checkTransparent(t *tree, data []byte, seq uint64, entry []byte) error {
	envelope, receipt, err := ledger.ParseTransparentStatement(data)
	if err != nil {
		return err
	}
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return err
	}
	if e.Kind != ledger.KindStatement || !bytes.Equal(e.Content, envelope) {
		return fmt.Errorf("entry %d is not this statement", seq)
	}
	return h.checkReceipt(t, receipt, seq, entry)
}
