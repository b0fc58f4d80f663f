package keys

import "testing"

func testKey(b byte) *PrivateKey { return FromSeed([SeedSize]byte{b}) }

func TestEnvelopeRoundTrip(t *testing.T) {
	k := testKey(1)
	b := SignEnvelope(k, "quorate/propose.v1", []byte(`{}`))
	e, err := ParseEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Verify(k.Public()) || string(e.Bytes()) != string(b) {
		t.Fatal("the envelope does not come back")
	}
}
