package replica

import (
	"testing"

	"github.com/quorate/quorate/ledger"
)

func TestAdmissionLeavesHalfToOthers(t *testing.T) {
	a := newAdmission(Limits{Pending: 8, PendingBytes: 100}.withDefaults())
	liar, peer, own := ledger.Hash{1}, ledger.Hash{2}, ledger.Hash{}
	if a.enter(liar, 51) || !a.enter(liar, 50) || a.enter(liar, 1) {
		t.Error("a peer may have half of the bytes, and no more")
	}
	if !a.enter(peer, 20) || !a.enter(own, 30) || a.enter(own, 1) {
		t.Error("the others have what is left, and no more")
	}
	a.leave(liar, 50)
	for i := range 4 {
		if !a.enter(liar, 1) {
			t.Errorf("place %d is refused", i)
		}
	}
	if a.enter(liar, 1) || !a.enter(peer, 1) {
		t.Error("a peer may have half of the places, and no more")
	}
	for range 4 {
		a.leave(liar, 1)
	}
	a.leave(peer, 20)
	a.leave(peer, 1)
	a.leave(own, 30)
	if a.all != (underWay{}) || len(a.peers) != 0 {
		t.Errorf("all have left, and %+v %v is under way", a.all, a.peers)
	}
}
