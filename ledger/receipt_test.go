package ledger

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/ledger/keys"
)

// receiptWorld is a sealed ledger with one record and a receipt of it by r01.
func receiptWorld(t testing.TB) (w *world, seq uint64, envelope []byte, r Receipt) {
	w = newWorld(t, 4)
	seq, st := w.say("alice", TypeRecord, Record{Text: "seen"})
	w.seal(0)
	h := w.head()
	return w, seq, st.Envelope, SignReceipt(testKey("r01"), seq, h.Size, h.Root, w.inclusion(seq, h))
}

func TestTransparentStatement(t *testing.T) {
	w, seq, envelope, r := receiptWorld(t)
	b, err := TransparentStatement(envelope, r)
	w.must(err)
	if _, err := keys.ParseEnvelope(b); err == nil {
		t.Error("the gate of statements takes one with a receipt")
	}
	got, receipt, err := ParseTransparentStatement(b)
	w.must(err)
	if !bytes.Equal(got, envelope) || !bytes.Equal(receipt.Encode(), r.Encode()) {
		t.Error("it does not give back what it was made of")
	}
	public, root, entry := testKey("r01").Public(), w.head().Root, w.entries[seq]
	w.must(receipt.Verify(public, entry, root))
	for name, bad := range map[string]func() error{
		"another replica": func() error { return receipt.Verify(testKey("r02").Public(), entry, root) },
		"another entry":   func() error { return receipt.Verify(public, w.entries[seq-1], root) },
		"another root":    func() error { return receipt.Verify(public, entry, LeafHash(entry)) },
		"another seq":     func() error { r := receipt; r.Seq--; return r.Verify(public, entry, root) },
		"another size":    func() error { r := receipt; r.Size *= 4; return r.Verify(public, entry, root) },
		"no proof":        func() error { r := receipt; r.Proof = nil; return r.Verify(public, entry, root) },
		"signature": func() error {
			r := receipt
			r.Signature = append([]byte{r.Signature[0] ^ 1}, r.Signature[1:]...)
			return r.Verify(public, entry, root)
		},
	} {
		if bad() == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
}

// Whatever changes in the bytes, they are refused or say something else: no
// two spellings of one transparent statement.
func TestTransparentStatementHasOneForm(t *testing.T) {
	w, seq, envelope, r := receiptWorld(t)
	b, err := TransparentStatement(envelope, r)
	w.must(err)
	public, root, entry := testKey("r01").Public(), w.head().Root, w.entries[seq]
	for at := 0; at < len(b); at++ {
		if at > 120 && at < len(b)-60 && at%29 != 0 {
			continue
		}
		changed := bytes.Clone(b)
		changed[at] ^= 1
		got, receipt, err := ParseTransparentStatement(changed)
		if err == nil && bytes.Equal(got, envelope) && receipt.Verify(public, entry, root) == nil {
			t.Errorf("byte %d may be changed", at)
		}
	}
	for name, changed := range map[string][]byte{
		"cut": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "empty": nil, "bare statement": envelope, "receipt": r.Encode(),
	} {
		if _, _, err := ParseTransparentStatement(changed); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseTransparentStatement(f *testing.F) {
	_, _, envelope, r := receiptWorld(f)
	b, err := TransparentStatement(envelope, r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	r.Proof = nil
	empty, err := TransparentStatement(envelope, r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	f.Add(envelope)
	f.Add(b[:200])
	f.Fuzz(func(t *testing.T, b []byte) {
		envelope, r, err := ParseTransparentStatement(b)
		if err != nil {
			return
		}
		again, err := TransparentStatement(envelope, r)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded again it is other bytes: %v", err)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	_, _, _, r := receiptWorld(f)
	f.Add(r.Encode())
	r.Proof = r.Proof[:1]
	f.Add(r.Encode())
	f.Add([]byte{0xd2, 0x84})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReceipt(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Fatal("encoded again it is other bytes")
		}
	})
}
