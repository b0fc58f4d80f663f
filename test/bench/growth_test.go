package main

import (
	"os"
	"testing"
)

// A fleet at rest adds less than 100 MB a day to the ledger under the default
// policy.
func TestGrowthAtRest(t *testing.T) {
	for _, c := range []struct {
		nodes int
		limit float64 // MB a day
	}{{50, 1.5}, {500, 10}, {5_000, 100}} {
		if c.nodes > 500 && os.Getenv("QUORATE_MODEL") == "" {
			continue // make model, make bench
		}
		g, err := growthOf(c.nodes)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", *g)
		if g.Megabytes > c.limit || g.Attestations == 0 {
			t.Errorf("%d nodes: %.1f MB a day", c.nodes, g.Megabytes)
		}
	}
}
