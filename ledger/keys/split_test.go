package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"testing"
)

// order is that of the Ristretto group: 2^252 + 27742317777372353535851937790883648493.
var order, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// twin is Shamir's scheme over big integers, written down from its definition:
// the value at zero of the polynomial through the points.
func twin(shares []Share) *big.Int {
	sum := new(big.Int)
	for i := range shares {
		term := littleEndian(shares[i].Value[:])
		for j := range shares {
			if i == j {
				continue
			}
			xi, xj := big.NewInt(int64(shares[i].Index)), big.NewInt(int64(shares[j].Index))
			difference := new(big.Int).Mod(new(big.Int).Sub(xj, xi), order)
			term.Mul(term, xj)
			term.Mul(term, new(big.Int).ModInverse(difference, order))
			term.Mod(term, order)
		}
		sum.Add(sum, term)
	}
	return sum.Mod(sum, order)
}

func littleEndian(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// subset gives the shares whose bits are set.
func subset(shares []Share, bits int) []Share {
	var list []Share
	for i, s := range shares {
		if bits>>i&1 == 1 {
			list = append(list, s)
		}
	}
	return list
}

func fileKeyForTest(t *testing.T) []byte {
	t.Helper()
	key := make([]byte, fileKeySize)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	return key
}

// Any k of n give the key, and so does the twin; fewer are refused. All subsets
// of all splits up to seven.
func TestAnyKOfNShares(t *testing.T) {
	for n := 2; n <= 7; n++ {
		for k := 2; k <= n; k++ {
			t.Run(fmt.Sprintf("%d of %d", k, n), func(t *testing.T) {
				key := fileKeyForTest(t)
				split, err := splitFileKey(key, k, n)
				if err != nil {
					t.Fatal(err)
				}
				for bits := range 1 << n {
					part := subset(split.Shares, bits)
					got, err := Combine(k, part)
					if len(part) < k {
						if !errors.Is(err, ErrTooFewShares) {
							t.Fatalf("subset %b: error %v, want %v", bits, err, ErrTooFewShares)
						}
						continue
					}
					if err != nil || !slices.Equal(got[:], key) {
						t.Fatalf("subset %b: %x, %v, want %x", bits, got, err, key)
					}
					if twin(part).Cmp(littleEndian(key)) != 0 {
						t.Fatalf("subset %b: the twin gives %x, want %x", bits, twin(part), littleEndian(key))
					}
				}
			})
		}
	}
}

// Fewer than k shares tell nothing: whatever the key, some polynomial fits. What
// can be tested is that interpolating too few does not give it.
func TestTooFewSharesGiveAnotherKey(t *testing.T) {
	key := fileKeyForTest(t)
	split, err := splitFileKey(key, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	for bits := range 1 << 7 {
		if part := subset(split.Shares, bits); len(part) == 4 && twin(part).Cmp(littleEndian(key)) == 0 {
			t.Fatalf("the 4 shares %b of 5 give the key", bits)
		}
	}
}

func TestSharesInAnyOrder(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	chance := mathrand.New(mathrand.NewPCG(seed, 1))
	key := fileKeyForTest(t)
	split, err := splitFileKey(key, 13, MaxShares)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		part := slices.Clone(split.Shares)
		chance.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		part = part[:13+chance.IntN(MaxShares-13+1)]
		if got, err := Combine(13, part); err != nil || !slices.Equal(got[:], key) {
			t.Fatalf("%v: %x, %v, want %x", part, got, err, key)
		}
	}
}

func TestCombineRefuses(t *testing.T) {
	split, err := splitFileKey(fileKeyForTest(t), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	other, err := splitFileKey(fileKeyForTest(t), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	change := func(i int, change func(*Share)) []Share {
		list := slices.Clone(split.Shares)
		change(&list[i])
		return list
	}
	for _, c := range []struct {
		name   string
		k      int
		shares []Share
		want   error
	}{
		{"two of three", 3, split.Shares[:2], ErrTooFewShares},
		{"none", 3, nil, ErrTooFewShares},
		{"the same twice", 3, []Share{split.Shares[0], split.Shares[1], split.Shares[0]}, ErrShares},
		{"of another set", 3, []Share{split.Shares[0], split.Shares[1], other.Shares[2]}, ErrShares},
		{"index zero", 3, change(0, func(s *Share) { s.Index = 0 }), ErrShares},
		{"another's index", 3, change(0, func(s *Share) { s.Index = 9 }), ErrShares},
		{"a bit of a value among the first three", 3, change(1, func(s *Share) { s.Value[20] ^= 4 })[:3], ErrShares},
		{"a bit of a value beyond them", 3, change(4, func(s *Share) { s.Value[3] ^= 4 }), ErrShares},
		{"no scalar", 3, change(0, func(s *Share) { s.Value[31] = 0xff }), ErrShares},
		{"the order itself", 3, change(0, func(s *Share) {
			b := order.FillBytes(make([]byte, ShareSize))
			slices.Reverse(b)
			s.Value = [ShareSize]byte(b)
		}), ErrShares},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Combine(c.k, c.shares); !errors.Is(err, c.want) || got != [fileKeySize]byte{} {
				t.Errorf("%x, %v, want %v", got, err, c.want)
			}
		})
	}
	if _, err := Combine(1, split.Shares); err == nil {
		t.Error("a threshold of one is taken")
	}
	if _, err := Combine(3, make([]Share, MaxShares+1)); err == nil {
		t.Error("too many shares are taken")
	}
	for _, c := range [][2]int{{1, 3}, {4, 3}, {2, MaxShares + 1}, {0, 0}} {
		if _, err := splitFileKey(make([]byte, fileKeySize), c[0], c[1]); err == nil {
			t.Errorf("%d of %d: no error", c[0], c[1])
		}
	}
}

// A value that was changed on purpose can aim at another file key: that it is
// another, Combine cannot know. The ledger's hash and the file's MAC do.
func TestAimedShareGivesAnotherKey(t *testing.T) {
	key := fileKeyForTest(t)
	split, err := splitFileKey(key, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	hash := split.Shares[0].Hash()
	// The weight of share 1 at zero is 2/(2-1): one more in its value is two more
	// in the key, unless that carries beyond 16 bytes.
	split.Shares[0].Value[0] ^= 1
	if got, err := Combine(2, split.Shares); err == nil && slices.Equal(got[:], key) {
		t.Errorf("a changed share gives the same key %x", got)
	}
	if split.Shares[0].Hash() == hash {
		t.Error("a changed share has the same hash")
	}
}

// Whatever shares are handed over, Combine neither panics nor gives a key that
// the twin does not.
func FuzzCombine(f *testing.F) {
	f.Add(byte(2), byte(1), byte(2), make([]byte, 64))
	f.Add(byte(2), byte(1), byte(1), make([]byte, 64))
	f.Add(byte(3), byte(0), byte(255), make([]byte, 96))
	f.Fuzz(func(t *testing.T, k, first, step byte, values []byte) {
		var shares []Share
		for index := first; len(values) >= ShareSize && len(shares) <= MaxShares; index += step {
			shares = append(shares, Share{Index: index, Value: [ShareSize]byte(values[:ShareSize])})
			values = values[ShareSize:]
		}
		key, err := Combine(int(k), shares)
		if err == nil && twin(shares[:k]).Cmp(littleEndian(key[:])) != 0 {
			t.Errorf("%x, the twin gives %x", key, twin(shares[:k]))
		}
	})
}
