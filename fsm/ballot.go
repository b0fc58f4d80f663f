package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// The statements on a proposal: approve, reject, withdraw, veto. They need no
// other protection against replay than that each author says each at most once
// on a proposal.

// ballot reads the statement and finds its live proposal.
func (t *transition) ballot(st *ledger.Statement) (*Proposal, *problem) {
	body, err := ledger.DecodeBody[ledger.Ballot](st)
	if err != nil {
		return nil, fromStatementError(err)
	}
	if p := checkMemo(body.Memo); p != nil {
		return nil, p
	}
	p, ok := t.Proposal(body.Proposal)
	if !ok {
		return nil, refuse(UnknownProposal, "body.proposal", "the state has no such proposal")
	}
	if !p.live() {
		return nil, refuse(ProposalClosed, "body.proposal", fmt.Sprintf("the proposal is %s", p.Standing))
	}
	return p, nil
}

// vote makes the author's vote, unless the author or, while its vote counts,
// another governor of the same operator has voted.
func (t *transition) vote(st *ledger.Statement, a author, p *Proposal) (Vote, *problem) {
	if refusal := t.mayVote(p.Action, a); refusal != nil {
		return Vote{}, refusal
	}
	v := Vote{Author: a.name, ID: st.ID, Operator: a.operator, Seq: t.next}
	for _, votes := range [...][]Vote{p.Approvals, p.Rejections} {
		for _, other := range votes {
			if !t.stillCounts(p.Action, other) {
				continue
			}
			if other.Author == a.name {
				return v, refuse(AlreadyVoted, "author", fmt.Sprintf("%s has voted on this proposal", a.name))
			}
			if voice(p.Action, other) == voice(p.Action, v) {
				return v, refuse(OperatorVoted, "author", fmt.Sprintf("%s has voted for operator %s", other.Author, a.operator))
			}
		}
	}
	return v, nil
}

// with returns the votes and one more. Earlier ones of the same author, which
// no longer count, stay: a copy of one that was forgotten would be a new vote.
func with(votes []Vote, v Vote) []Vote { return append(slices.Clone(votes), v) }

// approve is the statement approve. A decided proposal may be approved until
// it is executed: the council may change meanwhile.
func (t *transition) approve(st *ledger.Statement, a author) *problem {
	p, refusal := t.ballot(st)
	if refusal != nil {
		return refusal
	}
	v, refusal := t.vote(st, a, p)
	if refusal != nil {
		return refusal
	}
	if t.meta.Frozen != "" && !openWhileFrozen(p.Action) {
		return refuse(Frozen, "body.proposal", t.meta.Frozen)
	}

	recovers := p.Action == ledger.TypeRecover
	if recovers && !t.followsRecovery() {
		return refuse(NotAtHead, "body.proposal", "other entries stand between the recovery and this approval")
	}

	t.append(ledger.KindStatement, st.Envelope)
	next := *p
	next.Approvals = with(p.Approvals, v)
	t.put(proposalOf(p.ID), &next)
	if recovers {
		t.voted(&next)
		return nil
	}
	t.decide(&next)
	return nil
}

// reject is the statement reject. It closes the proposal once those who have
// not rejected can't meet its rule any more.
func (t *transition) reject(st *ledger.Statement, a author) *problem {
	p, refusal := t.ballot(st)
	if refusal != nil {
		return refusal
	}
	v, refusal := t.vote(st, a, p)
	if refusal != nil {
		return refusal
	}
	if p.Standing == ProposalDecided {
		return refuse(AlreadyDecided, "body.proposal", "the proposal is decided")
	}

	t.append(ledger.KindStatement, st.Envelope)
	next := *p
	next.Rejections = with(p.Rejections, v)
	t.put(proposalOf(p.ID), &next)
	if c := t.tally(&next); !c.reachable() {
		t.close(&next, ProposalRejected, "")
		t.appendEffect(EffectRejected, &ProposalEffect{Action: p.Action, Proposal: p.ID}, seqs(c.rejected)...)
	}
	return nil
}

// withdraw is the statement withdraw: its author takes a proposal back, at any
// time before it is executed.
func (t *transition) withdraw(st *ledger.Statement, a author) *problem {
	p, refusal := t.ballot(st)
	if refusal != nil {
		return refusal
	}
	if p.Author != a.name || a.role != RoleGovernor && a.role != RoleRecovery {
		return refuse(NotAuthor, "author", fmt.Sprintf("the proposal is %s's", p.Author))
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	next := *p
	next.Withdrawn = &Vote{Author: a.name, ID: st.ID, Operator: a.operator, Seq: seq}
	t.close(&next, ProposalWithdrawn, "")
	t.appendEffect(EffectWithdrawn, &ProposalEffect{Action: p.Action, Proposal: p.ID}, seq)
	return nil
}

// veto is the statement veto. One of the rule's vetoers ends a proposal. A
// council.reseat ends when as many operators veto it as change the council:
// that proves that the council is not lost.
func (t *transition) veto(st *ledger.Statement, a author) *problem {
	p, refusal := t.ballot(st)
	if refusal != nil {
		return refusal
	}
	if a.role != RoleGovernor {
		return refuse(WrongRole, "author", fmt.Sprintf("a veto is for a governor, %s is a %s", a.name, a.role))
	}
	rule, reseat := t.rule(p.Action, p.Args), p.Action == "council.reseat"
	if !reseat && !slices.Contains(rule.Vetoers, a.name) {
		return refuse(NotVetoer, "author", fmt.Sprintf("the rule of %s names %v", p.Action, rule.Vetoers))
	}
	standing := []Vote{}
	for _, other := range p.Vetoes {
		if !t.stillCounts("", other) {
			continue
		}
		if other.Author == a.name {
			return refuse(AlreadyVoted, "author", fmt.Sprintf("%s has vetoed this proposal", a.name))
		}
		if other.Operator == a.operator {
			return refuse(OperatorVoted, "author", fmt.Sprintf("%s has vetoed for operator %s", other.Author, a.operator))
		}
		standing = append(standing, other)
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	v := Vote{Author: a.name, ID: st.ID, Operator: a.operator, Seq: seq}
	standing = append(standing, v)
	next := *p
	next.Vetoes = with(p.Vetoes, v)
	if reseat && uint64(len(standing)) < t.rule("council.change", nil).Threshold {
		t.put(proposalOf(p.ID), &next)
		return nil
	}
	t.close(&next, ProposalVetoed, "")
	t.appendEffect(EffectVetoed, &ProposalEffect{Action: p.Action, Proposal: p.ID}, seqs(standing)...)
	return nil
}
