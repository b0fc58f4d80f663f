package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// growthResults is what a fleet at rest adds to the ledger in a day, under the
// default policy: epochs, attestations, and a seal after each of them.
type growthResults struct {
	Nodes        int     `json:"nodes"`
	Operators    int     `json:"operators"`
	Attestations float64 `json:"attestations_a_day"`
	Average      float64 `json:"attestation_bytes"` // of an entry
	Entries      float64 `json:"entries_a_day"`
	Megabytes    float64 `json:"mb_a_day"` // of entries, 10^6 bytes
}

const (
	sampledEpochs   = 2   // whose draws are made; each stands for as many of the window
	appliedAttests  = 100 // at most; the others weigh as much on average
	dayMillis       = 24 * 3_600_000
	growthOperators = 50
)

// growth measures fleets of three sizes.
func (b *bench) growth(context.Context) error {
	for _, nodes := range []int{50, 500, 5_000} {
		g, err := growthOf(nodes)
		if err != nil {
			return err
		}
		b.results.Growth = append(b.results.Growth, g)
		b.note("%d nodes at rest: %.1f MB a day", nodes, g.Megabytes)
	}
	return nil
}

// growthOf lets one window of attestation pass over a fleet and has whoever is
// drawn attest it.
func growthOf(nodes int) (*growthResults, error) {
	operators := min(growthOperators, nodes/2)
	l, err := newMemoryLedger(nodes, operators, nil)
	if err != nil {
		return nil, err
	}
	policy := l.State.Policy()
	protection := policy.Protects()
	window := protection.AttestEpochs
	l.Entries, l.Bytes = 0, 0
	for range window {
		l.Now += policy.EpochMillis
		if err := l.Apply(ledger.CommandTick); err != nil {
			return nil, err
		}
		if err := l.Apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
	}
	epochEntries, epochBytes := l.Entries, l.Bytes
	statements, err := attestations(l)
	if err != nil {
		return nil, err
	}
	if len(statements) == 0 {
		return nil, fmt.Errorf("nobody of %d nodes attests", nodes)
	}
	l.Entries, l.Bytes = 0, 0
	applied := statements[:min(len(statements), appliedAttests)]
	average := 0
	for _, s := range applied {
		before := l.Bytes
		if err := l.Apply(ledger.CommandStatements, s); err != nil {
			return nil, err
		}
		average += l.Bytes - before
		if err := l.Apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
	}
	each := float64(len(statements)) / float64(len(applied))
	windows := float64(dayMillis) / float64(policy.EpochMillis*window)
	return &growthResults{
		Nodes: nodes, Operators: operators,
		Attestations: windows * float64(len(statements)),
		Average:      float64(average) / float64(len(applied)),
		Entries:      windows * (float64(epochEntries) + each*float64(l.Entries)),
		Megabytes:    windows * (float64(epochBytes) + each*float64(l.Bytes)) / 1e6,
	}, nil
}

// attestations makes what every drawn node says: all that it watched was clean.
func attestations(l *memorytest.Ledger) ([][]byte, error) {
	policy := l.State.Policy()
	protection := policy.Protects()
	electorate := l.State.Electorate()
	var drawn []string
	first := uint64(0)
	for _, m := range l.Fleet {
		name := m.Name
		n, _ := l.State.Node(name)
		from, attests := l.State.AttestWindow(&n)
		if first = from; attests {
			drawn = append(drawn, name)
		}
	}
	var watched [sampledEpochs]map[string][]uint32
	for i := range watched {
		watched[i] = map[string][]uint32{}
		for _, m := range l.Fleet {
			name := m.Name
			n, _ := l.State.Node(name)
			for _, m := range l.State.Monitors(&n, first+uint64(i), electorate) {
				watched[i][m.Node] = append(watched[i][m.Node], uint32(n.Ordinal))
			}
		}
	}
	statements := make([][]byte, 0, len(drawn))
	for _, name := range drawn {
		body, room := ledger.Attest{}, ledger.MaxAttested
		for i := range protection.AttestEpochs {
			clean := watched[i%sampledEpochs][name]
			slices.Sort(clean)
			clean = clean[:min(len(clean), room)]
			room -= len(clean)
			body.Epochs = append(body.Epochs, ledger.AttestedEpoch{Clean: ledger.EncodeOrdinals(clean), Epoch: first + i})
		}
		s, err := l.Say(name, ledger.TypeAttest, body)
		if err != nil {
			return nil, err
		}
		statements = append(statements, s)
	}
	return statements, nil
}
