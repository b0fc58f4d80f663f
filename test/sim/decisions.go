package sim

import (
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// decisions checks each decision from the entries alone: who signed, under which
// keys, for which operators, and how many the policy asks for. It shares the
// codecs with the rules, and nothing else.
type decisions struct {
	governors  map[ledger.Hash]governor // by key id
	policy     ledger.Policy
	statements map[uint64]*ledger.Statement
	proposals  map[ledger.Hash]ledger.Propose
	members    *members
	count      int
	rotations  int // of replicas, by themselves
}

type governor struct {
	name, operator string
	public         *keys.PublicKey
}

func newDecisions(f *founding) *decisions {
	d := &decisions{governors: map[ledger.Hash]governor{}, policy: f.genesis.Policy,
		statements: map[uint64]*ledger.Statement{}, proposals: map[ledger.Hash]ledger.Propose{}, members: newMembers(f)}
	d.seat(f.genesis.Council)
	return d
}

func (d *decisions) seat(members []ledger.Member) {
	for _, m := range members {
		if public, err := keys.ParsePublicKey(m.Public); err == nil {
			d.governors[ledger.Hash(public.ID())] = governor{m.Name, m.Operator, public}
		}
	}
}

// add takes the entries in order.
func (d *decisions) add(e *ledger.Entry) error {
	switch e.Kind {
	case ledger.KindStatement:
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			return err
		}
		switch st.Payload.Type {
		case ledger.TypePropose:
			body, err := ledger.DecodeBody[ledger.Propose](st)
			if err != nil {
				return err
			}
			d.proposals[st.ID] = body
			d.statements[e.Seq] = st
		case ledger.TypeApprove:
			d.statements[e.Seq] = st
		case ledger.TypeRecover:
			d.proposals[st.ID] = ledger.Propose{Action: ledger.TypeRecover, Args: st.Payload.Body}
			d.statements[e.Seq] = st
		case ledger.TypeReady:
			d.members.ready(st.Payload.Author, e.Seq)
		}
	case ledger.KindEffect:
		effect, err := e.Effect()
		if err != nil {
			return err
		}
		if effect.Type == fsm.EffectRotated {
			d.rotations++
		}
		if effect.Type == "decision" || effect.Type == "executed" {
			return d.decided(e.Seq, effect)
		}
	}
	return nil
}

func (d *decisions) decided(seq uint64, effect *ledger.Effect) error {
	var body fsm.ProposalEffect
	if err := canon.Unmarshal(effect.Body, &body); err != nil {
		return err
	}
	proposal, known := d.proposals[body.Proposal]
	if !known {
		return fmt.Errorf("%s of %s, which nobody proposed", effect.Type, body.Proposal)
	}
	for_ := map[string]bool{}
	for _, seq := range effect.Causes {
		st := d.statements[seq]
		if st == nil {
			return fmt.Errorf("%s of %s names entry %d, which is no vote", effect.Type, body.Proposal, seq)
		}
		if st.Payload.Type == ledger.TypeApprove {
			ballot, err := ledger.DecodeBody[ledger.Ballot](st)
			if err != nil || ballot.Proposal != body.Proposal {
				return fmt.Errorf("%s of %s counts entry %d, which approves another", effect.Type, body.Proposal, seq)
			}
		} else if st.ID != body.Proposal {
			return fmt.Errorf("%s of %s counts entry %d, another proposal", effect.Type, body.Proposal, seq)
		}
		g, seated := d.governors[st.KeyID]
		if !seated || g.name != st.Payload.Author || !st.Verify(g.public) {
			return fmt.Errorf("%s of %s counts entry %d, which %s did not sign", effect.Type, body.Proposal, seq, st.Payload.Author)
		}
		for_[g.operator] = true
	}
	action := proposal.Action
	if action == ledger.TypeRecover {
		action = "council.change" // as many as change the council
	}
	if need := d.policy.Rules[action].Threshold; uint64(len(for_)) < need {
		return fmt.Errorf("%s of %s (%s) stands on %d operators, %d are needed", effect.Type, body.Proposal, proposal.Action, len(for_), need)
	}
	if effect.Type == "executed" {
		d.count++
		return d.execute(seq, proposal)
	}
	return nil
}

// execute follows what changes who decides.
func (d *decisions) execute(seq uint64, p ledger.Propose) error {
	switch p.Action {
	case "replica.add", "replica.rekey":
		var args replicaArgs
		if err := canon.Unmarshal(p.Args, &args); err != nil {
			return err
		}
		d.members.list(args.Replica, seq)
	case ledger.TypeRecover:
		var args ledger.Recover
		if err := canon.Unmarshal(p.Args, &args); err != nil {
			return err
		}
		for _, one := range args.New {
			d.members.list(one, seq)
		}
	case "policy.change":
		var args struct {
			Policy ledger.Policy `json:"policy"`
		}
		if err := canon.Unmarshal(p.Args, &args); err != nil {
			return err
		}
		d.policy = args.Policy
	case "council.change":
		var args struct {
			Add    []ledger.Member `json:"add,omitempty"`
			Remove []string        `json:"remove,omitempty"`
		}
		if err := canon.Unmarshal(p.Args, &args); err != nil {
			return err
		}
		for _, name := range args.Remove {
			for id, g := range d.governors {
				if g.name == name {
					delete(d.governors, id)
				}
			}
		}
		d.seat(args.Add)
	}
	return nil
}
