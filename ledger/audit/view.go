package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// appendView appends the entry's line of entries.jsonl, with its line feed:
// a convenience for people and for tools that search, compared with the tiles
// by Verify. It is put together from bytes that are canonical already, so that
// comparing it costs little beside the signatures. The statement is the
// entry's, parsed, if it has one.
func appendView(out, raw []byte, leaf ledger.Hash, e *ledger.Entry, st *ledger.Statement) ([]byte, error) {
	out = append(out, `{"entry":"`...)
	out = base64.RawURLEncoding.AppendEncode(out, raw)
	out = append(out, `","hash":"`...)
	out = hex.AppendEncode(out, leaf[:])
	out = append(out, `","kind":"`...)
	out = append(out, e.Kind.String()...)
	out = append(out, `","seq":`...)
	out = strconv.AppendUint(out, e.Seq, 10)
	out = append(out, `,"stamp":`...)
	out = strconv.AppendUint(out, e.Stamp, 10)
	out = append(out, `,"view":`...)
	if st == nil {
		return append(append(out, e.Content...), "}\n"...), nil
	}
	env, err := keys.ParseEnvelope(e.Content)
	if err != nil {
		return nil, err
	}
	out = append(out, `{"id":"`...)
	out = hex.AppendEncode(out, st.ID[:])
	out = append(out, `","key":"`...)
	out = hex.AppendEncode(out, st.KeyID[:])
	out = append(out, `","payload":`...)
	out = append(out, env.Payload...)
	return append(out, "}}\n"...), nil
}

// compareLines finds where the lines of entries.jsonl from entry first on
// differ from what they should be. nil if they do not.
func compareLines(first uint64, want, got []byte) *BadError {
	for seq := first; ; seq++ {
		if bytes.Equal(want, got) {
			return nil
		}
		bad := &BadError{Step: StepView, File: viewName, Seq: seq, HasSeq: true}
		line, wantRest, whole := bytes.Cut(want, []byte("\n"))
		if !whole { // nothing is wanted any more
			bad.HasSeq = false
			bad.Reason = fmt.Errorf("%d bytes follow the line of entry %d", len(got), seq-1)
			return bad
		}
		gotLine, gotRest, ended := bytes.Cut(got, []byte("\n"))
		switch {
		case len(got) == 0:
			bad.Reason = errors.New("the file ends before its line")
			return bad
		case !ended || !bytes.Equal(line, gotLine):
			bad.Reason = fmt.Errorf("line %d is not what the tiles hold", seq+1)
			return bad
		}
		want, got = wantRest, gotRest
	}
}
