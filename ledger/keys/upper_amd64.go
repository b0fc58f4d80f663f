package keys

import "github.com/cloudflare/circl/simd/keccakf1600"

// clearUpper is the instruction VZEROUPPER.
func clearUpper()

// restoreSpeed follows each call into circl. Its AVX2 code returns without
// VZEROUPPER, and until some other code executes that, SSE instructions on the
// same thread are slow: on the Xeon where this was found, SHA-256 of 2 kB by
// SHA-NI took 137 µs after a verification instead of 1.4 µs. A replica hashes
// right after it verifies. Nothing but speed depends on this.
func restoreSpeed() {
	if keccakf1600.IsEnabledX4() { // circl's own condition: the CPU has AVX2
		clearUpper()
	}
}
