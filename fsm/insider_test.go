package fsm

import (
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
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

// Whoever is re-seated may vote again, but only by saying so: what was said on
// an earlier seat is never a vote on a later one, however often it is replayed.
func TestVotesOfAnEarlierSeatAreNotReplayed(t *testing.T) {
	g := defaultGenesis()
	rule := g.Policy.Rules["epoch.advance"]
	rule.Threshold = 3
	g.Policy.Rules["epoch.advance"] = rule
	w := newWorld(t, g)
	reseat := func() {
		p := w.propose("bob", "council.change", councilArgs{Add: []ledger.Member{memberOf("alice@alpha")}, Remove: []string{"alice"}})
		w.submit(p, w.ballot("carol", ledger.TypeApprove, p))
	}
	p := w.propose("bob", "epoch.advance", noArgs{})
	first := w.ballot("alice", ledger.TypeApprove, p)
	w.submit(p, first)
	reseat()
	w.submit(w.sign(saying{author: "alice", typ: ledger.TypeApprove, body: ledger.Ballot{Memo: "again", Proposal: idOf(p)}}))
	reseat()
	if r := w.submit(first); !r.Verdicts[0].Duplicate {
		t.Errorf("a vote of two seats ago was taken as a new one: %+v", r.Verdicts[0])
	}
	proposal, _ := w.state.Proposal(idOf(p))
	if signed := w.state.Rule(proposal).Signed; len(signed) != 1 {
		t.Errorf("signed by %v, want bob's operator alone", signed)
	}
	checkState(t, w.state)
}

// A governor who proposes and withdraws without end fills the ledger, as far as
// the API lets it, but not the memory of every replica.
func TestClosedProposalsOfOneAuthorAreBounded(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	closed := func() int { return len(w.state.Proposals(ProposalWithdrawn, ledger.Hash{}, 10_000)) }
	spam := func(n int) {
		for range n {
			base := map[string]uint64{"epoch": w.state.Meta().Versions["epoch"]}
			p := w.sign(saying{
				author: "alice", typ: ledger.TypePropose,
				body:   ledger.Propose{Action: "epoch.advance", Args: canon.Raw("{}"), Base: base},
				change: func(p *ledger.Payload) { p.Expires = w.now + 1 }, // no nonce lives long
			})
			w.submit(p, w.ballot("alice", ledger.TypeWithdraw, p))
			w.now++
		}
	}
	spam(maxClosedProposals + 20)
	if closed() != maxClosedProposals+20 {
		t.Errorf("%d closed proposals", closed())
	}
	w.now += crowdedMillis
	p := w.propose("bob", "epoch.advance", noArgs{})
	w.submit(p, w.ballot("bob", ledger.TypeWithdraw, p))
	if got := closed(); got != maxClosedProposals+1 {
		t.Errorf("%d closed proposals, want %d of alice and one of bob", got, maxClosedProposals)
	}
	w.now += w.state.Policy().ClosedRetentionMillis
	w.apply(ledger.CommandTick)
	spam(1)
	if got := closed(); got != 1 {
		t.Errorf("%d closed proposals after the retention, want the last", got)
	}
	checkState(t, w.state)
}

// The others of a council can't make a node speak for an operator: not by
// admitting one in its name, nor by giving their key to one that it has.
func TestAnOperatorsNodeIsNotRekeyedWithoutIt(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	join := func(key string) []byte {
		return w.sign(saying{author: "edge-1", key: key, typ: ledger.TypeJoin, body: ledger.Join{
			Name: "edge-1", Operator: "gamma", Peer: filler(key, 32), Public: publicOf(key),
		}, change: func(p *ledger.Payload) {
			w.nonces++
			p.Epoch, p.Seq, p.Expires = nil, nil, w.now+3_600_000
			p.Nonce = filler(key, 16)
		}})
	}
	// submitted with the joins, as one bundle
	decide := func(action string, args func(ledger.Hash) any, j []byte, voters ...string) ledger.Hash {
		raw, err := canon.Marshal(args(idOf(j)))
		if err != nil {
			t.Fatal(err)
		}
		base := map[string]uint64{"operators": 0}
		if n, ok := w.state.Node("edge-1"); ok {
			base = map[string]uint64{"node/edge-1": n.Version}
		}
		p := w.sign(saying{author: voters[0], typ: ledger.TypePropose, body: ledger.Propose{Action: action, Args: raw, Base: base}})
		bundle := [][]byte{j, p}
		for _, voter := range voters[1:] {
			bundle = append(bundle, w.ballot(voter, ledger.TypeApprove, p))
		}
		w.submit(bundle...)
		return idOf(p)
	}
	rekey := func(id ledger.Hash) any { return nodeRekeyArgs{Join: id} }
	decide("node.admit", func(id ledger.Hash) any { return admitArgs{Joins: []ledger.Hash{id}} }, join("edge-1"), "alice", "carol")

	stolen := decide("node.rekey", rekey, join("theirs"), "alice", "bob")
	if p, _ := w.state.Proposal(stolen); p.Standing != ProposalOpen || len(w.state.Rule(p).Consents) != 1 {
		t.Errorf("alice and bob gave gamma's node their key: %s", p.Standing)
	}
	own := decide("node.rekey", rekey, join("ours"), "alice", "carol")
	if p, _ := w.state.Proposal(own); p.Standing != ProposalExecuted {
		t.Errorf("carol could not: %s %s", p.Standing, p.Reason)
	}
	checkState(t, w.state)
}

// Whatever args a governor may sign, in any action and with any base, the rules
// answer: they never stop.
func TestOddArgsAreAnswered(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	name63 := "a234567890123456789012345678901234567890123456789012345678901xyz"
	texts := []string{"", "/", "x/y", "alice", "r1", "alpha", name63, "\u0000", "ß"}
	rawArgs := []string{`{}`, `[]`, `1`, `""`, `{"joins":[]}`, `{"add":[],"remove":[]}`, `{"council":[]}`, `{"format":9007199254740991}`, `{"format":0}`}
	add := func(v any) {
		b, err := canon.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		rawArgs = append(rawArgs, string(b))
	}
	add(admitArgs{Joins: []ledger.Hash{{}, {}}})
	add(nodeRekeyArgs{})
	add(policyArgs{})
	add(policyArgs{Policy: ledger.Policy{Rules: map[string]ledger.Rule{"": {}, "node.admit": {Threshold: 1 << 53 / 2}}}})
	add(replicaArgs{})
	add(ledger.LogKeys{})
	for _, text := range texts {
		add(nodeReasonArgs{Name: text, Reason: text})
		add(nodeArgs{Name: text})
		add(freezeArgs{Reason: text})
		add(replicaRemoveArgs{Name: text})
		add(operatorArgs{Name: text, Sponsor: "alpha"})
		add(replicaArgs{Replica: ledger.Replica{Name: text, Operator: text, Peer: text}})
		add(councilArgs{Remove: []string{text}})
		add(councilArgs{Add: []ledger.Member{{Name: text, Operator: text}}})
		add(councilArgs{Add: []ledger.Member{{Name: text, Operator: "alpha", Public: publicOf("alice")}}, Remove: []string{"alice"}})
		add(reseatArgs{Council: []ledger.Member{{Name: text, Operator: "alpha", Public: publicOf("alice")}}})
	}
	bases := []map[string]uint64{{}, {"": 0}, {"node/": 0}, {"council": 0, "operators": 0}, {"operators": 0}, {"nothing": 0}}
	verify := w.verify
	w.verify = acceptAll{}
	defer func() { w.verify = verify }()
	for _, action := range append(ledger.ActionsOf(Format), "", "node/") {
		for _, raw := range rawArgs {
			if base, err := w.state.BaseFor(action, canon.Raw(raw)); err == nil {
				bases[0] = base
			}
			for _, author := range []string{"", "alice", "rita", "r1"} {
				Simulate(w.state, action, canon.Raw(raw), author, w.now)
			}
			for i, base := range bases {
				author := "alice"
				if action == "council.reseat" {
					author = "rita"
				}
				st := ledger.Payload{Author: author, Expires: w.now + 1, Ledger: w.state.Meta().Ledger, Nonce: filler(action+raw, 16), Type: ledger.TypePropose}
				body, err := canon.Marshal(ledger.Propose{Action: action, Args: canon.Raw(raw), Base: base})
				if err != nil {
					t.Fatal(err)
				}
				st.Body = body
				payload, err := canon.Marshal(st)
				if err != nil {
					t.Fatal(err)
				}
				envelope := (&keys.Envelope{KeyID: keyNamed(author).ID(), Type: "quorate/propose.v1", Payload: payload, Signature: make([]byte, keys.SignatureSize)}).Bytes()
				next, _ := Apply(w.state, &ledger.Command{Kind: ledger.CommandStatements, Stamp: w.now, Statements: [][]byte{envelope}}, w.verify)
				if i == 0 && next != w.state {
					checkState(t, next)
				}
			}
		}
	}
}

type acceptAll struct{}

func (acceptAll) Verify(*ledger.Statement, []byte) bool { return true }
