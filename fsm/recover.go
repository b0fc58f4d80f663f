package fsm

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// How a ledger goes on after its replicas lost their quorum (DESIGN.md): the
// statement recover, right after the certified head that it names, is a proposal
// of the pseudo-action "recover", and the approvals that follow it without a gap
// are its votes. Once they are enough it is executed at once: the next
// generation has begun, with the replicas that it names.

// recovery is the action of a recover statement. It is in no policy, so nobody
// proposes it by another statement.
var recovery = define((*transition).openGeneration)

// recover is the statement recover, which is also its author's approval.
func (t *transition) recover(st *ledger.Statement, a author) *problem {
	body, err := ledger.DecodeBody[ledger.Recover](st)
	if err != nil {
		return fromStatementError(err)
	}
	if p := t.mayVote(ledger.TypeRecover, a); p != nil {
		return p
	}
	if err := body.Validate(); err != nil {
		return refuse(BadField, "body", err.Error())
	}
	if t.count(countOpen(a.name)) >= maxOpenProposals {
		return refuse(TooManyProposals, "", fmt.Sprintf("%s has %d open proposals", a.name, maxOpenProposals))
	}
	if body.Generation != t.meta.Generation+1 {
		return refuse(WrongGeneration, "body.generation", fmt.Sprintf("the generation after this one is %d", t.meta.Generation+1))
	}
	if t.next != t.sealed || body.Head.Size != t.next || body.Head.Last != t.prev {
		return refuse(NotAtHead, "body.head", fmt.Sprintf("the ledger has %d entries, the last one's hash is %s", t.next, t.prev))
	}
	// Whoever applies the decision sets no clock: its time is in what was signed.
	if t.stamp != max(t.before, body.At) {
		return refuse(BadField, "body.at", "the entry is stamped otherwise")
	}
	if body.Until != 0 && t.stamp >= body.Until {
		return refuse(Expired, "body.until", fmt.Sprintf("expired at %d, it is %d", body.Until, t.stamp))
	}
	if p := recovery.perform(t.fork(), st.Payload.Body, proposing); p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	p := &Proposal{
		Action:    ledger.TypeRecover,
		Approvals: []Vote{{Author: a.name, ID: st.ID, Operator: a.operator, Seq: seq}},
		Args:      st.Payload.Body,
		Author:    a.name,
		Base:      map[string]uint64{},
		Expires:   t.stamp + t.policy.ProposalLifetimeMillis,
		ID:        st.ID,
		Memo:      body.Memo,
		Proposed:  t.stamp,
		Seq:       seq,
		Standing:  ProposalOpen,
	}
	t.put(proposalOf(p.ID), p)
	t.voted(p)
	return nil
}

// voted goes on after a vote for a recovery: the next one must follow at once,
// and nothing that is due comes between.
func (t *transition) voted(p *Proposal) {
	t.recovering = t.next
	t.decide(p)
	if p, _ = t.Proposal(p.ID); p.Standing == ProposalDecided {
		t.execute(p)
	}
}

// followsRecovery reports whether the next entry stands right after a recovery's
// votes, and that recovery is not decided.
func (t *transition) followsRecovery() bool { return t.recovering != 0 && t.recovering == t.next }

// openGeneration executes a recovery. The replicas that it does not keep are
// removed for good; those that it adds are joining, like any other that is added.
func (t *transition) openGeneration(args ledger.Recover, _ occasion) *problem {
	leaving, names := []*ReplicaRecord{}, map[string]bool{}
	active := false
	for _, one := range t.Replicas() {
		if !slices.Contains(args.Keep, one.Name) {
			leaving, names[one.Name] = append(leaving, &one), true
			continue
		}
		active = active || one.Standing == ReplicaActive
	}
	for i, name := range args.Keep {
		if _, ok := t.Replica(name); !ok {
			return refuse(UnknownReplica, fmt.Sprintf("body.keep[%d]", i), fmt.Sprintf("there is no replica %q", name))
		}
	}
	if !active {
		return refuse(LastReplica, "body.keep", "none of those that stay is active")
	}
	for i, one := range args.New {
		if p := t.checkNew(fmt.Sprintf("body.new[%d]", i), one, args, names); p != nil {
			return p
		}
	}
	for _, one := range leaving {
		t.unseatReplica(one, t.replicaLine(one, nil), KeyRemoved, t.meta.Epoch)
	}
	for _, one := range args.New {
		t.seatReplica(one)
	}
	t.touch("replicas")
	t.changeMeta(func(m *Meta) { m.Generation, m.Recovered = args.Generation, t.next })
	return nil
}

// checkNew checks a replica that a recovery adds against those that stay, and
// against the others that it adds. The names of those that leave are free.
func (t *transition) checkNew(path string, one ledger.Replica, args ledger.Recover, leaving map[string]bool) *problem {
	if p := t.checkNewcomer(path, one.Name, one.Public, leaving); p != nil {
		return p
	}
	if p := t.checkOperator(path+".operator", one.Operator); p != nil {
		return p
	}
	others := []ledger.Replica{}
	for _, name := range args.Keep {
		if record, ok := t.Replica(name); ok {
			others = append(others, record.Replica)
		}
	}
	for _, other := range append(others, args.New...) {
		if other.Name == one.Name {
			continue
		}
		if other.Peer == one.Peer || other.TLSPin == one.TLSPin {
			return refuse(PeerTaken, path, fmt.Sprintf("%s has this peer address or TLS pin", other.Name))
		}
		if sha256.Sum256(other.Public) == sha256.Sum256(one.Public) {
			return refuse(KeyTaken, path+".public", "the key appears twice")
		}
	}
	return nil
}
