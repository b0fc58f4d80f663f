package main

import (
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// memoryReplica is who writes records.
const memoryReplica = "r1"

// newMemoryLedger founds a ledger in memory with a fleet, under the council of
// every ledger here, and seals it.
func newMemoryLedger(nodes, operators int, change func(*ledger.Genesis)) (*memorytest.Ledger, error) {
	f := memorytest.Founding{Seed: "memory", Nodes: nodes, Operators: operators, NodeName: "node-%05d", Change: change}
	for _, c := range council {
		f.Council = append(f.Council, memorytest.Seat{Name: c.name, Operator: c.operator})
	}
	l, err := memorytest.Found(f)
	if err != nil {
		return nil, err
	}
	return l, l.Apply(ledger.CommandSeal)
}
