package replica

import (
	"sync"
	"testing"
	"time"
)

// Several loops say something of their own; no seq is given twice.
func TestSeqsAreReservedOnce(t *testing.T) {
	r := &Replica{files: files{t.TempDir(), newWatchdog(time.Minute)}}
	if err := r.files.replaceChecked(seqFile, seqRecord{Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[uint64]int{}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 100 {
				seq, err := r.reserveSeq(7)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[seq]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for seq, times := range seen {
		if times > 1 {
			t.Errorf("seq %d was given %d times", seq, times)
		}
	}
}
