package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// ProvenKey is a key's life, told from records that are proven under certified heads.
type ProvenKey struct {
	Key
	Head  Head // under which the key's own record is proven
	Epoch uint64
	Rules ledger.Policy
	Node  *fsm.NodeRecord // its holder, if the key is a node's and it is on the ledger
}

// VerifiedKey reads a key with its life, from proven records. A key that never had a
// role is ErrNotFound.
func (c *Client) VerifiedKey(ctx context.Context, id ledger.Hash) (*ProvenKey, error) {
	var out *ProvenKey
	// The records are of one moment if no head came in between.
	for range maxProvenKeyReads {
		var err error
		before := c.Head()
		if out, err = c.provenKey(ctx, id); err != nil {
			return nil, err
		}
		if after := c.Head(); before != nil && after != nil && before.Size == after.Size {
			break
		}
	}
	return out, nil
}

func (c *Client) provenKey(ctx context.Context, id ledger.Hash) (*ProvenKey, error) {
	record, head, err := verified[fsm.KeyRecord](ctx, c, "key/"+id.String())
	if err != nil {
		return nil, err
	}
	meta, _, err := verified[fsm.Meta](ctx, c, "meta")
	if err != nil {
		return nil, err
	}
	policy, _, err := c.VerifiedPolicy(ctx)
	if err != nil {
		return nil, err
	}
	facts := &KeyFacts{ID: id, Record: record, Epoch: meta.Epoch, Policy: policy}
	if err := c.keyHolder(ctx, facts); err != nil {
		return nil, err
	}
	if meta.Format >= ledger.KeysFormat {
		facts.Backup, err = c.verifiedBackup(ctx, id, meta.Epoch, policy)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return &ProvenKey{Key: TellKey(facts), Head: *head, Epoch: meta.Epoch, Rules: *policy, Node: facts.Node}, nil
}

// keyHolder proves who holds a key now, if anybody of that name does.
func (c *Client) keyHolder(ctx context.Context, f *KeyFacts) (err error) {
	name := f.Record.Holder
	switch f.Record.Role {
	case fsm.RoleNode:
		var n *fsm.NodeRecord
		if n, _, err = c.VerifiedNode(ctx, name); err == nil {
			f.Operator, f.Current, f.Node = n.Operator, &n.Key, n
		}
	case fsm.RoleGovernor:
		var g *fsm.Governor
		if g, _, err = verified[fsm.Governor](ctx, c, "council/"+name); err == nil {
			id := g.KeyID()
			f.Operator, f.Current = g.Operator, &id
		}
	case fsm.RoleReplica:
		var r *fsm.ReplicaRecord
		if r, _, err = verified[fsm.ReplicaRecord](ctx, c, "replica/"+name); err == nil {
			id := r.KeyID()
			f.Operator, f.Current = r.Operator, &id
		}
	case fsm.RoleRecovery:
		var recovery *ledger.Recovery
		if recovery, _, err = verified[ledger.Recovery](ctx, c, "recovery"); err == nil {
			for _, holder := range recovery.Holders {
				if holder.Name == name {
					id := ledger.Hash(sha256.Sum256(holder.Public))
					f.Current = &id
				}
			}
		}
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// VerifiedBackup reads the last backup of a key, from proven records. A key without
// one is ErrNotFound.
func (c *Client) VerifiedBackup(ctx context.Context, key ledger.Hash) (*Backup, error) {
	meta, _, err := verified[fsm.Meta](ctx, c, "meta")
	if err != nil {
		return nil, err
	}
	policy, _, err := c.VerifiedPolicy(ctx)
	if err != nil {
		return nil, err
	}
	return c.verifiedBackup(ctx, key, meta.Epoch, policy)
}

func (c *Client) verifiedBackup(ctx context.Context, key ledger.Hash, epoch uint64, policy *ledger.Policy) (*Backup, error) {
	record, _, err := verified[fsm.BackupRecord](ctx, c, "backup/"+key.String())
	if err != nil {
		return nil, err
	}
	facts := &BackupFacts{Key: key, Record: record, Epoch: epoch, Policy: policy}
	for _, s := range record.Shares {
		g, _, err := verified[fsm.Governor](ctx, c, "council/"+s.Holder)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		facts.Council = append(facts.Council, *g)
	}
	var failed error
	facts.Former = func(yield func(*fsm.BackupRecord) bool) {
		for range MaxFormerBackups {
			k, _, err := verified[fsm.KeyRecord](ctx, c, "key/"+key.String())
			if err != nil || k.Previous == nil {
				failed = err
				return
			}
			key = *k.Previous
			former, _, err := verified[fsm.BackupRecord](ctx, c, "backup/"+key.String())
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil || !yield(former) {
				failed = err
				return
			}
		}
	}
	out := TellBackup(facts)
	return &out, failed
}

// KeyStory is a key's life with the entries that made it, each verified.
type KeyStory struct {
	ProvenKey
	Came     *Entry      // the entry by which it came
	Signed   *Entry      // the last statement under it that was found
	Seen     [2]uint64   // the entries among which it was looked for: from, to (exclusive)
	Revoked  *Revocation // nil: it is not revoked, or how was not found
	Restored *Restoring  // the last one that was found; nil: none was
	Disputed []uint64    // seqs of statements under it whose epochs are those of RevokedFrom on
	Partial  bool        // not all entries since the key came were looked at

	nextSince uint64 // seq by which its successor came
}

// Revocation is the decision that revoked a key.
type Revocation struct {
	Seq    uint64   `json:"seq"` // of the effect
	Action string   `json:"action"`
	By     []string `json:"by"` // who approved, with the proposer
	Reason string   `json:"reason,omitempty"`
}

// StoryOfKey tells a key's life, verified. Whole looks at every entry since the key
// came, each in the hash chain under a certified head; else at the newest ones, and
// at more only for a key that is revoked.
func (c *Client) StoryOfKey(ctx context.Context, id ledger.Hash, whole bool) (*KeyStory, error) {
	k, err := c.VerifiedKey(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &KeyStory{ProvenKey: *k}
	if s.Came, err = c.Entry(ctx, k.Since); err != nil {
		return nil, err
	}
	if k.Next != "" {
		next, _, err := verified[fsm.KeyRecord](ctx, c, "key/"+k.Next)
		if err != nil {
			return nil, err
		}
		s.nextSince = next.Since
	}
	if s.Restored, err = c.LastRestoring(ctx, id, k.Backup); err != nil {
		return nil, err
	}
	pages := uint64(keyStoryPages)
	if k.RevokedFrom != nil {
		pages = revokedStoryPages
	}
	end := k.Head.Size
	from := k.Since
	if stretch := pages * MaxEntriesPage; !whole && end-min(end, from) > stretch {
		from, s.Partial = end-stretch, true
	}
	if k.Last != 0 {
		if s.Signed, err = c.Entry(ctx, k.Last); err != nil {
			return nil, err
		}
		if k.RevokedFrom == nil && !whole {
			return s, nil // the record says it all
		}
	}
	s.Seen = [2]uint64{from, end}
	return s, c.readKeyEntries(ctx, s, id)
}

// readKeyEntries looks for what a key signed and for the decision on it.
func (c *Client) readKeyEntries(ctx context.Context, s *KeyStory, id ledger.Hash) error {
	for next := s.Seen[0]; next < s.Seen[1]; {
		page, err := c.Entries(ctx, next, int(min(MaxEntriesPage, s.Seen[1]-next)))
		if err != nil {
			return err
		}
		for i := range page {
			if err := c.readKeyEntry(ctx, s, id, &page[i]); err != nil {
				return fmt.Errorf("read entry %d: %w", page[i].Seq, err)
			}
		}
		next = page[len(page)-1].Seq + 1
	}
	return nil
}

func (c *Client) readKeyEntry(ctx context.Context, s *KeyStory, id ledger.Hash, entry *Entry) error {
	e, err := ledger.ParseEntry(entry.Entry)
	if err != nil {
		return err
	}
	switch e.Kind {
	case ledger.KindStatement:
		switch r, err := restoringIn(entry.Entry); {
		case err != nil:
			return err
		case r != nil && r.Key == id.String() && (s.Restored == nil || s.Restored.Seq < r.Seq):
			s.Restored = r
		}
		st, err := ledger.ParseStatement(e.Content)
		if err != nil || st.KeyID != id {
			return err
		}
		if s.Signed == nil || s.Signed.Seq < e.Seq {
			s.Signed = entry
		}
		if epoch := st.Payload.Epoch; s.RevokedFrom != nil && epoch != nil && *epoch >= *s.RevokedFrom {
			s.Disputed = append(s.Disputed, e.Seq)
		}
	case ledger.KindEffect:
		if entry.Type != fsm.EffectExecuted || s.RevokedFrom == nil {
			return nil
		}
		effect, err := e.Effect()
		if err != nil {
			return err
		}
		r, err := c.revocation(ctx, s, id, e.Seq, effect)
		if r != nil {
			s.Revoked = r // a later one moved it back
		}
		return err
	}
	return nil
}

// revocation reads a decision; nil if it did not revoke the key.
func (c *Client) revocation(ctx context.Context, s *KeyStory, id ledger.Hash, seq uint64, effect *ledger.Effect) (*Revocation, error) {
	var body fsm.ProposalEffect
	if err := canon.Unmarshal(effect.Body, &body); err != nil {
		return nil, err
	}
	switch body.Action {
	case ledger.ActionRevoke, "node.rekey", "node.remove":
	default:
		return nil, nil
	}
	out := &Revocation{Seq: seq, Action: body.Action}
	about := body.Action == "node.rekey" && seq == s.nextSince
	for _, cause := range effect.Causes {
		entry, err := c.Entry(ctx, cause)
		if err != nil {
			return nil, err
		}
		e, err := ledger.ParseEntry(entry.Entry)
		if err != nil || e.Kind != ledger.KindStatement {
			return nil, err
		}
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			return nil, err
		}
		switch st.Payload.Type {
		case ledger.TypePropose:
			propose, err := ledger.DecodeBody[ledger.Propose](st)
			if err != nil {
				return nil, err
			}
			var args struct {
				Key    string `json:"key"`
				Name   string `json:"name"`
				Reason string `json:"reason"`
			}
			if err := json.Unmarshal(propose.Args, &args); err != nil {
				return nil, err
			}
			about = about || args.Key == base64.RawURLEncoding.EncodeToString(id[:]) || body.Action == "node.remove" && args.Name == s.Holder
			out.Reason, out.By = args.Reason, append(out.By, st.Payload.Author)
		case ledger.TypeApprove:
			out.By = append(out.By, st.Payload.Author)
		}
	}
	if !about {
		return nil, nil
	}
	return out, nil
}
