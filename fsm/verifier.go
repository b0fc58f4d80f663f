package fsm

import (
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// DirectVerifier verifies each statement when it is asked, with the keys that
// it used last kept unpacked. It is safe for concurrent use.
type DirectVerifier struct{ keys *keys.Cache }

// NewDirectVerifier keeps up to limit unpacked keys, of about 40 kB each.
func NewDirectVerifier(limit int) *DirectVerifier {
	return &DirectVerifier{keys: keys.NewCache(limit)}
}

// Verify implements Verifier.
func (v *DirectVerifier) Verify(st *ledger.Statement, public []byte) bool {
	key, err := v.keys.Get(public)
	return err == nil && st.Verify(key)
}
