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

	Throughput []*throughputRow `json:"throughput,omitempty"`
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
	return w.String()
}

func (r *throughputRow) text(system string) string {
	return fmt.Sprintf("%.0f (%.1f / %.1f)", r.rate(system),
		r.middle(system, func(c *cell) float64 { return c.P50 }), r.middle(system, func(c *cell) float64 { return c.P99 }))
}
