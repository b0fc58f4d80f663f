package replica

import (
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// An accused key is followed over rotations; where they are too many, that is said,
// so that nobody rotates an accusation away.
func TestRotationsAreFollowed(t *testing.T) {
	for rotations := range maxRing + 10 {
		records := map[string][]byte{}
		for i := range rotations {
			record := fsm.KeyRecord{Ended: fsm.KeyRotated, Holder: "r1", Next: &ledger.Hash{byte(i + 1)}, Role: fsm.RoleReplica}
			b, err := canon.Marshal(record)
			if err != nil {
				t.Fatal(err)
			}
			records[keyTable+ledger.Hash{byte(i)}.String()] = b
		}
		recordOf := func(key string) ([]byte, bool) {
			b, ok := records[key]
			return b, ok
		}
		now, whole := successorOf(recordOf, ledger.Hash{0})
		if whole != (rotations < maxRing) || whole && now != (ledger.Hash{byte(rotations)}) {
			t.Errorf("%d rotations: %s, the whole way %v", rotations, now, whole)
		}
	}
}
