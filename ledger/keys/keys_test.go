package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"filippo.io/mldsa"
	"pgregory.net/rapid"
)

func testKey(b byte) *PrivateKey { return FromSeed([SeedSize]byte{b}) }

// TestAgainstOtherImplementation holds keys and signatures against a second
// implementation of FIPS 204, which shares no code with ours.
func TestAgainstOtherImplementation(t *testing.T) {
	for b := range byte(4) {
		key, message := testKey(b), bytes.Repeat([]byte{b}, 100*int(b))
		seed := key.Seed()
		other, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed[:])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(other.PublicKey().Bytes(), key.Public().Bytes()) {
			t.Fatal("the public keys of one seed differ")
		}
		sig, err := other.SignDeterministic(message, nil)
		if err != nil || !bytes.Equal(sig, key.Sign(message)) {
			t.Fatalf("the deterministic signatures differ (%v)", err)
		}
		hedged, err := other.Sign(nil, message, nil)
		if err != nil || !key.Public().Verify(message, hedged) {
			t.Errorf("a hedged signature is refused (%v)", err)
		}
		withContext, err := other.SignDeterministic(message, &mldsa.Options{Context: "x"})
		if err != nil || key.Public().Verify(message, withContext) {
			t.Errorf("a signature with another context is taken (%v)", err)
		}

		derived, err := hkdf.Key(sha256.New, seed[:], nil, "quorate/cosigner-mldsa44/v1", 32)
		if err != nil {
			t.Fatal(err)
		}
		other44, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), derived)
		if err != nil {
			t.Fatal(err)
		}
		cosigner := key.Cosigner44()
		if !bytes.Equal(other44.PublicKey().Bytes(), cosigner.Public()) {
			t.Fatal("the cosigning keys of one seed differ")
		}
		if err := mldsa.Verify(other44.PublicKey(), message, cosigner.Sign(message), nil); err != nil {
			t.Errorf("our cosignature: %v", err)
		}
	}
}

func TestSizes(t *testing.T) {
	key := testKey(1)
	for what, got := range map[string][2]int{
		"public key":      {len(key.Public().Bytes()), PublicKeySize},
		"signature":       {len(key.Sign(nil)), SignatureSize},
		"cosigning key":   {len(key.Cosigner44().Public()), Cosigner44PublicKeySize},
		"cosignature":     {len(key.Cosigner44().Sign(nil)), Cosigner44SignatureSize},
		"other parameter": {mldsa.MLDSA65().PublicKeySize(), PublicKeySize},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d bytes, not %d", what, got[0], got[1])
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	key, message := testKey(1), []byte("message")
	sig, sig44 := key.Sign(message), key.Cosigner44().Sign(message)
	public44 := key.Cosigner44().Public()
	if !key.Public().Verify(message, sig) || !Verify44(public44, message, sig44) {
		t.Fatal("the right signatures are refused")
	}
	if testKey(2).Public().Verify(message, sig) || Verify44(testKey(2).Cosigner44().Public(), message, sig44) {
		t.Error("another key's signature is taken")
	}
	for _, at := range []int{0, 31, 32, 1000, len(sig44) - 1} {
		damaged, damaged44 := bytes.Clone(sig), bytes.Clone(sig44)
		damaged[at] ^= 1
		damaged44[at] ^= 1
		if key.Public().Verify(message, damaged) || Verify44(public44, message, damaged44) {
			t.Errorf("a signature with bit 0 of byte %d flipped is taken", at)
		}
	}
	for _, wrong := range [][]byte{nil, sig[:len(sig)-1], append(bytes.Clone(sig), 0)} {
		if key.Public().Verify(message, wrong) {
			t.Errorf("a signature of %d bytes is taken", len(wrong))
		}
	}
	for _, wrong := range [][]byte{nil, sig44[1:], append(bytes.Clone(sig44), 0)} {
		if Verify44(public44, message, wrong) {
			t.Errorf("a cosignature of %d bytes is taken", len(wrong))
		}
	}
	if _, err := ParsePublicKey(make([]byte, PublicKeySize+1)); !errors.Is(err, ErrPublicKey) {
		t.Errorf("a key of a wrong length gives %v", err)
	}
	if _, err := ParsePublic44(nil); !errors.Is(err, ErrPublicKey44) {
		t.Errorf("a cosigning key of a wrong length gives %v", err)
	}
	if Verify44(nil, message, sig44) {
		t.Error("no key verifies")
	}
}

func TestPublicKeyIsImmutable(t *testing.T) {
	packed := testKey(1).Public().Bytes()
	p, err := ParsePublicKey(packed)
	if err != nil {
		t.Fatal(err)
	}
	clear(packed)
	clear(p.Bytes())
	if !bytes.Equal(p.Bytes(), testKey(1).Public().Bytes()) || p.ID() != testKey(1).ID() {
		t.Error("the key changed with bytes that others hold")
	}
	if want := sha256.Sum256(p.Bytes()); p.ID() != want {
		t.Error("the id is not the hash of the key")
	}
}

func TestGenerate(t *testing.T) {
	a, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	if a.Seed() == b.Seed() || a.Seed() == [SeedSize]byte{} {
		t.Error("the seeds are not random")
	}
	if FromSeed(a.Seed()).ID() != a.ID() {
		t.Error("the seed does not give the key again")
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	identity, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key := FromSeed([SeedSize]byte(bytes.Repeat([]byte{0xab}, SeedSize)))
	file := &File{Name: "alice", Role: "governor", Key: key, Identity: identity}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, value := range []any{key, file, *file, struct{ K *PrivateKey }{key}, []any{key.Cosigner44()}} {
			got := fmt.Sprintf(verb, value)
			for _, secret := range []string{"abab", "171 171", "0xab, 0xab", identity[20:40], hex.EncodeToString([]byte(identity[20:40]))} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %T shows %q: %.100s", verb, value, secret, got)
				}
			}
		}
	}
	if got := fmt.Sprint((*PrivateKey)(nil)); got == "" {
		t.Error("no key prints nothing")
	}
}

func TestPurposePrefix(t *testing.T) {
	if got := string(PurposePrefix("cosignature")); got != "quorate/cosignature/v1\n\x00" {
		t.Errorf("gives %q", got)
	}
}

// TestWords holds the words against the vectors that BIP-39 itself publishes.
func TestWords(t *testing.T) {
	for _, c := range []struct{ bits, words string }{
		{"00000000000000000000000000000000", "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"},
		{"7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f", "legal winner thank year wave sausage worth useful legal winner thank yellow"},
		{"80808080808080808080808080808080", "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"},
		{"ffffffffffffffffffffffffffffffff", "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"},
		{"9e885d952ad362caeb4efe34a8e91bd2", "ozone drill grab fiber curtain grace pudding thank cruise elder eight picnic"},
	} {
		bits, err := hex.DecodeString(c.bits)
		if err != nil {
			t.Fatal(err)
		}
		if got := Words([16]byte(bits)); got != c.words {
			t.Errorf("%s gives %q", c.bits, got)
		}
		for _, typed := range []string{c.words, strings.ToUpper(c.words), "\t" + strings.ReplaceAll(c.words, " ", "  \n") + " "} {
			if got, err := ParseWords(typed); err != nil || !bytes.Equal(got[:], bits) {
				t.Errorf("%q gives %x, %v", typed, got, err)
			}
		}
	}
	for _, wrong := range []string{
		"", "zoo", strings.Repeat("zoo ", 12), strings.Repeat("zoo ", 11) + "zooo",
		strings.Repeat("abandon ", 11) + "about about",
		strings.Repeat("abandon ", 23) + "art", // right, but of 256 bits
		strings.Repeat("abandon ", 1000),
	} {
		if got, err := ParseWords(wrong); !errors.Is(err, ErrWords) {
			t.Errorf("%.30q gives %x, %v", wrong, got, err)
		}
	}
	if id := testKey(1).ID(); id.Words() != Words([16]byte(id[:16])) {
		t.Error("an id's words are not those of its first 128 bits")
	}
}

func FuzzParseWords(f *testing.F) {
	f.Add(Words([16]byte{1, 2, 3}))
	f.Add(strings.Repeat("zoo ", 11) + "wrong")
	f.Add("  Legal winner thank year wave sausage worth useful legal winner thank yellow")
	f.Fuzz(func(t *testing.T, text string) {
		bits, err := ParseWords(text)
		if err == nil && Words(bits) != strings.Join(strings.Fields(strings.ToLower(text)), " ") {
			t.Errorf("%q gives %x", text, bits)
		}
	})
}

func TestParseID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ID(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Fatalf("%v gives %v, %v", id, back, err)
		}
	})
	good := ID{0xab}.String()
	for _, wrong := range []string{"", good[1:], good + "00", strings.ToUpper(good), "g" + good[1:], " " + good[1:]} {
		if _, err := ParseID(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestCache(t *testing.T) {
	cache := NewCache(2)
	public := [][]byte{testKey(0).Public().Bytes(), testKey(1).Public().Bytes(), testKey(2).Public().Bytes()}
	get := func(i int) *PublicKey {
		t.Helper()
		p, err := cache.Get(public[i])
		if err != nil || !bytes.Equal(p.Bytes(), public[i]) {
			t.Fatalf("key %d gives another, %v", i, err)
		}
		return p
	}
	first, second := get(0), get(1)
	if get(0) != first {
		t.Error("a kept key was unpacked again")
	}
	get(2) // drops key 1, which was used longest ago
	if get(0) != first {
		t.Error("the key used last was dropped")
	}
	if get(1) == second {
		t.Error("the key used longest ago was kept")
	}
	if cache.Len() != 2 {
		t.Errorf("%d keys are kept", cache.Len())
	}
	if _, err := cache.Get(nil); !errors.Is(err, ErrPublicKey) {
		t.Errorf("no key gives %v", err)
	}
	if tiny := NewCache(0); tiny.limit != 1 {
		t.Errorf("a cache of none keeps %d", tiny.limit)
	}
}

func TestCacheTogether(t *testing.T) {
	cache := NewCache(3)
	var public [][]byte
	for b := range byte(6) {
		public = append(public, testKey(b).Public().Bytes())
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 60 {
				want := public[(i*(worker+1))%len(public)]
				p, err := cache.Get(want)
				if err != nil || !bytes.Equal(p.Bytes(), want) {
					t.Errorf("another key, %v", err)
				}
			}
		})
	}
	group.Wait()
	if cache.Len() != 3 {
		t.Errorf("%d keys are kept", cache.Len())
	}
}
