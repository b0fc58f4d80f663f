package replica

import (
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// recent remembers the seq of the statements accepted last. For the replay form
// epoch + seq the state keeps only an author's last statement id, so without it
// a copy of an earlier one, sent again after a lost answer, would be refused as
// a replay instead of being given its first result. It helps who asks; nothing
// depends on it, and after a restart it knows what was replayed since the
// snapshot.
type recent struct {
	mu    sync.Mutex
	seqs  map[ledger.Hash]uint64
	order []ledger.Hash // a ring
	next  int
}

func newRecent(limit int) *recent {
	return &recent{seqs: make(map[ledger.Hash]uint64), order: make([]ledger.Hash, limit)}
}

// add takes the statements that a command brought onto the ledger.
func (m *recent) add(verdicts []fsm.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range verdicts {
		if v.Code != fsm.OK || v.Duplicate {
			continue
		}
		if old := m.order[m.next]; !old.IsZero() {
			delete(m.seqs, old)
		}
		m.order[m.next] = v.ID
		m.seqs[v.ID] = v.Seq
		m.next = (m.next + 1) % len(m.order)
	}
}

// said turns the verdicts on a refused submission into its first result, if
// every statement of it was accepted before.
func (m *recent) said(verdicts []fsm.Verdict) (*Receipt, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := make([]fsm.Verdict, len(verdicts))
	for i, v := range verdicts {
		seq, ok := m.seqs[v.ID]
		switch v.Code {
		case fsm.SeqUsed, fsm.SeqTooOld, fsm.WrongEpoch, fsm.NonceUsed, fsm.Expired, fsm.BundleRejected:
		case fsm.OK:
			if v.Duplicate {
				seq, ok = v.Seq, true
			}
		default: // a signature that does not verify, say: this is no copy
			ok = false
		}
		if !ok {
			return nil, false
		}
		first[i] = fsm.Verdict{Code: fsm.OK, ID: v.ID, Seq: seq, Duplicate: true}
	}
	return receiptOf(first, 0), len(first) > 0
}
