package audit

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

// benchWorld is a ledger of many records by a few nodes and replicas: as many
// signatures as an auditor ever has for each entry.
func benchWorld(b *testing.B, records int) history {
	w := newWorld(b)
	w.admit("edge-1", "edge-2", "edge-3", "edge-4")
	var bundle [][]byte
	for i := range records {
		author := []string{"edge-1", "edge-2", "edge-3", "edge-4", "r1", "r2"}[i%6]
		bundle = append(bundle, w.sign(author, ledger.TypeRecord, ledger.Record{Text: fmt.Sprintf("measured %d", i)}))
		if len(bundle) == 64 {
			w.submit(bundle...)
			w.seal()
			bundle = nil
		}
	}
	w.seal()
	return w.history()
}

// BenchmarkVerify compares what an auditor verifies a second, whole, with the
// bare rate of ML-DSA-65 on the same cores: ratio is how much of that is kept.
func BenchmarkVerify(b *testing.B) {
	h := benchWorld(b, 8192)
	dir := filepath.Join(b.TempDir(), "export")
	_, err := Export(b.Context(), h.source(b), dir, ExportOptions{Genesis: h.genesis})
	must(b, err)
	packedPath := dir + PackedSuffix
	_, err = Export(b.Context(), h.source(b), packedPath, ExportOptions{Genesis: h.genesis})
	must(b, err)
	var bare, bareCPU float64 // signatures a second, seconds of CPU a signature
	b.Run("bare-mldsa65", func(b *testing.B) {
		statements := statementsOf(b, h)
		before := cpuSeconds()
		for b.Loop() {
			verifyBare(b, statements)
		}
		bareCPU = (cpuSeconds() - before) / float64(len(statements)*b.N)
		bare = float64(len(statements)) * float64(b.N) / b.Elapsed().Seconds()
		b.ReportMetric(bare, "signatures/s")
		b.ReportMetric(0, "ns/op")
	})
	for name, path := range map[string]string{"directory": dir, "tar.zst": packedPath} {
		b.Run(name, func(b *testing.B) {
			var signatures uint64
			before := cpuSeconds()
			for b.Loop() {
				report, err := Verify(b.Context(), path, Options{Genesis: h.genesis})
				must(b, err)
				signatures = report.Signatures
			}
			cpu := (cpuSeconds() - before) / float64(signatures) / float64(b.N)
			rate := float64(signatures) * float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(float64(len(h.entries))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(rate, "signatures/s")
			if bare > 0 {
				b.ReportMetric(rate/bare, "of-bare")
				b.ReportMetric(bareCPU/cpu, "of-bare-cpu") // the same when other work runs on the machine
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

type signed struct {
	st  *ledger.Statement
	key *keys.PublicKey
}

func statementsOf(b *testing.B, h history) []signed {
	var all []signed
	for seq, raw := range h.entries {
		c := checked{raw: raw}
		must(b, c.parse(uint64(seq)))
		if c.statement != nil {
			all = append(all, signed{c.statement, keyOf(c.statement.Payload.Author).Public()})
		}
	}
	return all
}

// verifyBare does nothing but verify, on every core.
func verifyBare(b *testing.B, statements []signed) {
	var group errgroup.Group
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		group.Go(func() error {
			for i := core; i < len(statements); i += cores {
				if !statements[i].st.Verify(statements[i].key) {
					return fmt.Errorf("statement %d does not verify", i)
				}
			}
			return nil
		})
	}
	must(b, group.Wait())
}

// BenchmarkExport copies and checks a ledger from memory.
func BenchmarkExport(b *testing.B) {
	h := benchWorld(b, 2048)
	m := h.source(b)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		_, err := Export(b.Context(), m, filepath.Join(dir, fmt.Sprint(i)), ExportOptions{Genesis: h.genesis})
		must(b, err)
	}
	b.ReportMetric(float64(len(h.entries))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(len(h.entries)/archive.TileWidth), "bundles")
}
