package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// Restoring is a statement that a key was taken from its backup to be used again. In a
// node's history it is the body of a NodeEvent of type restore.test.
type Restoring struct {
	Key     string   `json:"key"`     // id, hex
	Seq     uint64   `json:"seq"`     // of the statement
	Author  string   `json:"author"`  // who says so
	Holders []string `json:"holders"` // whose shares opened the backup: each gave it on a signed request
}

// LastRestoring gives the statement by which a key was restored, verified; nil if its
// backup was not opened, or opened last to test it. Only the last opening is in the
// records: StoryOfKey also looks for earlier ones.
func (c *Client) LastRestoring(ctx context.Context, key ledger.Hash, b *Backup) (*Restoring, error) {
	if b == nil || b.TestedSeq == 0 {
		return nil, nil
	}
	entry, err := c.Entry(ctx, b.TestedSeq)
	if err != nil {
		return nil, err
	}
	r, err := restoringIn(entry.Entry)
	if err != nil || r == nil || r.Key != key.String() {
		return nil, err
	}
	return r, nil
}

// restoringIn reads an entry; nil if it does not say that a key was restored.
func restoringIn(raw []byte) (*Restoring, error) {
	if !bytes.Contains(raw, []byte(ledger.TypeRestoreTest)) {
		return nil, nil // far cheaper than reading what is not
	}
	e, err := ledger.ParseEntry(raw)
	if err != nil || e.Kind != ledger.KindStatement {
		return nil, err
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil || st.Payload.Type != ledger.TypeRestoreTest {
		return nil, err
	}
	test, err := ledger.DecodeBody[ledger.RestoreTest](st)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", e.Seq, err)
	}
	if test.Purpose != ledger.RestoreForRestore || test.Outcome != ledger.RestoreOpened {
		return nil, nil
	}
	return &Restoring{Key: test.Key.String(), Seq: e.Seq, Author: st.Payload.Author, Holders: test.Holders}, nil
}

// restoring gives the event that a statement is: a key of the node was restored.
func (t *Teller) restoring(e *ledger.Entry, raw []byte) (*NodeEvent, error) {
	r, err := restoringIn(raw)
	if err != nil || r == nil || t.Holds == nil {
		return nil, err
	}
	id, err := ledger.ParseHash(r.Key)
	if err != nil {
		return nil, err
	}
	if held, err := t.Holds(id); err != nil || !held {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return &NodeEvent{Seq: e.Seq, Stamp: e.Stamp, Type: ledger.TypeRestoreTest, Causes: []uint64{}, Body: body}, nil
}
