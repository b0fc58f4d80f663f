package audit

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// benchWorld is a ledger of many records by a few nodes and replicas: as many
// signatures as an auditor ever has for each entry.
func benchWorld(b *testing.B, records, textBytes int) history {
	w := newWorld(b)
	w.admit("edge-1", "edge-2", "edge-3", "edge-4")
	var bundle [][]byte
	for i := range records {
		author := []string{"edge-1", "edge-2", "edge-3", "edge-4", "r1", "r2"}[i%6]
		text := fmt.Sprintf("measured %d", i)
		text += strings.Repeat(".", max(0, textBytes-len(text)))
		bundle = append(bundle, w.sign(author, ledger.TypeRecord, ledger.Record{Text: text}))
		if len(bundle) == 64 {
			w.submit(bundle...)
			w.seal()
			bundle = nil
		}
	}
	w.seal()
	return w.history()
}

// benchDecisions is a ledger of decisions: two statements, two effects and a
// seal each.
func benchDecisions(b *testing.B, decisions int) history {
	w := newWorld(b)
	w.admit("edge-1")
	for i := range decisions {
		action := []string{"node.quarantine", "node.release"}[i%2]
		w.decide(action, map[string]any{"name": "edge-1", "reason": "it lied, or not"}, "alice", "bob")
		w.now += 60_000 // so that nonces lapse
	}
	w.seal()
	return w.history()
}

// BenchmarkVerify compares what an auditor verifies a second, whole, with the
// bare rate of ML-DSA-65 on the same cores. Bare verification, the export as a
// folder and as an archive take turns, and the medians are compared: of-bare is
// signatures a second ÷ bare signatures a second, of-bare-cpu the same by CPU
// time, which holds when other work runs on the machine.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name  string
		world func(b *testing.B) history
	}{
		{"records", func(b *testing.B) history { return benchWorld(b, 16384, 0) }},
		{"records-3KiB", func(b *testing.B) history { return benchWorld(b, 8192, 3072) }},
		{"decisions", func(b *testing.B) history { return benchDecisions(b, 2048) }},
	} {
		b.Run(c.name, func(b *testing.B) { benchVerify(b, c.world(b)) })
	}
}

// turns is what one way of verifying took, turn by turn.
type turns struct{ wall, cpu []float64 } // seconds a signature

func (t *turns) measure(b *testing.B, work func() (signatures uint64)) {
	runtime.GC()
	cpu, started := cpuSeconds(), time.Now()
	n := float64(work())
	t.wall = append(t.wall, time.Since(started).Seconds()/n)
	t.cpu = append(t.cpu, (cpuSeconds()-cpu)/n)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func benchVerify(b *testing.B, h history) {
	m := h.source(b)
	dir := filepath.Join(b.TempDir(), "export")
	packed := dir + PackedSuffix
	for _, path := range []string{dir, packed} {
		_, err := Export(b.Context(), m, path, ExportOptions{Genesis: h.genesis})
		must(b, err)
	}
	signatures, err := ReadBare(b.Context(), dir, h.genesis, len(h.entries))
	must(b, err)
	verify := func(path string) func() uint64 {
		return func() uint64 {
			report, err := Verify(b.Context(), path, Options{Genesis: h.genesis})
			must(b, err)
			return report.Signatures
		}
	}
	var bare, folder, archived turns
	for b.Loop() {
		bare.measure(b, func() uint64 { r, err := signatures.Measure(); must(b, err); return uint64(r.Signatures) })
		folder.measure(b, verify(dir))
		archived.measure(b, verify(packed))
	}
	perSignature := float64(len(h.entries)) / float64(len(signatures.statements))
	b.ReportMetric(1/median(bare.wall), "bare/s")
	for _, x := range []struct {
		name string
		*turns
	}{{"dir", &folder}, {"zst", &archived}} {
		b.ReportMetric(perSignature/median(x.wall), x.name+"-entries/s")
		b.ReportMetric(median(bare.wall)/median(x.wall), x.name+"-of-bare")
		b.ReportMetric(median(bare.cpu)/median(x.cpu), x.name+"-of-bare-cpu")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkExport copies and checks a ledger from memory.
func BenchmarkExport(b *testing.B) {
	h := benchWorld(b, 2048, 0)
	m := h.source(b)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		_, err := Export(b.Context(), m, filepath.Join(dir, fmt.Sprint(i)), ExportOptions{Genesis: h.genesis})
		must(b, err)
	}
	b.ReportMetric(float64(len(h.entries))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(len(h.entries)/archive.TileWidth), "bundles")
}
