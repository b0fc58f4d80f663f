package keys

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

func TestSecretIsWiped(t *testing.T) {
	given := []byte("correct horse battery staple")
	s := SecretOf(given)
	if string(s.Bytes()) != "correct horse battery staple" {
		t.Fatalf("it holds %q", s.Bytes())
	}
	if !bytes.Equal(given, make([]byte, len(given))) {
		t.Error("what it was made of is still there")
	}
	inside := s.Bytes()
	s.Wipe()
	s.Wipe()
	if s.Bytes() != nil || !bytes.Equal(inside, make([]byte, len(inside))) {
		t.Error("it is still there after Wipe")
	}
	(*Secret)(nil).Wipe()
}

func TestSecretHasPagesOfItsOwn(t *testing.T) {
	for _, size := range []int{0, 1, 32, 4096, 4097, 70_000} {
		s := NewSecret(size)
		if len(s.Bytes()) != size || uintptr(unsafe.Pointer(&s.pages[0]))%4096 != 0 || len(s.pages)%4096 != 0 {
			t.Errorf("size %d: %d bytes in %d at %p", size, len(s.Bytes()), len(s.pages), &s.pages[0])
		}
		s.Wipe()
	}
}

// Whatever prints it, nothing secret is in the text.
func TestSecretsPrintNothing(t *testing.T) {
	secret := SecretOf([]byte("horse"))
	share := Share{Index: 3, Value: [ShareSize]byte{0xAB, 0xAB, 0xAB, 0xAB}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{secret, share, &share} {
			text := fmt.Sprintf(verb, v)
			for _, bad := range []string{"horse", "686f727365", "104 111", "abab", "ABAB", "171"} {
				if strings.Contains(text, bad) {
					t.Errorf("%s of %T prints %q", verb, v, text)
				}
			}
		}
	}
}

func TestKeysAreWiped(t *testing.T) {
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	cosigner := key.Cosigner44()
	id, message := key.ID(), []byte("quorate/test/v1\n\x00")
	good := key.Sign(message)
	key.Wipe()
	if key.Seed() != [SeedSize]byte{} {
		t.Error("the seed is still there")
	}
	if key.ID() != id || !key.Public().Verify(message, good) {
		t.Error("the public half is gone")
	}
	if key.Public().Verify(message, key.Sign(message)) {
		t.Error("a wiped key still signs")
	}
	cosigner.Wipe()
	if Verify44(cosigner.Public(), message, cosigner.Sign(message)) {
		t.Error("a wiped cosigning key still signs")
	}
	(*PrivateKey)(nil).Wipe()
	(*Cosigner44)(nil).Wipe()
	(*File)(nil).Wipe()
}
