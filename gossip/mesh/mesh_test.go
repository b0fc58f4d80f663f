package mesh

import (
	"slices"
	"testing"
	"time"
)

// Twenty nodes that know three addresses find each other; what one publishes all
// accept.
func TestBroadcastReachesAll(t *testing.T) {
	f := newFleet(t, 20, 5)
	began := time.Now()
	f.run(t)
	t.Logf("20 nodes, each connected with all: %v", time.Since(began).Round(time.Millisecond))
	var latencies []time.Duration
	const rounds = 20
	for n := range rounds {
		author := f.stations[n%len(f.stations)]
		envelope := author.statement(n)
		sent := time.Now()
		publish(t, author, Statements, envelope)
		for _, s := range f.stations {
			if s == author {
				continue
			}
			var at time.Time
			eventually(t, 10*time.Second, s.name+" accepts it", func() (ok bool) { at, ok = s.court.has(envelope); return ok })
			latencies = append(latencies, at.Sub(sent))
		}
	}
	slices.Sort(latencies)
	at := func(percent int) time.Duration {
		return latencies[(len(latencies)-1)*percent/100].Round(10 * time.Microsecond)
	}
	t.Logf("%d deliveries: p50 %v, p90 %v, p99 %v, last %v", len(latencies), at(50), at(90), at(99), at(100))
}
