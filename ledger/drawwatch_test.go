package ledger

import (
	"fmt"
	"slices"
	"testing"
)

// Watches answers as Draw does, for every node and subject.
func TestWatchesIsDraw(t *testing.T) {
	for _, limit := range []int{3, 7, 12, 40} {
		var stables []Stable
		for i := range 12 {
			s := Stable{Operator: fmt.Sprintf("op-%02d", i)}
			for j := range i % 4 {
				s.Nodes = append(s.Nodes, fmt.Sprintf("n-%02d-%d", i, j))
			}
			stables = append(stables, s)
		}
		drawn := 0
		for k := range 20 {
			seed := Hash{byte(k)}
			own := stables[k%12].Operator
			draw := Draw(seed, "subject", own, stables, limit)
			drawn += len(draw)
			for _, s := range stables {
				for _, n := range s.Nodes {
					m := Monitor{Operator: s.Operator, Node: n}
					if got, want := Watches(seed, "subject", own, m, stables, limit), slices.Contains(draw, m); got != want {
						t.Fatalf("limit %d, seed %d: %s watches: %v, drawn: %v", limit, k, n, got, want)
					}
				}
			}
		}
		if drawn == 0 {
			t.Fatal("nobody was drawn")
		}
	}
}
