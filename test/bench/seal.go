package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// sealResults is what a seal costs the rules, by how many nodes the state has.
type sealResults struct {
	Nodes  int     `json:"nodes"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Record float64 `json:"record_p50_us"` // one record, for comparison
}

// trusting takes every signature for good: 50,000 joins are not signed here.
type trusting struct{}

func (trusting) Verify(*ledger.Statement, []byte) bool { return true }

// sealCost builds a state with so many nodes in memory and seals it after each
// of some records.
func sealCost(c *cluster, nodes, times int) (*sealResults, error) {
	entry, err := os.ReadFile(filepath.Join(c.dir, "genesis.cbor"))
	if err != nil {
		return nil, err
	}
	state, err := fsm.New(entry)
	if err != nil {
		return nil, err
	}
	l := &memoryLedger{cluster: c, state: state, now: state.Stamp()}
	for from := 0; from < nodes; from += ledger.MaxJoins {
		if err := l.admit(from, min(from+ledger.MaxJoins, nodes)); err != nil {
			return nil, err
		}
	}
	records, err := presign(c.signers[:1], times, 64)
	if err != nil {
		return nil, err
	}
	var seals, applies []time.Duration
	for _, record := range records {
		began := time.Now()
		if err := l.apply(ledger.CommandStatements, record); err != nil {
			return nil, err
		}
		applied := time.Now()
		if err := l.apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
		applies, seals = append(applies, applied.Sub(began)), append(seals, time.Since(applied))
	}
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return &sealResults{Nodes: nodes, P50: micros(quantile(seals, 0.5)), P99: micros(quantile(seals, 0.99)), Record: micros(quantile(applies, 0.5))}, nil
}

// memoryLedger is the rules without disk or network.
type memoryLedger struct {
	*cluster
	state *fsm.State
	now   uint64
	nonce uint64
}

func (l *memoryLedger) apply(kind ledger.CommandKind, statements ...[]byte) error {
	l.now++
	next, result := fsm.Apply(l.state, &ledger.Command{Kind: kind, Stamp: l.now, Statements: statements}, trusting{})
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return fmt.Errorf("statement %d: %s %s: %s", i, v.Code, v.Path, v.Detail)
		}
	}
	if (kind == ledger.CommandSeal) != (result.Sealed != nil) || len(result.Entries) == 0 {
		return fmt.Errorf("command of kind %d appended %d entries", kind, len(result.Entries))
	}
	l.state = next
	return nil
}

// envelope makes a statement with an empty signature.
func (l *memoryLedger) envelope(id keys.ID, p ledger.Payload, body any) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, err
	}
	if form, _ := ledger.ReplayForm(p.Type); form == ledger.ReplayNonce {
		l.nonce++
		sum := sha256.Sum256(fmt.Append(nil, "nonce ", l.nonce))
		p.Nonce, p.Expires = sum[:16], l.now+3_600_000
	}
	p.Body, p.Ledger = raw, l.genesis
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := keys.Envelope{KeyID: id, Type: "quorate/" + p.Type + ".v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}
	return e.Bytes(), nil
}

// admit admits nodes by one decision.
func (l *memoryLedger) admit(from, to int) error {
	var bundle [][]byte
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for i := from; i < to; i++ {
		name := fmt.Sprintf("node-%d", i)
		public := make([]byte, keys.PublicKeySize)
		sum := sha256.Sum256([]byte(name))
		copy(public, sum[:])
		join, err := l.envelope(sha256.Sum256(public), ledger.Payload{Author: name, Type: ledger.TypeJoin},
			ledger.Join{Name: name, Operator: council[0].operator, Peer: sum[:], Public: public})
		if err != nil {
			return err
		}
		st, err := ledger.ParseStatement(join)
		if err != nil {
			return err
		}
		bundle, args.Joins = append(bundle, join), append(args.Joins, st.ID)
	}
	if err := l.apply(ledger.CommandStatements, bundle...); err != nil {
		return err
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	base, err := l.state.BaseFor("node.admit", raw)
	if err != nil {
		return err
	}
	proposal, err := l.envelope(l.cluster.council[0].Key.ID(), ledger.Payload{Author: council[0].name, Type: ledger.TypePropose},
		ledger.Propose{Action: "node.admit", Args: raw, Base: base})
	if err != nil {
		return err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return err
	}
	approval, err := l.envelope(l.cluster.council[1].Key.ID(), ledger.Payload{Author: council[1].name, Type: ledger.TypeApprove}, ledger.Ballot{Proposal: st.ID})
	if err != nil {
		return err
	}
	if err := l.apply(ledger.CommandStatements, proposal, approval); err != nil {
		return err
	}
	return l.apply(ledger.CommandSeal)
}
