package agent

import (
	"slices"
	"testing"
	"time"
)

// An agent uses all processors at first, one when little came for a while, and all
// again as soon as much comes.
func TestOneProcessorAtRest(t *testing.T) {
	var were []bool
	c := newCores(func(all bool) { were = append(were, all) })
	now := c.last
	c.rest(now.Add(busyFor))
	if were != nil {
		t.Fatal("it rests at once")
	}
	now = now.Add(busyFor + time.Millisecond)
	c.rest(now)
	for range 100 { // as many a span as are not many
		now = now.Add(busySpan + time.Millisecond)
		for range busyAt - 1 {
			c.worked(now)
		}
		c.rest(now)
	}
	if !slices.Equal(were, []bool{false}) {
		t.Fatalf("with little to do: %v", were)
	}
	now = now.Add(busySpan + time.Millisecond)
	for range 3 * busyAt {
		c.worked(now)
	}
	c.rest(now.Add(busyFor))
	if !slices.Equal(were, []bool{false, true}) {
		t.Fatalf("with much to do: %v", were)
	}
	c.rest(now.Add(busyFor + time.Millisecond))
	if !slices.Equal(were, []bool{false, true, false}) {
		t.Fatalf("after it: %v", were)
	}
}
