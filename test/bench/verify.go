package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
	"github.com/quorate/quorate/ledger/keys"
)

// verifyResults compares what an auditor verifies a second, whole, with the
// bare rate of ML-DSA-65 on the same cores.
type verifyResults struct {
	Entries       uint64  `json:"entries"`
	EntriesPerSec float64 `json:"entries_per_second"`
	BarePerSec    float64 `json:"bare_signatures_per_second"`
	Ratio         float64 `json:"ratio"` // signatures of the export a second to bare ones, median of the rounds
}

// exportVerification exports a ledger with the program, and verifies it by the
// code of `quorate verify`, in turn with bare verification.
func (b *bench) exportVerification(ctx context.Context, t *target, records, rounds int) (*verifyResults, error) {
	statements, err := presign(t.signers, records, b.size)
	if err != nil {
		return nil, err
	}
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := drive(ctx, leader.api, 64, statements, 0, time.Minute); err != nil {
		return nil, err
	}
	size, err := t.size(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.awaitCertified(ctx, size); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "export.tar.zst")
	if err := run(b.program, "export", "--out", path, "--server", "http://"+leader.api, "--genesis", t.genesis.String()); err != nil {
		return nil, err
	}
	out := &verifyResults{}
	var rates, bares, ratios []float64
	for range rounds {
		bare, err := bareRate(t.signers, statements)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		report, err := audit.Verify(ctx, path, audit.Options{Genesis: t.genesis})
		if err != nil {
			return nil, err
		}
		seconds := time.Since(began).Seconds()
		if report.Size < size {
			return nil, fmt.Errorf("the export has %d of %d entries", report.Size, size)
		}
		out.Entries = report.Entries
		rates, bares = append(rates, float64(report.Entries)/seconds), append(bares, bare)
		ratios = append(ratios, float64(report.Signatures)/seconds/bare)
	}
	out.EntriesPerSec, out.BarePerSec, out.Ratio = median(rates), median(bares), median(ratios)
	return out, nil
}

// bareRate verifies parsed statements on all cores and does nothing else.
func bareRate(signers []*signer, statements [][]byte) (float64, error) {
	publics := map[string]*keys.PublicKey{}
	for _, s := range signers {
		publics[s.author] = s.key.Public()
	}
	parsed := make([]*ledger.Statement, len(statements))
	for i, envelope := range statements {
		var err error
		if parsed[i], err = ledger.ParseStatement(envelope); err != nil {
			return 0, err
		}
	}
	var group errgroup.Group
	cores := runtime.GOMAXPROCS(0)
	began := time.Now()
	for core := range cores {
		group.Go(func() error {
			for i := core; i < len(parsed); i += cores {
				if !parsed[i].Verify(publics[parsed[i].Payload.Author]) {
					return fmt.Errorf("statement %d does not verify", i)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(len(parsed)) / time.Since(began).Seconds(), err
}
