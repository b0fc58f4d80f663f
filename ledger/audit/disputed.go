package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// DisputedKey is a key that was revoked from an epoch on, with the statements under
// it whose epochs are that one or later. They stay on the ledger and the export
// verifies: history is history. But nobody need take them for the holder's word.
type DisputedKey struct {
	Holder     string   `json:"holder"`
	KeyHex     string   `json:"key"`
	From       uint64   `json:"from"` // epoch
	Statements int      `json:"statements"`
	Entries    []uint64 `json:"entries"` // seqs of the first of them

	id    ledger.Hash
	since uint64
}

func (d *DisputedKey) text() string {
	text := fmt.Sprintf("%d statements of %s under key %s…, which is revoked from epoch %d on: entries", d.Statements, d.Holder, d.KeyHex[:16], d.From)
	for _, seq := range d.Entries[:min(len(d.Entries), 8)] {
		text += fmt.Sprintf(" %d", seq)
	}
	if d.Statements > 8 {
		text += " …"
	}
	return text
}

// disputed lists what keys said that were revoked later, as the state at the end has
// it. The log is read again, from the entry on by which the first such key came;
// a ledger without any is not.
func (v *verifier) disputed(ctx context.Context) error {
	revoked := revokedKeys(v.state)
	if len(revoked) == 0 {
		return nil
	}
	byID := make(map[ledger.Hash]*DisputedKey, len(revoked))
	for _, d := range revoked {
		byID[d.id] = d
	}
	first := revoked[0].since
	var b verifiedBundle
	for n := first / archive.TileWidth; n*archive.TileWidth < v.head.size(); n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.tree.bundleInto(&b, n); err != nil {
			return err
		}
		for _, raw := range b.entries {
			if err := dispute(byID, raw); err != nil {
				return err
			}
		}
	}
	for _, d := range revoked {
		if d.Statements > 0 {
			v.report.Disputed = append(v.report.Disputed, *d)
		}
	}
	return nil
}

// revokedKeys are the keys of nodes and replicas that are revoked from an epoch on, by
// the entry by which each came. Governors and recovery holders name no epochs.
func revokedKeys(state *fsm.State) []*DisputedKey {
	var revoked []*DisputedKey
	state.Walk("key/", func(key string, value []byte) bool {
		var record fsm.KeyRecord
		id, err := ledger.ParseHash(key[len("key/"):])
		if err == nil && canon.Unmarshal(value, &record) == nil && (record.Role == fsm.RoleNode || record.Role == fsm.RoleReplica) && record.RevokedFrom != nil {
			revoked = append(revoked, &DisputedKey{
				Holder: record.Holder, KeyHex: id.String(), From: *record.RevokedFrom, Entries: []uint64{}, id: id, since: record.Since,
			})
		}
		return true
	})
	slices.SortFunc(revoked, func(x, y *DisputedKey) int {
		return cmp.Or(cmp.Compare(x.since, y.since), cmp.Compare(x.KeyHex, y.KeyHex))
	})
	return revoked
}

// dispute counts a verified entry for the key that it is under.
func dispute(revoked map[ledger.Hash]*DisputedKey, raw []byte) error {
	e, err := ledger.ParseEntry(raw)
	if err != nil || e.Kind != ledger.KindStatement {
		return err
	}
	envelope, err := keys.ParseEnvelope(e.Content)
	if err != nil {
		return err
	}
	d := revoked[ledger.Hash(envelope.KeyID)]
	if d == nil {
		return nil
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return err
	}
	if st.Payload.Epoch != nil && *st.Payload.Epoch >= d.From {
		if d.Statements++; len(d.Entries) < maxDisputedListed {
			d.Entries = append(d.Entries, e.Seq)
		}
	}
	return nil
}
