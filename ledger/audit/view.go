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

// lineComparer compares lines of entries.jsonl with what they should be, and
// keeps the first difference.
type lineComparer struct {
	rest []byte // what is to be compared yet
	bad  *BadError
}

// line compares the line of entry seq; want ends in a line feed.
func (c *lineComparer) line(seq uint64, want []byte) {
	if c.bad != nil {
		return
	}
	rest, same := bytes.CutPrefix(c.rest, want)
	if same {
		c.rest = rest
		return
	}
	c.bad = &BadError{Step: StepView, File: viewName, Seq: seq, HasSeq: true, Reason: fmt.Errorf("line %d is not what the tiles hold", seq+1)}
	if len(c.rest) == 0 {
		c.bad.Reason = errors.New("the file ends before its line")
	}
}
