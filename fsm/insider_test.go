package fsm

import (
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// A node's name is part of a table's name in base, so an empty one names no
// table at all: it must be refused, whoever asks.
func TestEmptyNodeNameIsRefused(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	for action, args := range map[string]any{
		"node.quarantine": nodeReasonArgs{Reason: "x"},
		"node.release":    nodeReasonArgs{Reason: "x"},
		"node.remove":     nodeArgs{},
	} {
		raw, err := canon.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.state.BaseFor(action, raw); err == nil {
			t.Errorf("%s of no name has a base", action)
		}
		envelope := w.sign(saying{author: "alice", typ: ledger.TypePropose, body: ledger.Propose{
			Action: action, Args: raw, Base: map[string]uint64{"node/": 0},
		}})
		r := w.apply(ledger.CommandStatements, envelope)
		if got := r.Verdicts[0].Code; got != UnknownNode {
			t.Errorf("%s of no name: %s, want %s", action, got, UnknownNode)
		}
		if _, v := Simulate(w.state, action, raw, "alice", w.now); v.Code != UnknownNode {
			t.Errorf("simulate %s of no name: %s", action, v.Code)
		}
	}
}
