package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
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

// restingFleet is the rules in memory and a fleet of format 2.
type restingFleet struct {
	state   *fsm.State
	now     uint64
	nonce   uint64
	ids     map[string]keys.ID
	names   []string
	entries int
	bytes   int
}

// growthOf lets one window of attestation pass over a fleet and has whoever is
// drawn attest it.
func growthOf(nodes int) (*growthResults, error) {
	operators := min(growthOperators, nodes/2)
	f, err := newRestingFleet(nodes, operators)
	if err != nil {
		return nil, err
	}
	policy := f.state.Policy()
	protection := policy.Protects()
	window := protection.AttestEpochs
	f.entries, f.bytes = 0, 0
	for range window {
		f.now += policy.EpochMillis
		if err := f.apply(ledger.CommandTick); err != nil {
			return nil, err
		}
		if err := f.apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
	}
	epochEntries, epochBytes := f.entries, f.bytes
	statements, err := f.attestations()
	if err != nil {
		return nil, err
	}
	if len(statements) == 0 {
		return nil, fmt.Errorf("nobody of %d nodes attests", nodes)
	}
	f.entries, f.bytes = 0, 0
	applied := statements[:min(len(statements), appliedAttests)]
	average := 0
	for _, s := range applied {
		before := f.bytes
		if err := f.apply(ledger.CommandStatements, s); err != nil {
			return nil, err
		}
		average += f.bytes - before
		if err := f.apply(ledger.CommandSeal); err != nil {
			return nil, err
		}
	}
	each := float64(len(statements)) / float64(len(applied))
	windows := float64(dayMillis) / float64(policy.EpochMillis*window)
	return &growthResults{
		Nodes: nodes, Operators: operators,
		Attestations: windows * float64(len(statements)),
		Average:      float64(average) / float64(len(applied)),
		Entries:      windows * (float64(epochEntries) + each*float64(f.entries)),
		Megabytes:    windows * (float64(epochBytes) + each*float64(f.bytes)) / 1e6,
	}, nil
}

// attestations makes what every drawn node says: all that it watched was clean.
func (f *restingFleet) attestations() ([][]byte, error) {
	policy := f.state.Policy()
	protection := policy.Protects()
	electorate := f.state.Electorate()
	var drawn []string
	first := uint64(0)
	for _, name := range f.names {
		n, _ := f.state.Node(name)
		from, attests := f.state.AttestWindow(&n)
		if first = from; attests {
			drawn = append(drawn, name)
		}
	}
	var watched [sampledEpochs]map[string][]uint32
	for i := range watched {
		watched[i] = map[string][]uint32{}
		for _, name := range f.names {
			n, _ := f.state.Node(name)
			for _, m := range f.state.Monitors(&n, first+uint64(i), electorate) {
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
		s, err := f.envelope(name, ledger.TypeAttest, body)
		if err != nil {
			return nil, err
		}
		statements = append(statements, s)
	}
	return statements, nil
}

func newRestingFleet(nodes, operators int) (*restingFleet, error) {
	f := &restingFleet{ids: map[string]keys.ID{}, now: 1_700_000_000_000}
	entry, err := f.genesis(operators).Entry()
	if err != nil {
		return nil, err
	}
	if f.state, err = fsm.New(entry); err != nil {
		return nil, err
	}
	for i := range nodes {
		f.names = append(f.names, fmt.Sprintf("node-%04d", i))
	}
	at := 0
	for names := range slices.Chunk(f.names, ledger.MaxJoins) {
		if err := f.admit(names, func(i int) string { return fmt.Sprintf("operator-%02d", (at+i)%operators) }); err != nil {
			return nil, err
		}
		at += len(names)
	}
	return f, f.apply(ledger.CommandSeal)
}

func (f *restingFleet) genesis(operators int) *ledger.Genesis {
	key := func(name string) *keys.PrivateKey {
		k := keys.FromSeed(sha256.Sum256([]byte("growth " + name)))
		f.ids[name] = k.ID()
		return k
	}
	g := &ledger.Genesis{
		Created: f.now, Format: 2, Origin: "localhost/quorate-growth", Policy: ledger.DefaultPolicy(len(council)),
		Log: ledger.LogKeys{Ed25519: make([]byte, 32), MLDSA44: make([]byte, 1312)},
	}
	for i, c := range council {
		g.Council = append(g.Council, ledger.Member{Name: c.name, Operator: c.operator, Public: key(c.name).Public().Bytes()})
		g.Operators = append(g.Operators, ledger.Operator{Name: c.operator})
		name := fmt.Sprintf("r%d", i+1)
		k := key(name)
		g.Replicas = append(g.Replicas, ledger.Replica{
			API: "https://" + name + ".example", Cosigner: k.Cosigner44().Public(), Name: name, Operator: c.operator,
			Peer: name + ".example:7000", Public: k.Public().Bytes(), TLSPin: ledger.Hash(f.ids[name]),
		})
	}
	for i := range operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: fmt.Sprintf("operator-%02d", i), Sponsor: council[0].operator})
	}
	return g
}

func (f *restingFleet) apply(kind ledger.CommandKind, statements ...[]byte) error {
	next, result := fsm.Apply(f.state, &ledger.Command{Kind: kind, Stamp: f.now, Statements: statements}, trusting{})
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return fmt.Errorf("statement %d: %s %s: %s", i, v.Code, v.Path, v.Detail)
		}
	}
	for _, e := range result.Entries {
		f.entries++
		f.bytes += len(e)
	}
	f.state = next
	return nil
}

// envelope makes a statement with a junk signature of the right length.
func (f *restingFleet) envelope(author, typ string, body any) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, err
	}
	p := ledger.Payload{Author: author, Body: raw, Ledger: f.state.Meta().Ledger, Type: typ}
	switch form, _ := ledger.ReplayForm(typ); form {
	case ledger.ReplayNonce:
		f.nonce++
		sum := sha256.Sum256(fmt.Append(nil, "nonce ", f.nonce))
		p.Nonce, p.Expires = sum[:16], f.now+3_600_000
	case ledger.ReplayEpochSeq:
		epoch, seq := f.state.Epoch(), uint64(0)
		p.Epoch, p.Seq = &epoch, &seq
	}
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := keys.Envelope{KeyID: f.ids[author], Type: "quorate/" + typ + ".v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}
	return e.Bytes(), nil
}

// admit admits nodes by one decision.
func (f *restingFleet) admit(names []string, operator func(i int) string) error {
	var bundle [][]byte
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for i, name := range names {
		public := make([]byte, keys.PublicKeySize)
		sum := sha256.Sum256([]byte(name))
		copy(public, sum[:])
		f.ids[name] = sha256.Sum256(public)
		join, err := f.envelope(name, ledger.TypeJoin, ledger.Join{Name: name, Operator: operator(i), Peer: sum[:], Public: public})
		if err != nil {
			return err
		}
		st, err := ledger.ParseStatement(join)
		if err != nil {
			return err
		}
		bundle, args.Joins = append(bundle, join), append(args.Joins, st.ID)
	}
	if err := f.apply(ledger.CommandStatements, bundle...); err != nil {
		return err
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	base, err := f.state.BaseFor("node.admit", raw)
	if err != nil {
		return err
	}
	proposal, err := f.envelope(council[0].name, ledger.TypePropose, ledger.Propose{Action: "node.admit", Args: raw, Base: base})
	if err != nil {
		return err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return err
	}
	approval, err := f.envelope(council[1].name, ledger.TypeApprove, ledger.Ballot{Proposal: st.ID})
	if err != nil {
		return err
	}
	return f.apply(ledger.CommandStatements, proposal, approval)
}
