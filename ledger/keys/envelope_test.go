package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
	"pgregory.net/rapid"
)

const testType = "quorate/propose.v1"

// coseKey lets go-cose sign and verify with our keys, and keeps what it was
// asked to verify: go-cose's own Sig_structure.
type coseKey struct {
	key      *PrivateKey
	verified []byte
}

func (*coseKey) Algorithm() cose.Algorithm { return -49 }

func (c *coseKey) Sign(_ io.Reader, content []byte) ([]byte, error) { return c.key.Sign(content), nil }

func (c *coseKey) Verify(content, sig []byte) error {
	c.verified = content
	if !c.key.Public().Verify(content, sig) {
		return cose.ErrVerification
	}
	return nil
}

// coseSign makes a statement with go-cose alone.
func coseSign(t *testing.T, key *PrivateKey, typ string, payload []byte, change func(*cose.Sign1Message)) []byte {
	t.Helper()
	kid := key.ID()
	message := cose.NewSign1Message()
	message.Headers.Protected.SetAlgorithm(-49)
	message.Headers.Protected[cose.HeaderLabelKeyID] = kid[:]
	if _, err := message.Headers.Protected.SetType(typ); err != nil {
		t.Fatal(err)
	}
	message.Payload = payload
	if change != nil {
		change(message)
	}
	if err := message.Sign(nil, nil, &coseKey{key: key}); err != nil {
		t.Fatal(err)
	}
	b, err := message.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkAgainstCOSE holds an envelope that we took against go-cose's reading.
func checkAgainstCOSE(t *testing.T, data []byte, e *Envelope) {
	t.Helper()
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(data); err != nil {
		t.Fatalf("go-cose refuses %x: %v", data[:60], err)
	}
	protected := message.Headers.Protected
	alg, err := protected.Algorithm()
	if err != nil || alg != -49 {
		t.Errorf("go-cose finds alg %v, %v", alg, err)
	}
	if kid, _ := protected[cose.HeaderLabelKeyID].([]byte); !bytes.Equal(kid, e.KeyID[:]) {
		t.Errorf("go-cose finds kid %x", kid)
	}
	if typ := protected[cose.HeaderLabelType]; typ != e.Type {
		t.Errorf("go-cose finds typ %v", typ)
	}
	if len(protected) != 3 || len(message.Headers.Unprotected) != 0 {
		t.Errorf("go-cose finds headers %v and %v", protected, message.Headers.Unprotected)
	}
	if !bytes.Equal(message.Payload, e.Payload) || !bytes.Equal(message.Signature, e.Signature) {
		t.Error("go-cose finds another payload or signature")
	}
	recorder := &coseKey{key: testKey(1)}
	_ = message.Verify(nil, recorder) // right or wrong: only what it verifies counts here
	if !bytes.Equal(recorder.verified, SigStructure(e.KeyID, e.Type, e.Payload)) {
		t.Error("go-cose verifies another Sig_structure")
	}
	if e.ID() != sha256.Sum256(recorder.verified) {
		t.Error("the statement id is not the hash of go-cose's Sig_structure")
	}
}

func TestEnvelopeAgainstCOSE(t *testing.T) {
	key := testKey(1)
	for _, length := range []int{1, 23, 24, 255, 256, 3000, MaxPayload} {
		for _, typ := range []string{"quorate/a.v1", testType, "quorate/" + strings.Repeat("a", MaxType-11) + ".v1"} {
			payload := bytes.Repeat([]byte("x"), length)
			ours := SignEnvelope(key, typ, payload)
			if theirs := coseSign(t, key, typ, payload, nil); !bytes.Equal(ours, theirs) {
				t.Fatalf("%d bytes of %s: go-cose makes other bytes", length, typ)
			}
			e, err := ParseEnvelope(ours)
			if err != nil {
				t.Fatalf("%d bytes of %s: %v", length, typ, err)
			}
			checkAgainstCOSE(t, ours, e)
			if !e.Verify(key.Public()) {
				t.Error("the signature does not verify")
			}
			if e.Verify(testKey(2).Public()) {
				t.Error("the signature verifies under another key")
			}
			if len(ours) > MaxEnvelope {
				t.Errorf("an envelope of %d bytes is above the limit", len(ours))
			}
		}
	}
	if largest := SignEnvelope(key, "quorate/"+strings.Repeat("a", MaxType-11)+".v1", make([]byte, MaxPayload)); len(largest) != MaxEnvelope {
		t.Errorf("the largest envelope has %d bytes, not MaxEnvelope, %d", len(largest), MaxEnvelope)
	}
}

// TestEnvelopeNamesItsKey: kid is signed, and a key that signs under another's
// id is not believed.
func TestEnvelopeNamesItsKey(t *testing.T) {
	key, other := testKey(1), testKey(2)
	e := &Envelope{KeyID: other.ID(), Type: testType, Payload: []byte("{}")}
	e.Signature = key.Sign(SigStructure(e.KeyID, e.Type, e.Payload))
	if e.Verify(key.Public()) || e.Verify(other.Public()) {
		t.Error("an envelope that names another key verifies")
	}
}

func TestParseEnvelopeAliasesNothing(t *testing.T) {
	b := SignEnvelope(testKey(1), testType, []byte(`{"a":1}`))
	e, err := ParseEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(e.Payload) != `{"a":1}` || !e.Verify(testKey(1).Public()) {
		t.Error("the envelope changed with the bytes")
	}
}

// head writes a CBOR head with an argument of a chosen size, shortest or not.
func head(major byte, n uint64, size int) []byte {
	switch size {
	case 0:
		return []byte{major<<5 | byte(n)}
	case 1:
		return []byte{major<<5 | 24, byte(n)}
	case 2:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	case 4:
		return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n)
}

// parts is an envelope taken apart, each part in CBOR, to be put together
// wrongly.
type parts struct{ tag, array, mapHead, alg, kid, typ, more, unprotected, payload, signature, after []byte }

func wholeParts(payload string) *parts {
	kid, typ := testKey(1).ID(), testType
	sig := testKey(1).Sign(SigStructure(kid, typ, []byte(payload)))
	return &parts{
		tag: []byte{0xd2}, array: []byte{0x84}, mapHead: []byte{0xa3},
		alg:         []byte{0x01, 0x38, 0x30},
		kid:         slices.Concat([]byte{0x04, 0x58, 32}, kid[:]),
		typ:         slices.Concat([]byte{0x10, 0x60 | byte(len(typ))}, []byte(typ)),
		unprotected: []byte{0xa0},
		payload:     slices.Concat(head(2, uint64(len(payload)), 1), []byte(payload)),
		signature:   slices.Concat([]byte{0x59, 0x0c, 0xed}, sig),
	}
}

func (p *parts) join() []byte {
	protected := slices.Concat(p.mapHead, p.alg, p.kid, p.typ, p.more)
	return slices.Concat(p.tag, p.array, head(2, uint64(len(protected)), 1), protected, p.unprotected, p.payload, p.signature, p.after)
}

// envelopeCases are the ways to miss the one form. Those marked loose are what
// go-cose takes and we must not.
var envelopeCases = []struct {
	name, code string
	change     func(*parts)
}{
	{"empty", CodeNotCOSE, func(p *parts) { *p = parts{} }},
	{"no tag", CodeNotCOSE, func(p *parts) { p.tag = nil }},
	{"tag of COSE_Sign", CodeNotCOSE, func(p *parts) { p.tag = []byte{0xd8, 98} }},
	{"two tags", CodeNotCOSE, func(p *parts) { p.tag = []byte{0xd2, 0xd2} }},
	{"self-described", CodeNotCOSE, func(p *parts) { p.tag = []byte{0xd9, 0xd9, 0xf7, 0xd2} }},
	{"long tag", CodeNotCanonical, func(p *parts) { p.tag = []byte{0xd8, 18} }},
	{"array of 3", CodeNotCOSE, func(p *parts) { p.array = []byte{0x83} }},
	{"array of 5", CodeNotCOSE, func(p *parts) { p.array = []byte{0x85} }},
	{"long array", CodeNotCanonical, func(p *parts) { p.array = []byte{0x98, 4} }},
	{"indefinite array", CodeNotCanonical, func(p *parts) { p.array = []byte{0x9f}; p.after = []byte{0xff} }},
	{"indefinite map", CodeNotCanonical, func(p *parts) { p.mapHead = []byte{0xbf}; p.more = []byte{0xff} }},
	{"long map", CodeNotCanonical, func(p *parts) { p.mapHead = []byte{0xb8, 3} }},
	{"huge map", CodeNotCOSE, func(p *parts) { p.mapHead = head(5, 1<<63, 8) }},
	{"map is an array", CodeNotCOSE, func(p *parts) { p.mapHead = []byte{0x83} }},
	{"no alg", CodeWrongAlg, func(p *parts) { p.mapHead, p.alg = []byte{0xa2}, nil }},
	{"ES256", CodeWrongAlg, func(p *parts) { p.alg = []byte{0x01, 0x26} }},
	{"ML-DSA-44", CodeWrongAlg, func(p *parts) { p.alg = []byte{0x01, 0x38, 47} }},
	{"ML-DSA-87", CodeWrongAlg, func(p *parts) { p.alg = []byte{0x01, 0x38, 49} }},
	{"alg plus 48", CodeWrongAlg, func(p *parts) { p.alg = []byte{0x01, 0x18, 48} }},
	{"alg as text", CodeWrongAlg, func(p *parts) { p.alg = []byte{0x01, 0x61, '0'} }},
	{"long alg", CodeNotCanonical, func(p *parts) { p.alg = []byte{0x01, 0x39, 0, 48} }},
	{"long label", CodeNotCanonical, func(p *parts) { p.alg = []byte{0x18, 0x01, 0x38, 0x30} }},
	{"alg twice", CodeNotCanonical, func(p *parts) { p.mapHead, p.more = []byte{0xa4}, p.alg }},
	{"no kid", CodeNotCOSE, func(p *parts) { p.mapHead, p.kid = []byte{0xa2}, nil }},
	{"short kid", CodeNotCOSE, func(p *parts) { p.kid = []byte{0x04, 0x41, 1} }},
	{"kid as text", CodeNotCOSE, func(p *parts) { p.kid[1] = 0x78 }},
	{"long kid head", CodeNotCanonical, func(p *parts) { p.kid = slices.Concat([]byte{0x04, 0x59, 0, 32}, p.kid[3:]) }},
	{"no typ", CodeWrongTyp, func(p *parts) { p.mapHead, p.typ = []byte{0xa2}, nil }},
	{"typ as number", CodeWrongTyp, func(p *parts) { p.typ = []byte{0x10, 0x18, 60} }},
	{"typ as bytes", CodeWrongTyp, func(p *parts) { p.typ[1] ^= 0x20 }},
	{"empty typ", CodeWrongTyp, func(p *parts) { p.typ = []byte{0x10, 0x60} }},
	{"another typ", CodeWrongTyp, func(p *parts) { p.typ = append([]byte{0x10, 0x6c}, "text/plain.v"...) }},
	{"long typ head", CodeNotCanonical, func(p *parts) { p.typ = slices.Concat([]byte{0x10, 0x78, p.typ[1] & 31}, p.typ[2:]) }},
	{"unsorted labels", CodeNotCanonical, func(p *parts) { p.alg, p.kid = p.kid, p.alg }},
	{"crit", CodeNotCanonical, func(p *parts) { p.mapHead, p.more = []byte{0xa4}, []byte{0x02, 0x81, 0x18, 99} }},
	{"unknown label", CodeNotCanonical, func(p *parts) { p.mapHead, p.more = []byte{0xa4}, []byte{0x18, 99, 0x01} }},
	{"text label", CodeNotCanonical, func(p *parts) { p.mapHead, p.more = []byte{0xa4}, []byte{0x61, 'a', 0x01} }},
	{"bytes after the map", CodeNotCOSE, func(p *parts) { p.more = []byte{0x00} }},
	{"unprotected alg", CodeUnprotectedHeader, func(p *parts) { p.unprotected = []byte{0xa1, 0x01, 0x38, 0x30} }},
	{"unprotected kid", CodeUnprotectedHeader, func(p *parts) { p.unprotected = []byte{0xa1, 0x04, 0x41, 0x01} }},
	{"unprotected anything", CodeUnprotectedHeader, func(p *parts) { p.unprotected = []byte{0xa1, 0x18, 99, 0xf6} }},
	{"long empty map", CodeNotCanonical, func(p *parts) { p.unprotected = []byte{0xb8, 0} }},
	{"unprotected nil", CodeNotCOSE, func(p *parts) { p.unprotected = []byte{0xf6} }},
	{"detached payload", CodeNotCOSE, func(p *parts) { p.payload = []byte{0xf6} }},
	{"empty payload", CodeNotCOSE, func(p *parts) { p.payload = []byte{0x40} }},
	{"payload as text", CodeNotCOSE, func(p *parts) { p.payload[0] ^= 0x20 }},
	{"long payload head", CodeNotCanonical, func(p *parts) { p.payload = slices.Concat(head(2, uint64(len(p.payload)-2), 2), p.payload[2:]) }},
	{"longest payload head", CodeNotCanonical, func(p *parts) { p.payload = slices.Concat(head(2, uint64(len(p.payload)-2), 8), p.payload[2:]) }},
	{"indefinite payload", CodeNotCanonical, func(p *parts) { p.payload = slices.Concat([]byte{0x5f}, p.payload, []byte{0xff}) }},
	{"payload above the limit", CodeTooLarge, func(p *parts) { p.payload = slices.Concat(head(2, MaxPayload+1, 2), make([]byte, MaxPayload+1)) }},
	{"payload that claims 2^64-1", CodeTooLarge, func(p *parts) { p.payload = head(2, 1<<64-1, 8) }},
	{"short signature", CodeNotCOSE, func(p *parts) { p.signature = slices.Concat([]byte{0x59, 0x0c, 0xec}, p.signature[4:]) }},
	{"long signature", CodeNotCOSE, func(p *parts) { p.signature = slices.Concat([]byte{0x59, 0x0c, 0xee}, p.signature[3:], []byte{0}) }},
	{"long signature head", CodeNotCanonical, func(p *parts) { p.signature = slices.Concat(head(2, SignatureSize, 4), p.signature[3:]) }},
	{"cut short", CodeNotCOSE, func(p *parts) { p.signature = p.signature[:len(p.signature)-1] }},
	{"reserved head", CodeNotCOSE, func(p *parts) { p.unprotected = []byte{0xbc} }},
	{"trailing byte", CodeTrailingBytes, func(p *parts) { p.after = []byte{0} }},
	{"two envelopes", CodeTrailingBytes, func(p *parts) { p.after = (&parts{tag: wholeParts(`{}`).join()}).tag }},
	{"JSON", CodeNotCOSE, func(p *parts) { *p = parts{tag: []byte(`{"author":"alice"}`)} }},
}

func TestParseEnvelopeRefuses(t *testing.T) {
	payload := `{"memo":"long enough for a length of its own byte"}`
	if _, err := ParseEnvelope(wholeParts(payload).join()); err != nil {
		t.Fatalf("the base of all cases: %v", err)
	}
	for _, c := range envelopeCases {
		t.Run(c.name, func(t *testing.T) {
			p := wholeParts(payload)
			c.change(p)
			data := p.join()
			if c.name == "empty" {
				data = nil
			}
			_, err := ParseEnvelope(data)
			problem := new(FormatError)
			if !errors.As(err, &problem) || problem.Code != c.code {
				t.Errorf("gives %v, wanted %s", err, c.code)
			}
			if c.code != CodeTrailingBytes {
				if _, err := SplitSequence(data, 10); err == nil {
					t.Error("SplitSequence takes it")
				}
			}
		})
	}
}

// TestEnvelopeEveryByte: no byte of an envelope can be changed, cut off or put
// in so that it still passes as the same statement.
func TestEnvelopeEveryByte(t *testing.T) {
	key := testKey(1)
	whole := SignEnvelope(key, testType, []byte(`{"a":1}`))
	original, err := ParseEnvelope(whole)
	if err != nil {
		t.Fatal(err)
	}
	signatureAt := len(whole) - SignatureSize
	for at := range signatureAt + 2 {
		for bit := range 8 {
			changed := bytes.Clone(whole)
			changed[at] ^= 1 << bit
			e, err := ParseEnvelope(changed)
			if err != nil {
				continue
			}
			if at < signatureAt && e.ID() == original.ID() {
				t.Fatalf("bit %d of byte %d makes other bytes of one statement", bit, at)
			}
			if (at < 60 || at >= signatureAt-10) && e.Verify(key.Public()) {
				t.Fatalf("bit %d of byte %d still verifies", bit, at)
			}
		}
		if _, err := ParseEnvelope(whole[:at]); err == nil {
			t.Fatalf("%d bytes are taken", at)
		}
	}
}

func TestTypes(t *testing.T) {
	for typ, want := range map[string]bool{
		testType: true, "quorate/a.v1": true, "quorate/council.change.v12": true, "quorate/..v0": true, "quorate/a.v1.v2": false,
		"": false, "quorate/": false, "quorate/.v1": false, "quorate/a.v": false, "quorate/a": false, "quorate/av1": false,
		"quorate/A.v1": false, "quorate/a-b.v1": false, "quorate/a.v1 ": false, "quorate/é.v1": false, "Quorate/a.v1": false,
		"quorate/a/b.v1": false, "quorate/a.v1x": false, "quorate/a\x00.v1": false,
		"quorate/" + strings.Repeat("a", MaxType-11) + ".v1": true,
		"quorate/" + strings.Repeat("a", MaxType-10) + ".v1": false,
	} {
		if isType(typ) != want {
			t.Errorf("%q: %v, wanted %v", typ, !want, want)
		}
	}
}

func TestSplitSequence(t *testing.T) {
	var envelopes [][]byte
	for b := range byte(3) {
		envelopes = append(envelopes, SignEnvelope(testKey(b), testType, bytes.Repeat([]byte("x"), 1+100*int(b))))
	}
	whole := slices.Concat(envelopes...)
	got, err := SplitSequence(whole, 3)
	if err != nil || len(got) != 3 {
		t.Fatalf("gives %d, %v", len(got), err)
	}
	for i := range got {
		if !bytes.Equal(got[i], envelopes[i]) {
			t.Errorf("envelope %d is another", i)
		}
	}
	for name, c := range map[string]struct {
		data  []byte
		limit int
		code  string
	}{
		"too many":  {whole, 2, CodeTooLarge},
		"none":      {nil, 3, CodeNotCOSE},
		"cut":       {whole[:len(whole)-1], 3, CodeNotCOSE},
		"tail":      {append(bytes.Clone(whole), 0), 4, CodeNotCOSE},
		"line feed": {slices.Concat(envelopes[0], []byte("\n"), envelopes[1]), 3, CodeNotCOSE},
	} {
		_, err := SplitSequence(c.data, c.limit)
		problem := new(FormatError)
		if !errors.As(err, &problem) || problem.Code != c.code {
			t.Errorf("%s: gives %v, wanted %s", name, err, c.code)
		}
	}
}

// TestSigStructureIsCBOR reads the Sig_structure with a CBOR library.
func TestSigStructureIsCBOR(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 70000).Draw(t, "payload")
		kid := ID(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kid"))
		typ := rapid.StringMatching(`quorate/[a-z.]{1,40}\.v[0-9]{1,3}`).Draw(t, "typ")
		var structure []any
		if err := cbor.Unmarshal(SigStructure(kid, typ, payload), &structure); err != nil {
			t.Fatal(err)
		}
		if len(structure) != 4 || structure[0] != "Signature1" || len(structure[2].([]byte)) != 0 || !bytes.Equal(structure[3].([]byte), payload) {
			t.Fatalf("gives %v", structure)
		}
		var protected map[int]any
		if err := cbor.Unmarshal(structure[1].([]byte), &protected); err != nil {
			t.Fatal(err)
		}
		if len(protected) != 3 || protected[1] != int64(-49) || !bytes.Equal(protected[4].([]byte), kid[:]) || protected[16] != typ {
			t.Fatalf("protected is %v", protected)
		}
	})
}

func seedEnvelopes(f *testing.F) {
	payload := `{"memo":"long enough for a length of its own byte"}`
	f.Add(wholeParts(payload).join())
	f.Add(SignEnvelope(testKey(1), testType, []byte("{}")))
	f.Add(slices.Concat(SignEnvelope(testKey(1), testType, []byte("{}")), SignEnvelope(testKey(2), "quorate/approve.v1", []byte("[]"))))
	for _, c := range envelopeCases {
		if p := wholeParts(payload); c.name != "payload above the limit" {
			c.change(p)
			f.Add(p.join())
		}
	}
}

// FuzzParseEnvelope: what is taken comes out again as the same bytes, and
// go-cose reads the same in it.
func FuzzParseEnvelope(f *testing.F) {
	seedEnvelopes(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			if problem := new(FormatError); !errors.As(err, &problem) {
				t.Fatalf("error %v is no *FormatError", err)
			}
			return
		}
		if !bytes.Equal(e.Bytes(), data) {
			t.Fatalf("%x comes out as %x", data, e.Bytes())
		}
		checkAgainstCOSE(t, data, e)
	})
}

// FuzzSplitSequence: the parts are envelopes and together are the whole.
func FuzzSplitSequence(f *testing.F) {
	seedEnvelopes(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		envelopes, err := SplitSequence(data, 4)
		if err != nil {
			return
		}
		if len(envelopes) == 0 || len(envelopes) > 4 || !bytes.Equal(slices.Concat(envelopes...), data) {
			t.Fatalf("%d parts are not the whole", len(envelopes))
		}
		for _, one := range envelopes {
			if _, err := ParseEnvelope(one); err != nil {
				t.Fatalf("a part is no envelope: %v", err)
			}
		}
	})
}
