package ledger

import (
	"maps"
	"testing"
)

// A policy change needs what each rule needs that it lowers, or whoever can't
// meet that rule would lower it first.
func TestPolicyChangeNeedsWhatItLowers(t *testing.T) {
	w := newWorld(t, 3)
	prev := w.now.Clone()
	for action := range prev.Thresholds {
		prev.Thresholds[action] = 2
	}
	prev.Thresholds["node.remove"], prev.Thresholds["council.reseat"] = 3, 3
	for _, c := range []struct {
		action string
		to     uint64
		needs  uint64
	}{
		{"node.remove", 2, 3}, {"node.remove", 3, 2}, {"policy.change", 3, 3},
		{"node.admit", 1, 2}, {"node.admit", 3, 2}, {"council.reseat", 1, 2},
	} {
		next := prev.Clone()
		next.Thresholds = maps.Clone(prev.Thresholds)
		next.Thresholds[c.action] = c.to
		if got := prev.Needs("policy.change", next); got != c.needs {
			t.Errorf("%s from %d to %d needs %d, want %d", c.action, prev.Thresholds[c.action], c.to, got, c.needs)
		}
	}
}
