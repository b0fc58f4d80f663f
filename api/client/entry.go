package client

import (
	"encoding/json"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// DecodeEntry derives what readers want to see from an entry's bytes. It
// proves nothing about them.
func DecodeEntry(raw []byte) (Entry, error) {
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		return Entry{}, err
	}
	out := Entry{
		Seq: e.Seq, Stamp: e.Stamp, Prev: e.Prev.String(), Hash: ledger.LeafHash(raw).String(),
		Kind: e.Kind.String(), Entry: raw,
	}
	switch e.Kind {
	case ledger.KindStatement:
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			return out, fmt.Errorf("read entry %d: %w", e.Seq, err)
		}
		envelope, err := keys.ParseEnvelope(e.Content)
		if err != nil {
			return out, fmt.Errorf("read entry %d: %w", e.Seq, err)
		}
		out.Type, out.ID, out.View = st.Payload.Type, st.ID.String(), envelope.Payload
	case ledger.KindEffect:
		effect, err := e.Effect()
		if err != nil {
			return out, err
		}
		out.Type, out.View = effect.Type, json.RawMessage(e.Content)
	default:
		out.View = json.RawMessage(e.Content)
	}
	return out, nil
}
