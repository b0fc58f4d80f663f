package ledger

import (
	"bytes"
	"fmt"
	"testing"
)

// What is parsed into shared memory is what is parsed alone, and stays so until
// the memory is taken back, also when there is too little of it.
func TestStatementMemory(t *testing.T) {
	w := newWorld(t, 1)
	var envelopes [][]byte
	say := func(typ string, body any) {
		seq, _ := w.say("alice", typ, body)
		e, err := ParseEntry(w.entries[seq])
		w.must(err)
		envelopes = append(envelopes, e.Content)
	}
	total := 0
	for i := range 20 {
		say(TypeRecord, Record{Text: fmt.Sprint("text", i, string(bytes.Repeat([]byte("x"), 50*i)))})
		say(TypeApprove, Ballot{Proposal: Hash{byte(i)}})
	}
	for _, b := range envelopes {
		total += len(b)
	}
	var m StatementMemory
	for _, size := range []int{total, 0, 1500, total} {
		m.Reset(size)
		var parsed []*Statement
		for _, b := range envelopes {
			s, err := m.Parse(b)
			w.must(err)
			parsed = append(parsed, s)
		}
		for i, s := range parsed {
			alone, err := ParseStatement(envelopes[i])
			w.must(err)
			if s.ID != alone.ID || !bytes.Equal(s.PayloadBytes(), alone.PayloadBytes()) || !bytes.Equal(s.Payload.Body, alone.Payload.Body) || !s.Verify(testKey("alice").Public()) {
				t.Errorf("with %d bytes, statement %d is another", size, i)
			}
		}
	}
	if m.Reset(total); cap(m.buf) < total {
		t.Error("there is no memory")
	}
	if _, err := m.Parse(envelopes[0]); err != nil || len(m.buf) == 0 {
		t.Errorf("a record takes none: %v", err)
	}
	if used := len(m.buf); used > 0 {
		if _, err := m.Parse(envelopes[1]); err != nil || len(m.buf) != used {
			t.Errorf("an approval takes some: %v", err)
		}
	}
	if _, err := m.Parse([]byte("x")); err == nil {
		t.Error("it parses anything")
	}
}
