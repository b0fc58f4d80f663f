package replica

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// A replica keeps its server over its own rotations, and loses it when it is
// re-keyed, or removed and added again.
func TestSeatsFollowRotations(t *testing.T) {
	record := func(key byte, joining bool) ledger.Authority {
		if key == 0 {
			return ledger.Authority{}
		}
		return ledger.Authority{Replicas: []ledger.AuthorityReplica{{Name: "r1", Public: []byte{key}, Joining: joining}}}
	}
	s := &seats{servers: map[ledger.Hash]ledger.Hash{}}
	for i, step := range []struct {
		key     byte
		joining bool
		server  byte
	}{
		{1, false, 1}, {1, false, 1},
		{2, false, 1}, {3, false, 1}, // rotated, twice
		{4, true, 4}, {4, false, 4}, // re-keyed, and ready
		{5, false, 4},
		{6, true, 6}, {7, true, 7}, {7, false, 7}, // re-keyed while it joined
		{0, false, 0}, {8, true, 8}, {8, false, 8}, // removed, and added
	} {
		a := record(step.key, step.joining)
		s.follow(a)
		if step.key == 0 {
			continue
		}
		want := ledger.AuthorityReplica{Public: []byte{step.server}}.KeyID()
		if got := s.server(a.Replicas[0]); got != raft.ServerID(want.String()) {
			t.Errorf("step %d: key %d has server %.8s, want that of key %d, %.8s", i, step.key, got, step.server, want)
		}
	}
}
