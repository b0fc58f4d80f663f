// Package memorytest founds ledgers that are the rules and a fleet, without disk,
// network or signatures: statements carry junk of a signature's length, so that
// their sizes are real, and the verifier trusts. Measurements and models stand on
// it.
package memorytest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Seat is a governor's.
type Seat struct{ Name, Operator string }

// Member is a node of the fleet.
type Member struct {
	Name, Operator string
	Stable         int // number of its operator
}

// Founding is what a ledger begins with. Of its council two must be enough to
// decide, or three of four; each has a replica.
type Founding struct {
	Seed             string // of keys; part of the origin
	Council          []Seat
	Nodes, Operators int // the operators take turns
	NodeName         string
	NodeKey          func(name string) *keys.PublicKey // of a node that speaks; nil, or it gives nil: junk
	Change           func(*ledger.Genesis)             // of what is usual; nil for nothing
	Note             func(entry []byte)                // sees every entry, from 0 on; nil: nobody
}

// Ledger is the rules, a fleet, and what was counted.
type Ledger struct {
	State   *fsm.State
	Now     uint64 // of the next command, in milliseconds
	IDs     map[string]keys.ID
	Fleet   []Member
	Entries int // appended, and their bytes
	Bytes   int

	founding Founding
	nonce    uint64
	said     map[string]saying
}

// saying is the seqs that an author has used in an epoch.
type saying struct{ epoch, next uint64 }

// Trusting takes every signature for good.
type Trusting struct{}

// Verify implements fsm.Verifier.
func (Trusting) Verify(*ledger.Statement, []byte) bool { return true }

// Possesses implements fsm.Possessor.
func (Trusting) Possesses(public, message, proof []byte) bool { return true }

// Created is when ledgers in memory begin.
const Created = 1_700_000_000_000

// OperatorName names an operator of the fleet, which has no governor.
func OperatorName(i int) string { return fmt.Sprintf("operator-%02d", i) }

// Found founds a ledger of the newest format under the default policy, and admits
// its nodes. Nothing is sealed since.
func Found(f Founding) (*Ledger, error) {
	l := &Ledger{founding: f, IDs: map[string]keys.ID{}, said: map[string]saying{}, Now: Created}
	g := l.genesis()
	if f.Change != nil {
		f.Change(g)
	}
	entry, err := g.Entry()
	if err != nil {
		return nil, err
	}
	if l.State, err = fsm.New(entry); err != nil {
		return nil, err
	}
	if f.Note != nil {
		f.Note(entry)
	}
	for i := range f.Nodes {
		stable := i % f.Operators
		l.Fleet = append(l.Fleet, Member{Name: fmt.Sprintf(f.NodeName, i), Operator: OperatorName(stable), Stable: stable})
	}
	for members := range slices.Chunk(l.Fleet, ledger.MaxJoins) {
		if err := l.admit(members); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *Ledger) genesis() *ledger.Genesis {
	key := func(name string) *keys.PrivateKey {
		k := keys.FromSeed(sha256.Sum256([]byte(l.founding.Seed + " " + name)))
		l.IDs[name] = k.ID()
		return k
	}
	council := l.founding.Council
	g := &ledger.Genesis{
		Created: l.Now, Format: ledger.Format, Origin: "localhost/quorate-" + l.founding.Seed, Policy: ledger.DefaultPolicy(len(council)),
		Log: ledger.LogKeys{Ed25519: make([]byte, 32), MLDSA44: make([]byte, 1312)},
	}
	for i, c := range council {
		g.Council = append(g.Council, ledger.Member{Name: c.Name, Operator: c.Operator, Public: key(c.Name).Public().Bytes()})
		g.Operators = append(g.Operators, ledger.Operator{Name: c.Operator})
		name := fmt.Sprintf("r%d", i+1)
		k := key(name)
		g.Replicas = append(g.Replicas, ledger.Replica{
			API: "https://" + name + ".example", Cosigner: k.Cosigner44().Public(), Name: name, Operator: c.Operator,
			Peer: name + ".example:7000", Public: k.Public().Bytes(), TLSPin: ledger.Hash(l.IDs[name]),
		})
	}
	for i := range l.founding.Operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: OperatorName(i), Sponsor: council[0].Operator})
	}
	return g
}

// Apply applies a command at Now; every statement must be accepted.
func (l *Ledger) Apply(kind ledger.CommandKind, statements ...[]byte) error {
	next, result := fsm.Apply(l.State, &ledger.Command{Kind: kind, Stamp: l.Now, Statements: statements}, Trusting{})
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return fmt.Errorf("statement %d is refused: %s at %s: %s", i, v.Code, v.Path, v.Detail)
		}
	}
	for _, e := range result.Entries {
		l.Entries++
		l.Bytes += len(e)
		if l.founding.Note != nil {
			l.founding.Note(e)
		}
	}
	l.State = next
	return nil
}

// Say makes what an author says next, under its key and with a junk signature. A
// replica's and a node's seqs are counted.
func (l *Ledger) Say(author, typ string, body any) ([]byte, error) {
	form, _ := ledger.ReplayForm(typ)
	if form == ledger.ReplayNone || form == ledger.ReplayNonce {
		return l.Envelope(author, typ, 0, body)
	}
	said := l.said[author]
	if epoch := l.State.Epoch(); said.epoch != epoch {
		said = saying{epoch: epoch}
	}
	l.said[author] = saying{said.epoch, said.next + 1}
	return l.Envelope(author, typ, said.next, body)
}

// Envelope is Say with a seq of the caller's, for types that have one.
func (l *Ledger) Envelope(author, typ string, seq uint64, body any) ([]byte, error) {
	return l.EnvelopeIn(l.State.Epoch(), l.IDs[author], author, typ, seq, body)
}

// EnvelopeIn is Envelope in an epoch and under a key that are not those of now.
func (l *Ledger) EnvelopeIn(epoch uint64, key keys.ID, author, typ string, seq uint64, body any) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, err
	}
	meta := l.State.Meta()
	p := ledger.Payload{Author: author, Body: raw, Generation: meta.Generation, Ledger: meta.Ledger, Type: typ}
	switch form, _ := ledger.ReplayForm(typ); form {
	case ledger.ReplayNone:
	case ledger.ReplayNonce:
		l.nonce++
		sum := sha256.Sum256(fmt.Append(nil, "nonce ", l.nonce))
		p.Nonce, p.Expires = sum[:16], l.Now+3_600_000
	default:
		p.Epoch, p.Seq = &epoch, &seq
	}
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	e := keys.Envelope{KeyID: key, Type: "quorate/" + typ + ".v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}
	return e.Bytes(), nil
}

// Rotation is what a node says to rotate its key. The proof under the new node key is
// junk, that under the new peer key is real: the rules verify it themselves.
func (l *Ledger) Rotation(name string) ledger.Rotate {
	meta := l.State.Meta()
	public, seed := make([]byte, keys.PublicKeySize), sha256.Sum256([]byte("next "+name))
	copy(public, seed[:])
	peer := ed25519.NewKeyFromSeed(seed[:])
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Proof: make([]byte, keys.SignatureSize), Public: public}
	message := ledger.RotationMessage(ledger.Branch(meta.Ledger, meta.Generation), ledger.Hash(l.IDs[name]), name, body)
	body.PeerProof = ed25519.Sign(peer, message)
	return body
}

// admit admits nodes by one decision.
func (l *Ledger) admit(members []Member) error {
	var bundle [][]byte
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for _, m := range members {
		public := make([]byte, keys.PublicKeySize)
		sum := sha256.Sum256([]byte(m.Name))
		copy(public, sum[:])
		if key := l.founding.NodeKey; key != nil && key(m.Name) != nil {
			public = key(m.Name).Bytes()
		}
		l.IDs[m.Name] = sha256.Sum256(public)
		join, err := l.Say(m.Name, ledger.TypeJoin, ledger.Join{Name: m.Name, Operator: m.Operator, Peer: sum[:], Public: public})
		if err != nil {
			return err
		}
		st, err := ledger.ParseStatement(join)
		if err != nil {
			return err
		}
		bundle, args.Joins = append(bundle, join), append(args.Joins, st.ID)
	}
	if err := l.Apply(ledger.CommandStatements, bundle...); err != nil {
		return err
	}
	return l.Decide("node.admit", args)
}

// Decide has as many of the council as the rule wants decide an action.
func (l *Ledger) Decide(action string, args any) error {
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	base, err := l.State.BaseFor(action, raw)
	if err != nil {
		return err
	}
	council := l.founding.Council
	proposal, err := l.Say(council[0].Name, ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
	if err != nil {
		return err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return err
	}
	bundle := [][]byte{proposal}
	rules := l.State.Policy().Rules
	rule, ok := rules[action]
	if !ok {
		rule = rules["node.remove"] // of key.revoke, which policies of before have no rule for
	}
	for _, c := range council[1:rule.Threshold] {
		approval, err := l.Say(c.Name, ledger.TypeApprove, ledger.Ballot{Proposal: st.ID})
		if err != nil {
			return err
		}
		bundle = append(bundle, approval)
	}
	return l.Apply(ledger.CommandStatements, bundle...)
}
