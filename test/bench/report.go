package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// results is bench.json.
type results struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Quick   bool      `json:"quick"`
	Size    int       `json:"value_bytes"`

	Throughput []*throughputRow   `json:"throughput,omitempty"`
	Four       []*throughputRow   `json:"four_replicas,omitempty"`
	Rest       []*restResults     `json:"at_rest,omitempty"`
	Elections  []*electionResults `json:"elections,omitempty"`
	Verify     *verifyResults     `json:"export_verification,omitempty"`
	Overload   *overloadResults   `json:"overload,omitempty"`
	Seals      []*sealResults     `json:"seals,omitempty"`
	Sizes      []*sizeResults     `json:"sizes,omitempty"`
	Growth     []*growthResults   `json:"growth_at_rest,omitempty"`
	Rotation   *rotationResults   `json:"rotation,omitempty"`
	Rotating   *rotatingResults   `json:"rotation_on_replicas,omitempty"`

	Agents     *agentsResults     `json:"agents_at_rest,omitempty"`
	Broadcast  *broadcastResults  `json:"broadcast,omitempty"`
	Quarantine *quarantineResults `json:"quarantine,omitempty"`
	Judging    *judgingResults    `json:"agent_judging,omitempty"`
	Lossy      *broadcastResults  `json:"broadcast_lossy,omitempty"`
	// LossySkipped is why Lossy is missing.
	LossySkipped string `json:"broadcast_lossy_skipped,omitempty"`
}

func (r *results) begin(b *bench) {
	r.Began, r.CPUs, r.Go, r.Quick, r.Size = time.Now(), runtime.NumCPU(), runtime.Version(), b.quick, b.size
}

func (r *results) write(path string) error {
	out, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(out, '\n'), 0o644)
}

// table is what people read.
func (r *results) table() string {
	var w strings.Builder
	if len(r.Throughput) > 0 {
		fmt.Fprintf(&w, "\nVerified %d-byte records a second (p50 / p99 ms), three replicas, median of the rounds\n", r.Size)
		fmt.Fprintf(&w, "%8s %26s %26s %26s %9s %9s\n", "clients", systemWAL, systemBolt, systemEtcd, "wal/etcd", "bolt/etcd")
		for _, row := range r.Throughput {
			fmt.Fprintf(&w, "%8d %26s %26s %26s %9.2f %9.2f\n", row.Clients, row.text(systemWAL), row.text(systemBolt), row.text(systemEtcd),
				row.ratio(systemWAL, systemEtcd), row.ratio(systemBolt, systemEtcd))
		}
	}
	if len(r.Four) > 0 {
		fmt.Fprintf(&w, "\nThe same with four replicas\n")
	}
	for _, row := range r.Four {
		fmt.Fprintf(&w, "%8d %26s\n", row.Clients, row.text(systemWAL))
	}
	if len(r.Throughput)+len(r.Four) > 0 {
		fmt.Fprintf(&w, "Elections under load: %d\n", r.elections())
	}
	r.soon(&w)
	r.large(&w)
	r.rotations(&w)
	if r.Rotating != nil {
		r.Rotating.print(&w)
	}
	r.fleets(&w)
	return w.String()
}

// elections counts the terms that began while cells were measured.
func (r *results) elections() uint64 {
	var sum uint64
	for _, rows := range [][]*throughputRow{r.Throughput, r.Four} {
		for _, row := range rows {
			for _, cells := range row.Rounds {
				for _, c := range cells {
					sum += c.Elections
				}
			}
		}
	}
	return sum
}

// soon prints how soon things happen.
func (r *results) soon(w *strings.Builder) {
	for _, rest := range r.Rest {
		fmt.Fprintf(w, "\nAt rest, %d replicas: sent to certified\n", rest.Replicas)
		fmt.Fprintf(w, "  record    p50 %6.0f ms  p99 %6.0f ms  (below 1500)\n", rest.Record.P50, rest.Record.P99)
		fmt.Fprintf(w, "  decision  p50 %6.0f ms  p99 %6.0f ms  (below 300)\n", rest.Decision.P50, rest.Decision.P99)
	}
	for _, e := range r.Elections {
		fmt.Fprintf(w, "\nWrite gap after kill -9 of the leader, %d replicas, %d kills\n  p50 %.0f ms  p99 %.0f ms  (below 1500)\n", e.Replicas, e.Kills, e.Gap.P50, e.Gap.P99)
	}
	if o := r.Overload; o != nil {
		fmt.Fprintf(w, "\nOverload: %d clients for %d places, %.0f s\n", o.Clients, places, o.Seconds)
		fmt.Fprintf(w, "  accepted  %.0f/s  p99 %.0f ms, %.1f times the %.0f ms at %d clients (at most 3)\n", o.Accepted.PerSecond, o.Accepted.P99, o.P99Ratio, o.Baseline.P99, places)
		fmt.Fprintf(w, "  refused   %.0f/s  p99 %.0f ms, worst %.0f ms; %d seqs too old\n", o.RefusedRate, o.Refused.P99, o.Refused.Worst, o.TooOld)
		fmt.Fprintf(w, "  leader    %d MB before, %d MB at most; lost %d\n", o.RSSBefore>>20, o.RSSPeak>>20, o.Lost)
	}
}

// large prints what grows, or does not.
func (r *results) large(w *strings.Builder) {
	if v := r.Verify; v != nil {
		fmt.Fprintf(w, "\nExport verification: %.0f entries/s; bare ML-DSA-65 on %d cores %.0f/s; ratio %.2f (at least 0.8)\n", v.EntriesPerSec, r.CPUs, v.BarePerSec, v.Ratio)
	}
	if len(r.Sizes) > 0 {
		fmt.Fprintf(w, "\nA short ledger and a long one of the same state, one replica\n%10s %12s %10s %10s %10s %22s\n", "entries", "snapshot KB", "start ms", "RSS MB", "heap MB", "inclusion p50/p99 ms")
		for _, s := range r.Sizes {
			fmt.Fprintf(w, "%10d %12.1f %10.0f %10.1f %10.1f %22s\n", s.Entries, float64(s.SnapshotBytes)/1024, s.StartMillis, float64(s.RSSBytes)/(1<<20),
				float64(s.HeapBytes)/(1<<20), fmt.Sprintf("%.2f / %.2f", s.Inclusion.P50, s.Inclusion.P99))
		}
		first, last := r.Sizes[0], r.Sizes[len(r.Sizes)-1]
		fmt.Fprintf(w, "%10s %12.2f %10.2f %10.2f %10.2f (at most 1.5)\n", "ratio", float64(last.SnapshotBytes)/float64(first.SnapshotBytes), last.StartMillis/first.StartMillis,
			float64(last.RSSBytes)/float64(first.RSSBytes), float64(last.HeapBytes)/float64(first.HeapBytes))
	}
	if len(r.Seals) > 0 {
		w.WriteString("\n")
	}
	for _, s := range r.Seals {
		fmt.Fprintf(w, "Seal with %d nodes, by the rules: p50 %.1f us  p99 %.1f us (a record %.1f us)\n", s.Nodes, s.P50, s.P99, s.Record)
	}
	if len(r.Growth) > 0 {
		fmt.Fprintf(w, "\nGrowth of the ledger at rest, default policy (below 100 MB a day at 5,000 nodes)\n%8s %10s %18s %14s %14s %10s\n", "nodes", "operators", "attestations/day", "bytes each", "entries/day", "MB/day")
	}
	for _, g := range r.Growth {
		fmt.Fprintf(w, "%8d %10d %18.0f %14.0f %14.0f %10.1f\n", g.Nodes, g.Operators, g.Attestations, g.Average, g.Entries, g.Megabytes)
	}
}

// rotations prints what an epoch costs in which everybody rotates.
func (r *results) rotations(w *strings.Builder) {
	o := r.Rotation
	if o == nil {
		return
	}
	fmt.Fprintf(w, "\nAn epoch in which all of %d nodes rotate, by the rules\n", o.Nodes)
	fmt.Fprintf(w, "  entries %d, %.1f MB: %.0f bytes a rotation, and %.0f more if its backup is recorded\n", o.Entries, float64(o.Bytes)/1e6, o.RotationBytes, o.BackupBytes)
	fmt.Fprintf(w, "  one core: %.2f s applying, %.2f s verifying, %.2f s for its seals, one a second\n", o.Apply, o.Verify, o.Seals)
	fmt.Fprintf(w, "  the epoch in which they take effect begins in %.0f ms, one without in %.0f ms\n", o.Begin*1000, o.BeginIdle*1000)
	for _, s := range o.Spread {
		fmt.Fprintf(w, "  in an epoch of %.0f s the fullest second has %.2f %% of them (at most 2 %%)\n", s.EpochSeconds, s.Fullest)
	}
	for _, g := range o.Growth {
		fmt.Fprintf(w, "  keys of %d epochs: %.0f rotations and %.1f MB a day, with backups\n", g.KeyEpochs, g.Rotations, g.Megabytes)
	}
}

// fleets prints what agents cost and how soon they act, beside a bare GossipSub.
func (r *results) fleets(w *strings.Builder) {
	line := func(what, bound, agents, bare string) {
		fmt.Fprintf(w, "  %-34s %22s %22s  %s\n", what, agents, bare, bound)
	}
	head := func(format string, values ...any) {
		fmt.Fprintf(w, "\n"+format+"\n", values...)
		line("", "", "agents", "bare GossipSub")
	}
	pair := func(s *spread) string { return fmt.Sprintf("%.1f / %.1f ms", s.P50, s.P99) }
	if a := r.Agents; a != nil {
		head("At rest, %d agents of %d operators as processes, %d replicas, default policy, %.0f s", a.Nodes, a.Operators, a.Replicas, a.Seconds)
		each := func(what, bound, format string, of func(*restOfNode) float64) {
			line(what, bound, fmt.Sprintf(format, of(a.Agent)), fmt.Sprintf(format, of(a.Bare)))
		}
		each("share of a core, each", "(below 0.2 %)", "%.3f %%", func(n *restOfNode) float64 { return n.CorePercent })
		each("  of the worst", "", "%.3f %%", func(n *restOfNode) float64 { return n.WorstCorePercent })
		each("memory (RSS), each", "(below 64 MB)", "%.1f MB", func(n *restOfNode) float64 { return n.RSS })
		each("  of the worst", "", "%.1f MB", func(n *restOfNode) float64 { return n.WorstRSS })
		line("heap and stacks in use, each", "", fmt.Sprintf("%.1f MB", a.Agent.Heap), "not asked")
		each("sent, each", "", "%.0f bytes/s", func(n *restOfNode) float64 { return n.Sent })
		each("received, each", "", "%.0f bytes/s", func(n *restOfNode) float64 { return n.Received })
	}
	for _, b := range []*broadcastResults{r.Broadcast, r.Lossy} {
		if b == nil {
			continue
		}
		bound := "(p50 below 30 ms)"
		if b != r.Broadcast {
			bound = ""
		}
		how := ""
		if b.How != "" {
			how = "\n(" + b.How + ")"
		}
		head("Broadcast of %d messages of %d bytes to %d nodes, %s: p50 / p99%s", b.Messages, b.Bytes, b.Nodes-1, b.Line, how)
		line("to each node", bound, pair(b.Agents.Each), pair(b.Bare.Each))
		line("to the last node", "", pair(b.Agents.Last), pair(b.Bare.Last))
		line("did not reach everybody", "(0)", fmt.Sprint(b.Agents.Lost), fmt.Sprint(b.Bare.Lost))
		if b.Agents.CPU > 0 {
			line("processor time of a node for one", "", fmt.Sprintf("%.0f us", b.Agents.CPU), fmt.Sprintf("%.0f us", b.Bare.CPU))
		}
	}
	if r.LossySkipped != "" {
		fmt.Fprintf(w, "\nBroadcast over lossy lines: SKIPPED: %s\n", r.LossySkipped)
	}
	if q := r.Quarantine; q != nil {
		head("Proof of an offence at one agent, until all %d drop the offender, %d times: p50 / p99\n(bare: as many bytes to all others; it drops nobody)", q.Nodes, q.Offenders)
		line("each agent", "(p99 below 1000 ms)", pair(q.Each), pair(q.Bare.Each))
		line("the last agent", "", pair(q.Last), pair(q.Bare.Last))
		line("accepted after, of frames shown", "(0)", fmt.Sprintf("%d of %d", q.Accepted, q.Judged), "")
	}
	if j := r.Judging; j != nil {
		fmt.Fprintf(w, "\nStatements verified in an agent: %.0f/s on %d cores, %.0f us each; bare ML-DSA-65 %.0f/s; ratio %.2f\n", j.PerSecond, r.CPUs, j.CPU, j.Bare, j.Ratio)
	}
}

func (r *throughputRow) text(system string) string {
	return fmt.Sprintf("%.0f (%.1f / %.1f)", r.rate(system),
		r.middle(system, func(c *cell) float64 { return c.P50 }), r.middle(system, func(c *cell) float64 { return c.P99 }))
}
