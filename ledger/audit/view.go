package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/quorate/quorate/ledger"
)

// A line of entries.jsonl is a convenience for people and for tools that
// search, compared with the tiles by Verify:
//
//	{"entry":"BASE64URL","hash":"HEX","kind":"…","seq":N,"stamp":N,"view":…}
//
// It is put together from bytes that are canonical already, so that comparing
// it costs little beside the signatures.

const viewLead = `{"entry":"`

// appendView appends the entry's line of entries.jsonl, with its line feed. The
// statement is the entry's, parsed, if it has one.
func appendView(out, raw []byte, leaf ledger.Hash, e *ledger.Entry, st *ledger.Statement) []byte {
	out = append(out, viewLead...)
	out = base64.RawURLEncoding.AppendEncode(out, raw)
	return appendViewRest(out, leaf, e, st)
}

// appendViewRest appends what follows the entry's bytes in its line.
func appendViewRest(out []byte, leaf ledger.Hash, e *ledger.Entry, st *ledger.Statement) []byte {
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
		return append(append(out, e.Content...), "}\n"...)
	}
	out = append(out, `{"id":"`...)
	out = hex.AppendEncode(out, st.ID[:])
	out = append(out, `","key":"`...)
	out = hex.AppendEncode(out, st.KeyID[:])
	out = append(out, `","payload":`...)
	out = append(out, st.PayloadBytes()...)
	return append(out, "}}\n"...)
}

// lineComparer compares lines of entries.jsonl with what they should be, and
// keeps the first difference.
type lineComparer struct {
	rest []byte // what is to be compared yet
	bad  *BadError
	buf  []byte
}

// entry compares the line of an entry. The entry's base64 is most of the line,
// and compared without being written.
func (c *lineComparer) entry(x *checked) {
	if c.bad != nil {
		return
	}
	c.buf = appendViewRest(c.buf[:0], x.leaf, x.entry, x.statement)
	rest, same := bytes.CutPrefix(c.rest, []byte(viewLead))
	length := base64.RawURLEncoding.EncodedLen(len(x.raw))
	if same = same && len(rest) >= length && equalBase64(rest[:length], x.raw); same {
		rest, same = bytes.CutPrefix(rest[length:], c.buf)
	}
	if same {
		c.rest = rest
		return
	}
	seq := x.entry.Seq
	c.bad = &BadError{Step: StepView, File: viewName, Seq: seq, HasSeq: true, Reason: fmt.Errorf("line %d is not what the tiles hold", seq+1)}
	if len(c.rest) == 0 {
		c.bad.Reason = errors.New("the file ends before its line")
	}
}

// pairsBase64 gives the two characters of base64url for each 12 bits, as a
// little-endian number.
var pairsBase64 = func() (pairs [1 << 12]uint16) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range pairs {
		pairs[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&63])<<8
	}
	return pairs
}()

// equalBase64 says whether text is the unpadded base64url of data. It looks at
// 6 bytes and 8 characters at a time: encoding and comparing took twice as long.
func equalBase64(text, data []byte) bool {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(data)) {
		return false
	}
	var differ uint64
	for len(data) >= 8 && len(text) >= 8 {
		bits := binary.BigEndian.Uint64(data)
		want := uint64(pairsBase64[bits>>52]) | uint64(pairsBase64[bits>>40&0xfff])<<16 |
			uint64(pairsBase64[bits>>28&0xfff])<<32 | uint64(pairsBase64[bits>>16&0xfff])<<48
		differ |= want ^ binary.LittleEndian.Uint64(text)
		data, text = data[6:], text[8:]
	}
	var tail [12]byte // at most 7 bytes are left, which are 10 characters
	return differ == 0 && bytes.Equal(base64.RawURLEncoding.AppendEncode(tail[:0], data), text)
}
