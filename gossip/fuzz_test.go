package gossip

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/ledger"
)

func frames(t testing.TB) (entries, request, answer []byte) {
	t.Helper()
	f := Entries{Note: []byte("a note"), Entries: [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{7}, 300)}, Proof: []ledger.Hash{{1}, {2}}}
	entries, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	a := Answer{Ask: AskLinks, Entries: f, Links: [][]byte{[]byte("{}")}, Statements: [][]byte{[]byte("s")}}
	answer, err = a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	q := Request{Ask: AskOwn, From: 1 << 40, Count: 3, Key: ledger.Hash{9}}
	return entries, q.Encode(), answer
}

// Whatever is read encodes to the same bytes again: a frame has one form.
func FuzzParseEntries(f *testing.F) {
	entries, _, _ := frames(f)
	f.Add(entries)
	f.Add([]byte{0x84, 1, 0x40, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntries(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and is %x again (%v)", b, again, err)
		}
		if _, err := e.Check(ledger.Head{Size: 1 << 20}); err == nil {
			t.Fatal("entries hold under an empty root")
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	_, request, _ := frames(f)
	f.Add(request)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseRequest(b)
		if err != nil {
			return
		}
		if again := q.Encode(); !bytes.Equal(again, b) || len(b) > MaxRequestBytes {
			t.Fatalf("%x is read, and is %x again", b, again)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	_, _, answer := frames(f)
	f.Add(answer)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAnswer(b)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and is %x again (%v)", b, again, err)
		}
	})
}

func TestFramesHaveOneForm(t *testing.T) {
	entries, request, answer := frames(t)
	if e, err := ParseEntries(entries); err != nil || len(e.Entries) != 3 || len(e.Proof) != 2 {
		t.Errorf("entries: %+v, %v", e, err)
	}
	if q, err := ParseRequest(request); err != nil || q.From != 1<<40 || q.Ask != AskOwn {
		t.Errorf("request: %+v, %v", q, err)
	}
	if a, err := ParseAnswer(answer); err != nil || len(a.Links) != 1 || len(a.Statements) != 1 {
		t.Errorf("answer: %+v, %v", a, err)
	}
	for name, read := range map[string]func([]byte) error{
		"entries": func(b []byte) error { _, err := ParseEntries(b); return err },
		"request": func(b []byte) error { _, err := ParseRequest(b); return err },
		"answer":  func(b []byte) error { _, err := ParseAnswer(b); return err },
	} {
		whole := map[string][]byte{"entries": entries, "request": request, "answer": answer}[name]
		for i := range whole {
			if read(whole[:i]) == nil {
				t.Errorf("%s: the first %d of %d bytes are read", name, i, len(whole))
			}
		}
		for _, b := range [][]byte{
			append(bytes.Clone(whole), 0),
			append([]byte{whole[0], 0x18, 1}, whole[2:]...), // a version not in its shortest form
			append([]byte{whole[0], 2}, whole[2:]...),
			append([]byte{0x9f}, whole[1:]...), // of no definite length
			make([]byte, MaxFrameBytes+1),
		} {
			if read(b) == nil {
				t.Errorf("%s: %.16x... is read", name, b)
			}
		}
	}
}
