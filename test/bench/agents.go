package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// agentsResults is what 20 agents cost that have nothing to do, beside as many
// nodes of a bare GossipSub at the same time.
type agentsResults struct {
	Nodes     int         `json:"nodes"`
	Operators int         `json:"operators"`
	Replicas  int         `json:"replicas"`
	Seconds   float64     `json:"seconds"`
	Agent     *restOfNode `json:"agent"`
	Bare      *restOfNode `json:"bare_gossipsub"`
}

// restOfNode is what one node costs, the mean over all; worst is the worst of
// all. Bytes are of TCP's payload, with the replicas' answers.
type restOfNode struct {
	CorePercent      float64 `json:"core_percent"`
	WorstCorePercent float64 `json:"worst_core_percent"`
	RSS              float64 `json:"rss_mb"` // 10^6 bytes
	WorstRSS         float64 `json:"worst_rss_mb"`
	Heap             float64 `json:"heap_mb,omitempty"` // heap and stacks in use by Go
	Goroutines       float64 `json:"goroutines,omitempty"`
	Sent             float64 `json:"sent_bytes_per_second"`
	Received         float64 `json:"received_bytes_per_second"`
}

// agentsAtRest measures `quorate agent` as people run it, under the default
// policy: probes, heads, and the stream of a ledger that nobody writes to.
func (b *bench) agentsAtRest(ctx context.Context) (err error) {
	settle, counted := 15*time.Second, 40*time.Second
	if b.quick {
		settle, counted = 5*time.Second, 10*time.Second
	}
	f, err := b.foundFleet(ctx, "rest", "", 0)
	defer f.stopping(&err)
	if err != nil {
		return err
	}
	places, err := loopback(2 * fleetAgents)
	if err != nil {
		return err
	}
	if err := f.startAgents(ctx, places[:fleetAgents], b.program, "agent"); err != nil {
		return err
	}
	bare, err := startBare(ctx, places[fleetAgents:])
	defer func() { err = errors.Join(err, stopTalkers(bare)) }()
	if err != nil {
		return err
	}
	pause(ctx, settle) // what joining costs is not rest
	before, bareBefore := meters(f.agents), meters(bare)
	pause(ctx, counted)
	after, bareAfter := meters(f.agents), meters(bare)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out := &agentsResults{Nodes: fleetAgents, Operators: fleetOperators, Replicas: fleetReplicas, Seconds: counted.Seconds()}
	if out.Agent, err = restOf(f.agents, before, after); err != nil {
		return err
	}
	if out.Bare, err = restOf(bare, bareBefore, bareAfter); err != nil {
		return err
	}
	for i := range f.agents {
		var text string
		if err := f.ask(ctx, i, "/metrics", &text); err != nil {
			return err
		}
		n := float64(len(f.agents))
		out.Agent.Heap += (metric(text, "go_memstats_heap_inuse_bytes") + metric(text, "go_memstats_stack_inuse_bytes")) / 1e6 / n
		out.Agent.Goroutines += metric(text, "go_goroutines") / n
	}
	b.results.Agents = out
	b.note("%d agents at rest: %.3f %% of a core each (worst %.3f), %.1f MB; bare GossipSub %.3f %%, %.1f MB",
		out.Nodes, out.Agent.CorePercent, out.Agent.WorstCorePercent, out.Agent.RSS, out.Bare.CorePercent, out.Bare.RSS)
	return nil
}

func restOf(list []*talker, before, after []meter) (*restOfNode, error) {
	out := &restOfNode{}
	n := float64(len(list))
	for i, t := range list {
		if err := t.ended(); err != nil {
			return nil, err
		}
		share, sent, received := after[i].since(before[i])
		rss, err := t.residentBytes()
		if err != nil {
			return nil, err
		}
		out.CorePercent += share / n
		out.WorstCorePercent = max(out.WorstCorePercent, share)
		out.RSS += float64(rss) / 1e6 / n
		out.WorstRSS = max(out.WorstRSS, float64(rss)/1e6)
		out.Sent, out.Received = out.Sent+sent/n, out.Received+received/n
	}
	return out, nil
}

// metric reads a metric without labels; 0 if it is not there.
func metric(text, name string) float64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return v
		}
	}
	return 0
}
