package audit

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// appendView appends the entry's line of entries.jsonl, with its line feed:
// a convenience for people and for tools that search, compared with the tiles
// by Verify. It is put together from bytes that are canonical already, so that
// comparing it costs little beside the signatures.
func appendView(out, raw []byte, e *ledger.Entry) ([]byte, error) {
	out = append(out, `{"entry":"`...)
	out = base64.RawURLEncoding.AppendEncode(out, raw)
	out = append(out, `","hash":"`...)
	hash := ledger.LeafHash(raw)
	out = hex.AppendEncode(out, hash[:])
	out = append(out, `","kind":"`...)
	out = append(out, e.Kind.String()...)
	out = append(out, `","seq":`...)
	out = strconv.AppendUint(out, e.Seq, 10)
	out = append(out, `,"stamp":`...)
	out = strconv.AppendUint(out, e.Stamp, 10)
	out = append(out, `,"view":`...)
	if e.Kind != ledger.KindStatement {
		return append(append(out, e.Content...), "}\n"...), nil
	}
	env, err := keys.ParseEnvelope(e.Content)
	if err != nil {
		return nil, err
	}
	id := env.ID()
	out = append(out, `{"id":"`...)
	out = hex.AppendEncode(out, id[:])
	out = append(out, `","key":"`...)
	out = hex.AppendEncode(out, env.KeyID[:])
	out = append(out, `","payload":`...)
	out = append(out, env.Payload...)
	return append(out, "}}\n"...), nil
}

// isDecision says whether an entry is a decision effect.
func isDecision(e *ledger.Entry) (bool, error) {
	if e.Kind != ledger.KindEffect {
		return false, nil
	}
	effect, err := e.Effect()
	if err != nil {
		return false, err
	}
	return effect.Type == "decision", nil
}
