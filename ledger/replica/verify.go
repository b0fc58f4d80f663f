package replica

import (
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// verifier checks statements' signatures and remembers what it found, by
// envelope and key, so that the check that the leader made at admission, or
// all cores made before a batch, is not made again inside Apply.
type verifier struct {
	cache *keys.Cache
	test  *Hooks // nil but in tests

	mu       sync.Mutex
	limit    int
	now, old map[verified]bool // two generations: bounded, and the newest half always kept
}

type verified struct{ envelope, public [32]byte }

func newVerifier(l Limits) *verifier {
	return &verifier{cache: keys.NewCache(l.PublicKeys), limit: max(l.VerifyMemo/2, 1), now: map[verified]bool{}}
}

// Verify is fsm.Verifier.
func (v *verifier) Verify(st *ledger.Statement, public []byte) bool {
	key := verified{sha256.Sum256(st.Envelope), sha256.Sum256(public)}
	if ok, known := v.recall(key); known {
		return ok
	}
	unpacked, err := v.cache.Get(public)
	ok := v.test.verify(st, err == nil && st.Verify(unpacked))
	v.remember(key, ok)
	return ok
}

func (v *verifier) recall(key verified) (ok, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ok, known = v.now[key]; !known {
		ok, known = v.old[key]
	}
	return ok, known
}

func (v *verifier) remember(key verified, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.now) >= v.limit {
		v.old, v.now = v.now, make(map[verified]bool, v.limit)
	}
	v.now[key] = ok
}

// ahead verifies the statements of commands on all cores, under the keys that
// state knows. A key that changes within the batch is looked up and verified
// inside Apply.
func (v *verifier) ahead(state *fsm.State, commands []*ledger.Command) {
	var envelopes [][]byte
	for _, c := range commands {
		if c != nil {
			envelopes = append(envelopes, c.Statements...)
		}
	}
	workers := min(runtime.GOMAXPROCS(0), len(envelopes))
	if workers < 2 {
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(envelopes) {
					return
				}
				st, err := ledger.ParseStatement(envelopes[i])
				if err != nil {
					continue
				}
				if public, verdict := state.PublicKey(st); verdict.Code == fsm.OK {
					v.Verify(st, public)
				}
			}
		})
	}
	wg.Wait()
}
