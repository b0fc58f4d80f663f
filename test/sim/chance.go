package sim

import (
	"hash/fnv"
	"math/rand/v2"
)

// mix is a number that depends on everything that is given and on nothing else.
func mix(seed uint64, from, to string, ordinal uint64) uint64 {
	h := fnv.New64a()
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(seed>>(8*i)), byte(ordinal>>(8*i))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(from))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(to))
	x := h.Sum64() // finalized, since FNV's low bits are weak
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// chanceFor is a source of its own for each purpose, so that one does not shift
// the draws of another.
func chanceFor(seed uint64, purpose string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, mix(seed, purpose, "", 0)))
}

// between draws from least to most, both included.
func between[T ~int | ~int64](r *rand.Rand, least, most T) T {
	return least + T(r.Int64N(int64(most-least)+1))
}
