package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/keys"
)

func TestCheckpointCases(t *testing.T) {
	w := newWorld(t, 4)
	w.now.Replicas = append(w.now.Replicas, authorityReplica(testReplica("r05", "dune", "r05"), true))
	w.say("alice", TypeRecord, Record{Text: "noted"})
	h := w.seal(0)
	for _, c := range checkpointCases(w, h) {
		t.Run(c.name, func(t *testing.T) {
			checkpoint, err := ParseCheckpoint(c.note)
			if (err != nil) != (c.result == "malformed") {
				t.Fatalf("want %s: %v", c.result, err)
			}
			if err != nil {
				return
			}
			_, err = w.now.Certifies(checkpoint)
			var short *NotCertifiedError
			var bad *BadSignatureError
			got := "other_origin"
			switch {
			case err == nil:
				got = "certified"
			case errors.As(err, &short):
				got = "short"
				if short.Want != 3 || short.Have > 2 {
					t.Errorf("have %d, want %d", short.Have, short.Want)
				}
			case errors.As(err, &bad):
				got = "bad_signature"
			}
			if got != c.result {
				t.Errorf("want %s, got %s: %v", c.result, got, err)
			}
		})
	}
}

// TestDuplicatesCountOnce counts a checkpoint that was not parsed but put
// together, with one replica's cosignature three times.
func TestDuplicatesCountOnce(t *testing.T) {
	w := newWorld(t, 4)
	h := w.seal(0)
	k := testKey("r01")
	c := &Checkpoint{Head: h}
	for i := range 3 {
		c.Cosignatures = append(c.Cosignatures, Cosign(w.hash, k, k.Cosigner44(), "r01", h, 100+uint64(i)))
	}
	n, err := w.now.Certifies(c)
	var short *NotCertifiedError
	if n != 1 || !errors.As(err, &short) || short.Have != 1 {
		t.Errorf("counted %d: %v", n, err)
	}
	if c.Signed(w.now) != 0 {
		t.Error("one replica alone signed for the threshold")
	}
	if _, err := ParseCheckpoint(c.Note()); err == nil {
		t.Error("the note parses")
	}
}

func TestAddKeepsTheNewest(t *testing.T) {
	w := newWorld(t, 4)
	h := w.seal(0)
	c := &Checkpoint{Head: h}
	for _, seconds := range []uint64{200, 100, 300, 250} {
		k := testKey("r01")
		c.Add(Cosign(w.hash, k, k.Cosigner44(), "r01", h, seconds))
	}
	for i, name := range []string{"r03", "r02", "r04"} {
		k := testKey(name)
		c.Add(Cosign(w.hash, k, k.Cosigner44(), name, h, 1000+uint64(i)))
	}
	if len(c.Cosignatures) != 4 || c.Cosignatures[0].Time != 300 {
		t.Fatalf("%d cosignatures, r01 at %d", len(c.Cosignatures), c.Cosignatures[0].Time)
	}
	// The times are 300, 1000, 1001, 1002; three of them had signed at 1000.
	if got := c.Signed(w.now); got != 1000 {
		t.Errorf("last signed at %d, want 1000", got)
	}
	parsed, err := ParseCheckpoint(c.Note())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(parsed.Note(), c.Note()) || parsed.Signed(w.now) != 1000 {
		t.Error("the note reads back as another")
	}
}

func TestCosignatureVerify(t *testing.T) {
	w := newWorld(t, 4)
	h := w.seal(0)
	r, other := w.now.Replicas[0], w.now.Replicas[1]
	k := testKey("r01")
	good := Cosign(w.hash, k, k.Cosigner44(), "r01", h, 100)
	if err := good.Verify(w.hash, h, r); err != nil {
		t.Fatal(err)
	}
	moved := h
	moved.Size++
	elsewhere := h
	elsewhere.Origin = "ledger.test/other"
	for name, err := range map[string]error{
		"another size":      good.Verify(w.hash, moved, r),
		"another origin":    good.Verify(w.hash, elsewhere, r),
		"another ledger":    good.Verify(Hash{1}, h, r),
		"another replica":   good.Verify(w.hash, h, other),
		"without ML-DSA-44": good.WithoutMLDSA44().Verify(w.hash, h, r),
		"another time":      func() error { c := good; c.Time++; return c.Verify(w.hash, h, r) }(),
		"ML-DSA-44 swapped": func() error { c := good; c.MLDSA44 = make([]byte, len(c.MLDSA44)); return c.Verify(w.hash, h, r) }(),
		"ML-DSA-65 swapped": func() error { c := good; c.MLDSA65 = make([]byte, len(c.MLDSA65)); return c.Verify(w.hash, h, r) }(),
		"under another name": func() error {
			c := Cosign(w.hash, k, k.Cosigner44(), "r02", h, 100)
			c.Replica = "r01"
			return c.Verify(w.hash, h, r)
		}(),
	} {
		if err == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
}

// TestNoSignatureServesTwoPurposes checks that what one key signs for one
// purpose begins otherwise than what it signs for another.
func TestNoSignatureServesTwoPurposes(t *testing.T) {
	h := Head{Origin: worldOrigin, Size: 7, Root: Hash{1}}
	name := CosignerName(worldOrigin, "r01")
	k := testKey("r01")
	messages := map[string][]byte{
		"cosignature, ML-DSA-65": h.message65(Hash{2}, name, 100),
		"cosignature, ML-DSA-44": h.message44(name, 100),
		"statement":              keys.SigStructure(k.ID(), "quorate/ready.v1", []byte(`{}`)),
		"receipt":                receiptMessage(Hash(k.ID()), h.Root),
		"note text":              h.Body(),
	}
	for a, x := range messages {
		for b, y := range messages {
			if a != b && bytes.Equal(x[:min(len(x), 60)], y[:min(len(y), 60)]) {
				t.Errorf("%s and %s begin alike", a, b)
			}
		}
	}
	if !bytes.HasPrefix(messages["cosignature, ML-DSA-65"], []byte("quorate/cosignature/v1\n\x00")) {
		t.Error("a cosignature does not begin with its purpose")
	}
}

func TestVerifyCheckpointByAuthorityOfItsSize(t *testing.T) {
	w := newWorld(t, 3)
	links := grow(w, 2) // r04 is added, then active
	chain, err := WalkChain(w.hash, links)
	if err != nil {
		t.Fatal(err)
	}
	handover, _ := chain.HandoverHead(2)
	w.say("alice", TypeRecord, Record{Text: "later"})
	late := w.seal(0)
	forged := handover
	forged.Root[0] ^= 1
	for _, c := range []struct {
		name    string
		head    Head
		signers []string
		ok      bool
	}{
		{"late, three of four", late, []string{"r01", "r02", "r04"}, true},
		{"late, two of four", late, []string{"r01", "r02"}, false},
		{"handover, both", handover, []string{"r01", "r02", "r04"}, true},
		{"handover, forged", forged, []string{"r01", "r02", "r03", "r04"}, false},
	} {
		_, err := chain.VerifyCheckpoint(w.sign(c.head, c.signers...).Note())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "handover, forged" && !errors.Is(err, ErrEquivocation) {
			t.Errorf("want ErrEquivocation, got %v", err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	seed := testSeed("log ed25519")
	log := NewLogSigner(worldOrigin, seed, testSeed("log mldsa44"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
		if got := fmt.Sprintf(verb, log); !strings.HasPrefix(got, "log key of ") || strings.Contains(got, fmt.Sprintf("%x", seed[:4])) {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
