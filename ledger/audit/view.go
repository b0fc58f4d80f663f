package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// A line of entries.jsonl is a convenience for people and for tools that
// search, compared with the tiles by Verify:
//
//	{"bytes":N,"hash":"HEX","kind":"…","seq":N,"stamp":N,"view":…}
//
// It is put together from bytes that are canonical already, so that comparing
// it costs little beside the signatures. What a view leaves out, the statement's
// header and signature and the entry's prev, is in the bundle that seq names.

// appendView appends the entry's line of entries.jsonl, with its line feed.
func appendView(out []byte, c *checked) []byte {
	out = append(out, `{"bytes":`...)
	out = strconv.AppendInt(out, int64(len(c.raw)), 10)
	out = c.appendLead(out)
	content, end := c.view()
	return append(append(out, content...), end...)
}

// appendLead appends what stands in the line between its first field and the
// content.
func (c *checked) appendLead(out []byte) []byte {
	out = append(out, `,"hash":"`...)
	out = hex.AppendEncode(out, c.leaf[:])
	out = append(out, `","kind":"`...)
	out = append(out, c.entry.Kind.String()...)
	out = append(out, `","seq":`...)
	out = strconv.AppendUint(out, c.entry.Seq, 10)
	out = append(out, `,"stamp":`...)
	out = strconv.AppendUint(out, c.entry.Stamp, 10)
	out = append(out, `,"view":`...)
	if st := c.statement; st != nil {
		out = append(out, `{"id":"`...)
		out = hex.AppendEncode(out, st.ID[:])
		out = append(out, `","key":"`...)
		out = hex.AppendEncode(out, st.KeyID[:])
		out = append(out, `","payload":`...)
	}
	return out
}

// view gives the canonical JSON that the entry itself holds, and what follows it
// in its line.
func (c *checked) view() (content []byte, end string) {
	if c.statement != nil {
		return c.statement.PayloadBytes(), "}}\n"
	}
	return c.entry.Content, "}\n"
}

// lineComparer compares lines of entries.jsonl with what they should be, and
// keeps the first difference.
type lineComparer struct {
	rest []byte // what is to be compared yet
	bad  *BadError
	buf  []byte
}

// entry compares the line of an entry. What the entry itself holds, which is
// most of the line, is compared where it lies.
func (l *lineComparer) entry(c *checked) {
	if l.bad != nil {
		return
	}
	l.buf = strconv.AppendInt(append(l.buf[:0], `{"bytes":`...), int64(len(c.raw)), 10)
	if bytes.HasPrefix(l.rest, []byte(`{"e`)) {
		l.buf = append(base64.RawURLEncoding.AppendEncode(append(l.buf[:0], `{"entry":"`...), c.raw), '"')
	}
	l.buf = c.appendLead(l.buf)
	content, end := c.view()
	rest, same := bytes.CutPrefix(l.rest, l.buf)
	if same {
		rest, same = bytes.CutPrefix(rest, content)
	}
	if same = same && len(rest) >= len(end) && string(rest[:len(end)]) == end; same {
		l.rest = rest[len(end):]
		return
	}
	seq := c.entry.Seq
	l.bad = &BadError{Step: StepView, File: viewName, Seq: seq, HasSeq: true, Reason: fmt.Errorf("line %d is not what the tiles hold", seq+1)}
	if len(l.rest) == 0 {
		l.bad.Reason = errors.New("the file ends before its line")
	}
}
