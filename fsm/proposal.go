package fsm

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The life of a proposal: proposed, voted on, decided, executed; or rejected,
// withdrawn, vetoed, expired, failed. A proposal that is open or decided is
// live; closed ones stay in the state for the policy's retention.

// propose is the statement propose, which is also its author's approval.
func (t *transition) propose(st *ledger.Statement, a author) *problem {
	body, err := ledger.DecodeBody[ledger.Propose](st)
	if err != nil {
		return fromStatementError(err)
	}
	act, ok := t.actionNamed(body.Action)
	if !ok {
		return refuse(UnknownAction, "body.action", fmt.Sprintf("there is no action %q", body.Action))
	}
	if p := t.mayVote(body.Action, a); p != nil {
		return p
	}
	if t.meta.Frozen != "" && !openWhileFrozen(body.Action) {
		return refuse(Frozen, "body.action", t.meta.Frozen)
	}
	if p := checkMemo(body.Memo); p != nil {
		return p
	}
	if p := t.checkNonce(st, a.nonceSpace(st)); p != nil {
		return p
	}
	if t.count(countOpen(a.name)) >= maxOpenProposals {
		return refuse(TooManyProposals, "", fmt.Sprintf("%s has %d open proposals", a.name, maxOpenProposals))
	}
	if p := t.checkBase(act, body.Action, body.Args, body.Base); p != nil {
		return p
	}
	// What could not be executed now is not worth anyone's vote.
	if p := act.perform(t.fork(), body.Args, proposing); p != nil {
		return p
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useNonce(st, a.nonceSpace(st), seq)
	p := &Proposal{
		Action:    body.Action,
		Approvals: []Vote{{Author: a.name, ID: st.ID, Operator: a.operator, Seq: seq}},
		Args:      body.Args,
		Author:    a.name,
		Base:      body.Base,
		Expires:   t.stamp + t.policy.ProposalLifetimeMillis,
		ID:        st.ID,
		Memo:      body.Memo,
		Proposed:  t.stamp,
		Seq:       seq,
		Standing:  ProposalOpen,
	}
	t.put(proposalOf(p.ID), p)
	t.decide(p)
	return nil
}

func checkMemo(memo string) *problem {
	if len(memo) > ledger.MaxMemoBytes {
		return refuse(BadField, "body.memo", fmt.Sprintf("at most %d bytes", ledger.MaxMemoBytes))
	}
	return nil
}

// mayVote checks that the author's role proposes and votes on an action.
func (v *view) mayVote(action string, a author) *problem {
	role := RoleGovernor
	if action == "council.reseat" {
		role = RoleRecovery
	}
	if a.role != role {
		return refuse(WrongRole, "author", fmt.Sprintf("%s is for a %s, %s is a %s", action, role, a.name, a.role))
	}
	return nil
}

// checkBase checks that base names exactly the tables that the action touches,
// at their versions of now: what was shown is what happens, or nothing.
func (v *view) checkBase(act action, name string, args canon.Raw, base map[string]uint64) *problem {
	tables, p := act.tables(v, args)
	if p != nil {
		return p
	}
	for _, table := range tables {
		now, p := v.version(table)
		if p != nil {
			return p
		}
		version, named := base[table]
		if !named || len(base) != len(tables) {
			return refuse(BadBase, "body.base", fmt.Sprintf("%s needs %v", name, tables))
		}
		if version != now {
			return refuse(StaleBase, "body.base."+table, fmt.Sprintf("it is at version %d, not %d", now, version))
		}
	}
	return nil
}

// version is the seq of the decision that last changed a table.
func (v *view) version(table string) (uint64, *problem) {
	if strings.HasPrefix(table, tableNode) {
		n, ok := lookup[NodeRecord](v, table)
		if !ok {
			return 0, refuse(UnknownNode, "body.args", fmt.Sprintf("there is no %s", table))
		}
		return n.Version, nil
	}
	version, ok := v.meta.Versions[table]
	invariant(ok, "every table of an action has a version")
	return version, nil
}

// BaseFor returns the base that a proposal of this action needs now.
func (s *State) BaseFor(action string, args canon.Raw) (map[string]uint64, error) {
	act, ok := s.actionNamed(action)
	if !ok {
		return nil, fmt.Errorf("there is no action %q", action)
	}
	tables, p := act.tables(&s.view, args)
	if p != nil {
		return nil, p.err()
	}
	base := map[string]uint64{}
	for _, table := range tables {
		if base[table], p = s.version(table); p != nil {
			return nil, p.err()
		}
	}
	return base, nil
}

func (p *problem) err() error {
	return &ledger.StatementError{Code: p.code.String(), Path: p.path, Message: p.detail}
}

// decide marks an open proposal as decided once its rule is met. Execution
// follows when its delay is over, which may be now.
func (t *transition) decide(p *Proposal) {
	c := t.tally(p)
	if p.Standing != ProposalOpen || !c.met() {
		return
	}
	next := *p
	next.Standing = ProposalDecided
	next.Decided = t.stamp
	next.DueAt = t.stamp + c.rule.DelayMillis
	t.put(proposalOf(p.ID), &next)
	t.appendEffect(EffectDecision, &ProposalEffect{Action: p.Action, Proposal: p.ID, DueAt: next.DueAt}, c.causes()...)
}

// execute does what a decided proposal says, or records why not. Everything is
// checked anew, under the council, policy and tables of now.
func (t *transition) execute(p *Proposal) {
	c := t.tally(p)
	act, ok := t.actionNamed(p.Action)
	if p.Action == ledger.TypeRecover {
		act, ok = recovery, true
	}
	invariant(ok, "a proposal has a known action")
	problem := t.executable(p, &c, act)
	if problem == nil {
		problem = act.perform(t, p.Args, executing)
	}
	if problem != nil {
		t.close(p, ProposalFailed, problem.reason())
		t.appendEffect(EffectFailed, &ProposalEffect{Action: p.Action, Proposal: p.ID, Reason: problem.reason()}, p.Seq)
		return
	}
	t.close(p, ProposalExecuted, "")
	seq := t.appendEffect(EffectExecuted, &ProposalEffect{Action: p.Action, Proposal: p.ID}, c.causes()...)
	if handsOver(p.Action) {
		t.noteAuthority(c.causes())
	}
	t.tellMended(seq)
	if changesAlarms(p.Action) {
		t.raiseAlarms(seq)
	}
	if p.Action == "epoch.advance" {
		t.announceEpoch(seq)
	}
}

func (t *transition) executable(p *Proposal, c *tally, act action) *problem {
	switch {
	case !c.author:
		return refuse(AuthorLeft, "author", "the proposal's author left")
	case uint64(len(c.approved)) < c.rule.Threshold:
		return refuse(ThresholdLost, "", "the approvals that count are below the threshold")
	}
	// A table that moved says more than what follows from it.
	if problem := t.checkBase(act, p.Action, p.Args, p.Base); problem != nil {
		return problem
	}
	if operator := c.missingConsent(); operator != "" {
		return refuse(ConsentMissing, "", "an operator that must consent has not")
	}
	return nil
}

// expire closes an open proposal whose time is over.
func (t *transition) expire(p *Proposal) {
	t.close(p, ProposalExpired, "")
	t.appendEffect(EffectExpired, &ProposalEffect{Action: p.Action, Proposal: p.ID}, p.Seq)
}

// close ends a live proposal.
func (t *transition) close(p *Proposal, standing, reason string) {
	invariant(p.live(), "only a live proposal is closed")
	next := *p
	next.Standing = standing
	next.Reason = reason
	next.Closed = t.stamp
	next.Leaves = t.stamp + t.retention(p.Author)
	t.put(proposalOf(p.ID), &next)
}

// retention is how long a proposal that is closed now stays in the state. An
// author can propose and withdraw without end, so that only so many stay long.
func (t *transition) retention(author string) uint64 {
	if t.count(countClosed(author)) >= maxClosedProposals {
		return min(t.policy.ClosedRetentionMillis, crowdedMillis)
	}
	return t.policy.ClosedRetentionMillis
}

func (p *Proposal) live() bool { return p.Standing == ProposalOpen || p.Standing == ProposalDecided }
