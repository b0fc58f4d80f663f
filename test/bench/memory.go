package main

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// memoryLedger is the rules and a fleet, without disk, network or signatures: a
// ledger of the newest format under the default policy. Statements carry junk of a
// signature's length, so that their sizes are real.
type memoryLedger struct {
	state   *fsm.State
	now     uint64 // of the next command
	nonce   uint64
	ids     map[string]keys.ID
	names   []string // of the nodes
	said    map[string]saying
	entries int // appended, and their bytes
	bytes   int
}

// saying is the seqs that an author has used in an epoch.
type saying struct{ epoch, next uint64 }

// trusting takes every signature for good.
type trusting struct{}

func (trusting) Verify(*ledger.Statement, []byte) bool { return true }

// memoryReplica is who writes records.
const memoryReplica = "r1"

// newMemoryLedger founds one and admits nodes, the operators taking turns.
func newMemoryLedger(nodes, operators int) (*memoryLedger, error) {
	l := &memoryLedger{ids: map[string]keys.ID{}, said: map[string]saying{}, now: 1_700_000_000_000}
	entry, err := l.genesis(operators).Entry()
	if err != nil {
		return nil, err
	}
	if l.state, err = fsm.New(entry); err != nil {
		return nil, err
	}
	for i := range nodes {
		l.names = append(l.names, fmt.Sprintf("node-%05d", i))
	}
	at := 0
	for names := range slices.Chunk(l.names, ledger.MaxJoins) {
		if err := l.admit(names, func(i int) string { return operatorName((at + i) % operators) }); err != nil {
			return nil, err
		}
		at += len(names)
	}
	return l, l.apply(ledger.CommandSeal)
}

func operatorName(i int) string { return fmt.Sprintf("operator-%02d", i) }

func (l *memoryLedger) genesis(operators int) *ledger.Genesis {
	key := func(name string) *keys.PrivateKey {
		k := keys.FromSeed(sha256.Sum256([]byte("memory " + name)))
		l.ids[name] = k.ID()
		return k
	}
	g := &ledger.Genesis{
		Created: l.now, Format: 2, Origin: "localhost/quorate-memory", Policy: ledger.DefaultPolicy(len(council)),
		Log: ledger.LogKeys{Ed25519: make([]byte, 32), MLDSA44: make([]byte, 1312)},
	}
	for i, c := range council {
		g.Council = append(g.Council, ledger.Member{Name: c.name, Operator: c.operator, Public: key(c.name).Public().Bytes()})
		g.Operators = append(g.Operators, ledger.Operator{Name: c.operator})
		name := fmt.Sprintf("r%d", i+1)
		k := key(name)
		g.Replicas = append(g.Replicas, ledger.Replica{
			API: "https://" + name + ".example", Cosigner: k.Cosigner44().Public(), Name: name, Operator: c.operator,
			Peer: name + ".example:7000", Public: k.Public().Bytes(), TLSPin: ledger.Hash(l.ids[name]),
		})
	}
	for i := range operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: operatorName(i), Sponsor: council[0].operator})
	}
	return g
}

func (l *memoryLedger) apply(kind ledger.CommandKind, statements ...[]byte) error {
	next, result := fsm.Apply(l.state, &ledger.Command{Kind: kind, Stamp: l.now, Statements: statements}, trusting{})
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return fmt.Errorf("statement %d: %s %s: %s", i, v.Code, v.Path, v.Detail)
		}
	}
	if len(result.Entries) == 0 || (kind == ledger.CommandSeal) != (result.Sealed != nil) {
		return fmt.Errorf("command of kind %d appended %d entries", kind, len(result.Entries))
	}
	for _, e := range result.Entries {
		l.entries++
		l.bytes += len(e)
	}
	l.state = next
	return nil
}

// envelope makes a statement with a junk signature of the right length.
func (l *memoryLedger) envelope(author, typ string, body any) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, err
	}
	p := ledger.Payload{Author: author, Body: raw, Ledger: l.state.Meta().Ledger, Type: typ}
	form, _ := ledger.ReplayForm(typ)
	if author == memoryReplica {
		form = ledger.ReplayEpochSeq // what machines say of their own accord is counted
	}
	switch form {
	case ledger.ReplayNonce:
		l.nonce++
		sum := sha256.Sum256(fmt.Append(nil, "nonce ", l.nonce))
		p.Nonce, p.Expires = sum[:16], l.now+3_600_000
	case ledger.ReplayEpochSeq:
		said := l.said[author]
		if epoch := l.state.Epoch(); said.epoch != epoch {
			said = saying{epoch: epoch}
		}
		l.said[author] = saying{said.epoch, said.next + 1}
		p.Epoch, p.Seq = &said.epoch, &said.next
	}
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := keys.Envelope{KeyID: l.ids[author], Type: "quorate/" + typ + ".v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}
	return e.Bytes(), nil
}

// admit admits nodes by one decision.
func (l *memoryLedger) admit(names []string, operator func(i int) string) error {
	var bundle [][]byte
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for i, name := range names {
		public := make([]byte, keys.PublicKeySize)
		sum := sha256.Sum256([]byte(name))
		copy(public, sum[:])
		l.ids[name] = sha256.Sum256(public)
		join, err := l.envelope(name, ledger.TypeJoin, ledger.Join{Name: name, Operator: operator(i), Peer: sum[:], Public: public})
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
	proposal, err := l.envelope(council[0].name, ledger.TypePropose, ledger.Propose{Action: "node.admit", Args: raw, Base: base})
	if err != nil {
		return err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return err
	}
	approval, err := l.envelope(council[1].name, ledger.TypeApprove, ledger.Ballot{Proposal: st.ID})
	if err != nil {
		return err
	}
	return l.apply(ledger.CommandStatements, proposal, approval)
}
