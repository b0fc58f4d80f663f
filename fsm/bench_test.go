package fsm

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// benchWorld has many nodes, so that the tables have the depth of a fleet.
func benchWorld(b *testing.B, nodes int) *world {
	w := newWorld(b, defaultGenesis())
	w.verify = trusting{}
	for done := 0; done < nodes; {
		batch := [][]byte{}
		ids := []ledger.Hash{}
		for range 100 {
			done++
			name := fmt.Sprintf("edge-%d", done)
			body := ledger.Join{Name: name, Operator: "alpha", Peer: filler(name, 32), Public: publicOf(name)}
			join := w.sign(saying{author: name, typ: ledger.TypeJoin, body: body})
			batch, ids = append(batch, join), append(ids, idOf(join))
		}
		w.submit(batch...)
		p := w.propose("alice", "node.admit", admitArgs{Joins: ids})
		w.submit(p, w.ballot("bob", ledger.TypeApprove, p))
		w.apply(ledger.CommandSeal)
	}
	return w
}

// BenchmarkRecord is one record statement in one command, without its
// signature's verification.
func BenchmarkRecord(b *testing.B) {
	w := benchWorld(b, 1000)
	envelopes := [][]byte{}
	for i := range 4096 {
		epoch, seq := w.state.Epoch(), uint64(i)
		envelopes = append(envelopes, w.sign(saying{
			author: "edge-7", typ: ledger.TypeRecord, body: ledger.Record{Text: "link up"},
			change: func(p *ledger.Payload) { p.Epoch, p.Seq = &epoch, &seq },
		}))
	}
	start := w.state
	b.ReportAllocs()
	b.ResetTimer()
	s := start
	for i := 0; b.Loop(); i++ {
		if i%len(envelopes) == 0 {
			s = start
		}
		next, r := Apply(s, &ledger.Command{Kind: ledger.CommandStatements, Stamp: w.now, Statements: envelopes[i%len(envelopes) : i%len(envelopes)+1]}, trusting{})
		if len(r.Entries) != 1 {
			b.Fatalf("refused: %v", r.Verdicts)
		}
		s = next
	}
}

// BenchmarkDecision is a proposal and its approval in one bundle: two
// statements, a decision, an execution.
func BenchmarkDecision(b *testing.B) {
	w := benchWorld(b, 100)
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	bundle := [][]byte{p, w.ballot("bob", ledger.TypeApprove, p)}
	b.ReportAllocs()
	for b.Loop() {
		_, r := Apply(w.state, &ledger.Command{Kind: ledger.CommandStatements, Stamp: w.now, Statements: bundle}, trusting{})
		if len(r.Entries) != 4 {
			b.Fatalf("refused: %v", r.Verdicts)
		}
	}
}
