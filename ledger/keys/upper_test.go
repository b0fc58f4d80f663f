package keys

import (
	"crypto/sha256"
	"testing"
)

// BenchmarkHashAfter prints what hashing 1,952 bytes costs directly after each
// operation on keys, beside hashing alone. Without restoreSpeed the former was
// a hundred times the latter on some CPUs. The operation itself is not timed.
func BenchmarkHashAfter(b *testing.B) {
	key, message := testKey(1), []byte("message")
	cosigner := key.Cosigner44()
	packed, packed44 := key.Public().Bytes(), cosigner.Public()
	sig, sig44 := key.Sign(message), cosigner.Sign(message)
	public44, err := ParsePublic44(packed44)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		operation func()
	}{
		{"nothing", func() {}},
		{"ParsePublicKey", func() { _, _ = ParsePublicKey(packed) }},
		{"Verify", func() { key.Public().Verify(message, sig) }},
		{"FromSeed", func() { testKey(2) }},
		{"Sign", func() { key.Sign(message) }},
		{"ParsePublic44", func() { _, _ = ParsePublic44(packed44) }},
		{"Verify44", func() { public44.Verify(message, sig44) }},
		{"NewCosigner44", func() { NewCosigner44([SeedSize]byte{1}) }},
		{"Sign44", func() { cosigner.Sign(message) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c.operation()
				b.StartTimer()
				sha256.Sum256(packed)
			}
		})
	}
}
