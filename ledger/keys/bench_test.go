package keys

import (
	"bytes"
	"testing"
)

func benchEnvelope() []byte {
	return SignEnvelope(testKey(1), "quorate/approve.v1", bytes.Repeat([]byte("x"), 300))
}

func BenchmarkParseEnvelope(b *testing.B) {
	data := benchEnvelope()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEnvelope(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseAndVerify is what admission does with each statement whose
// author's key is in the cache.
func BenchmarkParseAndVerify(b *testing.B) {
	data, cache, public := benchEnvelope(), NewCache(10), testKey(1).Public().Bytes()
	b.ReportAllocs()
	for b.Loop() {
		e, err := ParseEnvelope(data)
		if err != nil {
			b.Fatal(err)
		}
		p, err := cache.Get(public)
		if err != nil || !e.Verify(p) {
			b.Fatal("not verified", err)
		}
	}
}

func BenchmarkParsePublicKey(b *testing.B) {
	public := testKey(1).Public().Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePublicKey(public); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCacheGet(b *testing.B) {
	cache, public := NewCache(10), testKey(1).Public().Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cache.Get(public); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatementID(b *testing.B) {
	e, err := ParseEnvelope(benchEnvelope())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = e.ID()
	}
}

func BenchmarkSignEnvelope(b *testing.B) {
	key, payload := testKey(1), bytes.Repeat([]byte("x"), 300)
	for b.Loop() {
		SignEnvelope(key, "quorate/approve.v1", payload)
	}
}

func BenchmarkVerify44(b *testing.B) {
	cosigner := testKey(1).Cosigner44()
	message := []byte("message")
	sig := cosigner.Sign(message)
	p, err := ParsePublic44(cosigner.Public())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !p.Verify(message, sig) {
			b.Fatal("not verified")
		}
	}
}
