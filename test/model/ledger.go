package model

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// book is the ledger itself: the real rules over real statements, whose
// signatures are junk of the right length.
type book struct {
	state *fsm.State
	now   uint64 // milliseconds
	nonce uint64
	ids   map[string]keys.ID
	fleet []member

	fullHead, slimHead int // bytes of a head as replicas give it, and as gossip carries it
}

// member is a node of the fleet.
type member struct {
	name, operator string
	stable         int // number of its operator
}

var council = []struct{ name, operator string }{
	{"alice", "alpha"}, {"bob", "beta"}, {"carol", "delta"}, {"dave", "gamma"},
}

const replicas = 4

// trusting is a verifier: the model spends its time on other things than ML-DSA.
type trusting struct{}

func (trusting) Verify(*ledger.Statement, []byte) bool { return true }

// operatorsOf is how many operators a fleet of so many nodes has, as in the
// bench's table of growth.
func operatorsOf(nodes int) int { return min(50, nodes/2) }

// newBook founds a ledger and lets a window of attestation pass.
func newBook(nodes, operators int) (*book, error) {
	b := &book{ids: map[string]keys.ID{}, now: 1_700_000_000_000}
	genesis := b.genesis(operators)
	entry, err := genesis.Entry()
	if err != nil {
		return nil, err
	}
	if b.state, err = fsm.New(entry); err != nil {
		return nil, err
	}
	for i := range nodes {
		o := i % operators
		b.fleet = append(b.fleet, member{fmt.Sprintf("node-%04d", i), fmt.Sprintf("operator-%02d", o), o})
	}
	for members := range slices.Chunk(b.fleet, ledger.MaxJoins) {
		if err := b.admit(members); err != nil {
			return nil, err
		}
	}
	policy := b.state.Policy()
	for range policy.Protects().AttestEpochs + 1 {
		if _, err := b.apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
		b.now = b.state.Meta().EpochStart + policy.EpochMillis
		if _, err := b.apply(ledger.CommandTick); err != nil {
			return nil, err
		}
	}
	_, err = b.apply(ledger.CommandSeal)
	return b, err
}

func (b *book) genesis(operators int) *ledger.Genesis {
	key := func(name string) *keys.PrivateKey {
		k := keys.FromSeed(sha256.Sum256([]byte("model " + name)))
		b.ids[name] = k.ID()
		return k
	}
	g := &ledger.Genesis{
		Created: b.now, Format: 2, Origin: "localhost/quorate-model", Policy: ledger.DefaultPolicy(len(council)),
		Log: ledger.LogKeys{Ed25519: make([]byte, 32), MLDSA44: make([]byte, 1312)},
	}
	full := &ledger.Checkpoint{Head: ledger.Head{Origin: g.Origin, Size: 1_000_000}}
	slim := &ledger.Checkpoint{Head: full.Head}
	for i, c := range council {
		g.Council = append(g.Council, ledger.Member{Name: c.name, Operator: c.operator, Public: key(c.name).Public().Bytes()})
		g.Operators = append(g.Operators, ledger.Operator{Name: c.operator})
		name := fmt.Sprintf("r%d", i+1)
		k := key(name)
		g.Replicas = append(g.Replicas, ledger.Replica{
			API: "https://" + name + ".example", Cosigner: k.Cosigner44().Public(), Name: name, Operator: c.operator,
			Peer: name + ".example:7000", Public: k.Public().Bytes(), TLSPin: ledger.Hash(b.ids[name]),
		})
		word := ledger.Cosign(ledger.Hash{}, k, k.Cosigner44(), name, full.Head, 1_700_000_000)
		full.Add(word)
		if i < replicas-(replicas-1)/3 {
			slim.Add(word.WithoutMLDSA44())
		}
	}
	b.fullHead, b.slimHead = len(full.Note()), len(slim.Note())
	for i := range operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: fmt.Sprintf("operator-%02d", i), Sponsor: council[0].operator})
	}
	return g
}

// apply applies a command at b.now; every statement must be accepted.
func (b *book) apply(kind ledger.CommandKind, statements ...[]byte) (fsm.Result, error) {
	next, result := fsm.Apply(b.state, &ledger.Command{Kind: kind, Stamp: b.now, Statements: statements}, trusting{})
	b.state = next
	for _, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return result, fmt.Errorf("the rules refuse a statement: %s at %s: %s", v.Code, v.Path, v.Detail)
		}
	}
	return result, nil
}

// envelope makes a statement with a junk signature; seq is for types that have
// one.
func (b *book) envelope(author, typ string, seq uint64, body any) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, err
	}
	p := ledger.Payload{Author: author, Body: raw, Ledger: b.state.Meta().Ledger, Type: typ}
	switch form, _ := ledger.ReplayForm(typ); form {
	case ledger.ReplayNonce:
		b.nonce++
		p.Nonce, p.Expires = binary.BigEndian.AppendUint64(make([]byte, 8, 16), b.nonce), b.now+3_600_000
	case ledger.ReplayNone:
	default:
		epoch := b.state.Epoch()
		p.Epoch, p.Seq = &epoch, &seq
	}
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := keys.Envelope{KeyID: b.ids[author], Type: "quorate/" + typ + ".v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}
	return e.Bytes(), nil
}

// admit admits nodes by one decision. Their keys are junk.
func (b *book) admit(members []member) error {
	var bundle [][]byte
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for _, m := range members {
		public := make([]byte, keys.PublicKeySize)
		sum := sha256.Sum256([]byte(m.name))
		copy(public, sum[:])
		b.ids[m.name] = sha256.Sum256(public)
		join, err := b.envelope(m.name, ledger.TypeJoin, 0, ledger.Join{Name: m.name, Operator: m.operator, Peer: sum[:], Public: public})
		if err != nil {
			return err
		}
		st, err := ledger.ParseStatement(join)
		if err != nil {
			return err
		}
		bundle, args.Joins = append(bundle, join), append(args.Joins, st.ID)
	}
	if _, err := b.apply(ledger.CommandStatements, bundle...); err != nil {
		return err
	}
	return b.decide("node.admit", args)
}

func (b *book) decide(action string, args any) error {
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	base, err := b.state.BaseFor(action, raw)
	if err != nil {
		return err
	}
	var bundle [][]byte
	proposal, err := b.envelope(council[0].name, ledger.TypePropose, 0, ledger.Propose{Action: action, Args: raw, Base: base})
	if err != nil {
		return err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return err
	}
	bundle = append(bundle, proposal)
	for _, c := range council[1:3] {
		approval, err := b.envelope(c.name, ledger.TypeApprove, 0, ledger.Ballot{Proposal: st.ID})
		if err != nil {
			return err
		}
		bundle = append(bundle, approval)
	}
	_, err = b.apply(ledger.CommandStatements, bundle...)
	return err
}

// view is a certified state as package gossip wants it, as gossip/agent makes
// one; all agents that hold this state share it.
type view struct {
	state      *fsm.State
	rules      gossip.Rules
	electorate func() fsm.Electorate
	nodes      func() []gossip.Node
}

func newView(s *fsm.State) *view {
	meta, policy := s.Meta(), s.Policy()
	v := &view{state: s, rules: gossip.Rules{
		Ledger: meta.Ledger, Generation: meta.Generation, Format: meta.Format, Epoch: meta.Epoch, Quota: policy.Quota,
		EpochMillis: policy.EpochMillis, TickMillis: policy.TickMillis, Protection: policy.Protects(),
	}}
	v.electorate = sync.OnceValue(s.Electorate)
	v.nodes = sync.OnceValue(func() []gossip.Node {
		records := s.Nodes("", 1<<20)
		list := make([]gossip.Node, len(records))
		for i := range records {
			list[i] = v.node(&records[i])
		}
		return list
	})
	return v
}

func (v *view) node(n *fsm.NodeRecord) gossip.Node {
	r, _ := v.state.Reputation(n.Name)
	return gossip.Node{Name: n.Name, Operator: n.Operator, Standing: n.Standing, Ordinal: n.Ordinal, Down: r.Down}
}

func (v *view) Rules() gossip.Rules { return v.rules }

func (v *view) Author(key ledger.Hash) (gossip.Author, bool) {
	record, ok := v.state.Key(key)
	if !ok {
		return gossip.Author{}, false
	}
	n, ok := v.state.Node(record.Holder)
	if !ok {
		return gossip.Author{Name: record.Holder, Role: record.Role}, true
	}
	return gossip.Author{
		Name: n.Name, Operator: n.Operator, Role: record.Role, Standing: n.Standing, Public: n.Public, ValidFrom: n.ValidFrom, ValidTo: n.ValidTo,
	}, true
}

func (v *view) Node(name string) (gossip.Node, bool) {
	n, ok := v.state.Node(name)
	if !ok {
		return gossip.Node{}, false
	}
	return v.node(&n), true
}

func (v *view) Nodes() iter.Seq[gossip.Node] { return slices.Values(v.nodes()) }

// LinkDown implements gossip.View: the model declares no links.
func (v *view) LinkDown(string, string) bool { return false }

func (v *view) Seed(epoch uint64) (ledger.Hash, bool) { return v.state.Seed(epoch) }

func (v *view) Electorate() ([]ledger.Stable, bool) {
	e := v.electorate()
	return e.Stables, e.Bootstrap
}

func (v *view) AttestWindow(name string) (first uint64, drawn bool) {
	n, ok := v.state.Node(name)
	if !ok {
		return 0, false
	}
	return v.state.AttestWindow(&n)
}
