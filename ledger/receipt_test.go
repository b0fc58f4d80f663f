package ledger

import (
	"bytes"
	"slices"
	"testing"
)

// receiptOf is replica r01's receipt of a statement entry.
func receiptOf(t testing.TB) (w *world, entry *Entry, r Receipt) {
	w = newWorld(t, 1)
	seq, _ := w.say("alice", TypeRecord, Record{Text: "noted"})
	h := w.seal(0)
	entry, err := ParseEntry(w.entries[seq])
	w.must(err)
	return w, entry, SignReceipt(testKey("r01"), seq, h.Size, h.Root, w.inclusion(seq, h))
}

func TestReceipt(t *testing.T) {
	w, entry, r := receiptOf(t)
	root := w.head().Root
	joined, err := TransparentStatement(entry.Content, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseStatement(joined); err == nil {
		t.Error("the ledger would take a statement with an unprotected header")
	}
	envelope, got, err := ParseTransparentStatement(joined)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(envelope, entry.Content) || !bytes.Equal(got.Encode(), r.Encode()) {
		t.Error("it reads back as another")
	}
	public := testKey("r01").Public()
	if err := got.Verify(public, w.entries[1], root); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another key":   got.Verify(testKey("alice").Public(), w.entries[1], root),
		"another entry": got.Verify(public, w.entries[2], root),
		"another root":  got.Verify(public, w.entries[1], Hash{1}),
		"another seq":   func() error { r := got; r.Seq--; return r.Verify(public, w.entries[1], root) }(),
		"another path": func() error {
			r := got
			r.Proof = slices.Clone(r.Proof)
			r.Proof[0][0] ^= 1
			return r.Verify(public, w.entries[1], root)
		}(),
		"another signature": func() error {
			r := got
			r.Signature = make([]byte, len(r.Signature))
			return r.Verify(public, w.entries[1], root)
		}(),
	} {
		if err == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
}

func FuzzParseReceipt(f *testing.F) {
	_, entry, r := receiptOf(f)
	f.Add(r.Encode())
	r.Proof = nil
	f.Add(r.Encode())
	f.Add(entry.Content)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReceipt(b); err == nil {
			same(t, b, r.Encode(), nil)
		}
	})
}

func FuzzParseTransparentStatement(f *testing.F) {
	_, entry, r := receiptOf(f)
	joined, err := TransparentStatement(entry.Content, r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(joined)
	f.Add(entry.Content)
	f.Fuzz(func(t *testing.T, b []byte) {
		envelope, r, err := ParseTransparentStatement(b)
		if err != nil {
			return
		}
		again, err := TransparentStatement(envelope, r)
		same(t, b, again, err)
	})
}
