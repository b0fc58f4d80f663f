package gossip

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func TestUniteKeepsTheWorse(t *testing.T) {
	standings := []string{Active, Quarantined, Excluded}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom(standings))
		x, y := some.Draw(t, "ours"), some.Draw(t, "theirs")
		u := Unite(x, y)
		if !maps.Equal(u, Unite(y, x)) || !maps.Equal(u, Unite(u, x)) {
			t.Fatalf("of %v and %v: %v", x, y, u)
		}
		for name, s := range u {
			if s != x[name] && s != y[name] || severity(s) < severity(x[name]) || severity(s) < severity(y[name]) {
				t.Fatalf("%s is %s, was %q and %q", name, s, x[name], y[name])
			}
		}
	})
}
