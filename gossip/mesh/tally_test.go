package mesh

import (
	"maps"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Members are counted, not links: one that changes its peer key has two.
func TestMembersAreCountedOnce(t *testing.T) {
	a := Member{Name: "a", Operator: "acme", Standing: Active}
	b := Member{Name: "b", Operator: "birch", Standing: Active}
	c := Member{Name: "c", Operator: "birch", Standing: Quarantined}
	for range 20 { // the order of a map is another each time
		connected, outward, operators := tally(map[peer.ID]*link{
			"a1": {member: a, outward: true}, "a2": {member: a}, "b1": {member: b}, "b2": {member: b}, "c1": {member: c, outward: true},
		})
		if want := map[string]int{"acme": 1, "birch": 1}; connected != 2 || outward != 1 || !maps.Equal(operators, want) {
			t.Fatalf("connected %d, outward %d, %v", connected, outward, operators)
		}
	}
}
