package replica

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// However short the period is, a key is never due in the epoch in which it came, or
// each seal would be a handover; and it is due before the period is over, or next.
func TestKeysAreDueInALaterEpoch(t *testing.T) {
	for period := uint64(1); period <= 40; period++ {
		for i := range 50 {
			me := fsm.ReplicaRecord{Replica: ledger.Replica{Name: fmt.Sprint("r", i)}, KeyEpoch: 7}
			due := replicaRotation(ledger.Hash{1}, me, period)
			if due <= me.KeyEpoch || due >= me.KeyEpoch+max(period, 2) {
				t.Errorf("period %d, %s: due in epoch %d, the key came in %d", period, me.Name, due, me.KeyEpoch)
			}
		}
	}
}
