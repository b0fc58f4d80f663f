package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// traffic is what honest nodes say, at a steady pace, whatever else goes on.
type traffic struct {
	fleet *fleet
	nodes []*node

	mu      sync.Mutex
	phase   string
	took    map[string][]time.Duration // from submission to committed, by phase
	lost    map[string]int
	ids     map[ledger.Hash]bool
	problem string // of the first that was lost
}

// speak begins the traffic of nodes in the phase "before" and returns once that
// has its share; the wait ends it.
func (f *fleet) speak(ctx context.Context, nodes []*node) (*traffic, func()) {
	t := &traffic{fleet: f, nodes: nodes, phase: "before", took: map[string][]time.Duration{}, lost: map[string]int{}, ids: map[ledger.Hash]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { t.run(ctx, &wait) })
	_ = f.Await(ctx, "honest nodes have spoken", func() bool { return t.count("before") >= trafficBefore })
	return t, func() {
		// A short attack has its share of statements too: those right after it.
		_ = f.Await(ctx, "honest nodes have spoken", func() bool { return t.now() == "before" || t.count("during") >= trafficDuring })
		cancel()
		wait.Wait()
	}
}

// run says something every trafficPace, whether or not what was said before is
// answered: an attack that slows the ledger down does not slow down who speaks.
func (t *traffic) run(ctx context.Context, wait *sync.WaitGroup) {
	clients := make([]*client.Client, len(t.fleet.members))
	for i, m := range t.fleet.members {
		c, err := t.fleet.client("", m, t.fleet.members[(i+1)%len(t.fleet.members)])
		if err != nil {
			panic(err) // our own addresses
		}
		defer c.Close()
		clients[i] = c
	}
	ticker := time.NewTicker(trafficPace)
	defer ticker.Stop()
	room := make(chan struct{}, trafficAtOnce)
	var pending sync.WaitGroup
	defer pending.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case room <- struct{}{}:
		default:
			continue
		}
		pending.Go(func() {
			defer func() { <-room }()
			t.say(clients[i%len(clients)], t.nodes[i%len(t.nodes)], i)
		})
	}
}

// say is not bound to the traffic's context: what was begun is brought to its
// end.
func (t *traffic) say(c *client.Client, n *node, i int) {
	phase := t.now()
	envelope := t.fleet.states(n, ledger.TypeRecord, text(fmt.Sprintf("honest %d", i)))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	_, err := c.Submit(ctx, [][]byte{envelope}, client.WaitCommitted)
	t.mu.Lock()
	defer t.mu.Unlock()
	// A statement that crosses the end of its epoch's grace is not lost by an attack.
	if err != nil {
		t.lost[phase]++
		if t.problem == "" {
			t.problem = err.Error()
		}
		return
	}
	t.took[phase] = append(t.took[phase], time.Since(begin))
	t.ids[statementID(envelope)] = true
}

func (t *traffic) now() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase
}

func (t *traffic) enter(phase string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = phase
}

func (t *traffic) count(phase string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.took[phase])
}

// line is what the stage prints, and demands.
func (t *traffic) line(f *fleet) {
	before, during := t.took["before"], t.took["during"]
	f.Says("honest", "%d statements before: p50 %s p99 %s; %d during and just after: p50 %s p99 %s; lost: %d", len(before), percentile(before, 50), percentile(before, 99),
		len(during), percentile(during, 50), percentile(during, 99), t.lost["before"]+t.lost["during"])
	f.Demand(len(during) > 0, "no honest statement was made during the attack: nothing was measured")
	f.Demand(t.lost["before"]+t.lost["during"] == 0, "honest statements were lost: %s", t.problem)
	f.Demand(percentileOf(during, 99) < trafficBound, "honest statements took longer than %s", trafficBound)
}

func percentile(list []time.Duration, p int) string {
	return percentileOf(list, p).Round(100 * time.Microsecond).String()
}

// percentileOf is the least value that p of a hundred do not exceed.
func percentileOf(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[(len(sorted)*p+99)/100-1]
}
