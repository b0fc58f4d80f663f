package replica

import (
	"fmt"
	"testing"
	"time"

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

// What fails again and again is tried more and more seldom, up to once a minute.
func TestFailedStepsAreTriedMoreSeldom(t *testing.T) {
	last := time.Duration(0)
	for failures := range 100 {
		wait := afterFailures(failures)
		if wait < last || wait < rotateRetry || wait > rotateRetryMost {
			t.Errorf("%v after %d failures, %v before", wait, failures, last)
		}
		last = wait
	}
	if last != rotateRetryMost {
		t.Errorf("%v in the end", last)
	}
}
