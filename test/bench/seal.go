package main

import (
	"context"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
)

// sealResults is what a seal costs the rules, by how many nodes the state has.
type sealResults struct {
	Nodes  int     `json:"nodes"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Record float64 `json:"record_p50_us"` // one record, for comparison
}

const (
	sealedRecords = 500
	sealOperators = 50
)

// seals measures the rules alone, with few nodes and with many.
func (b *bench) seals(context.Context) error {
	fleet := 50_000
	if b.quick {
		fleet = 5_000
	}
	for _, nodes := range []int{100, fleet} {
		cost, err := sealCost(nodes, sealedRecords)
		if err != nil {
			return err
		}
		b.results.Seals = append(b.results.Seals, cost)
		b.note("seal with %d nodes: %.0f us", nodes, cost.P50)
	}
	return nil
}

// sealCost builds a state with so many nodes in memory and seals it after each
// of some records.
func sealCost(nodes, times int) (*sealResults, error) {
	l, err := newMemoryLedger(nodes, sealOperators, nil)
	if err != nil {
		return nil, err
	}
	text := strings.Repeat("a", 64)
	var seals, applies []time.Duration
	for range times {
		record, err := l.Say(memoryReplica, ledger.TypeRecord, ledger.Record{Text: text})
		if err != nil {
			return nil, err
		}
		l.Now++
		began := time.Now()
		if err := l.Apply(ledger.CommandStatements, record); err != nil {
			return nil, err
		}
		applied := time.Now()
		if err := l.Apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
		applies, seals = append(applies, applied.Sub(began)), append(seals, time.Since(applied))
	}
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return &sealResults{Nodes: nodes, P50: micros(quantile(seals, 0.5)), P99: micros(quantile(seals, 0.99)), Record: micros(quantile(applies, 0.5))}, nil
}
