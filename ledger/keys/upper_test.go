package keys

import (
	"crypto/sha256"
	"testing"
	"time"
)

// TestHashingStaysFast: hashing directly after each operation on keys takes
// about as long as hashing alone. Without restoreSpeed it took a hundred times
// as long on some CPUs; the bound is far from both, and the best of many tries
// counts, so that a busy machine does not matter.
func TestHashingStaysFast(t *testing.T) {
	key, message := testKey(1), []byte("message")
	cosigner := key.Cosigner44()
	packed, packed44 := key.Public().Bytes(), cosigner.Public()
	sig, sig44 := key.Sign(message), cosigner.Sign(message)
	public44, err := ParsePublic44(packed44)
	if err != nil {
		t.Fatal(err)
	}
	best := func(before func()) time.Duration {
		least := time.Hour
		for range 50 {
			before()
			start := time.Now()
			sha256.Sum256(packed)
			least = min(least, time.Since(start))
		}
		return least
	}
	alone := best(restoreSpeed)
	for name, operation := range map[string]func(){
		"ParsePublicKey": func() { _, _ = ParsePublicKey(packed) },
		"Verify":         func() { key.Public().Verify(message, sig) },
		"FromSeed":       func() { testKey(2) },
		"Sign":           func() { key.Sign(message) },
		"ParsePublic44":  func() { _, _ = ParsePublic44(packed44) },
		"Verify44":       func() { public44.Verify(message, sig44) },
		"NewCosigner44":  func() { NewCosigner44([SeedSize]byte{1}) },
		"Sign44":         func() { cosigner.Sign(message) },
	} {
		if after := best(operation); after > 10*alone+5*time.Microsecond {
			t.Errorf("hashing takes %v after %s, %v alone", after, name, alone)
		}
	}
}
