package api

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The records of the state as the wire has them.

func words(h ledger.Hash) string { return keys.Words([16]byte(h[:16])) }

func keyID(public []byte) ledger.Hash { return sha256.Sum256(public) }

func presentGovernor(g fsm.Governor) client.Governor {
	id := g.KeyID()
	return client.Governor{
		Name: g.Name, Operator: g.Operator, Key: id.String(), Words: words(id),
		Public: g.Public, Recipient: g.Recipient, Since: g.Since,
	}
}

func presentReplica(r fsm.ReplicaRecord) client.Replica {
	id := r.KeyID()
	return client.Replica{
		Name: r.Name, Operator: r.Operator, Standing: r.Standing, Key: id.String(), Words: words(id),
		Public: r.Public, Cosigner: r.Cosigner, Peer: r.Peer, API: r.API, TLSPin: r.TLSPin.String(),
		Format: r.Format, Since: r.Since,
	}
}

func presentNode(state *fsm.State, n fsm.NodeRecord) client.Node {
	out := client.Node{
		Name: n.Name, Operator: n.Operator, Standing: n.Standing, Reason: n.Reason, Key: n.Key.String(),
		Public: n.Public, Peer: n.Peer, Admitted: n.Admitted, ValidFrom: n.ValidFrom, ValidTo: n.ValidTo,
		Since: n.Since, Version: n.Version, Ordinal: n.Ordinal, Revoked: n.Revoked,
	}
	if n.Next != nil {
		out.NextKey = &client.NextKey{ID: n.Next.Key.String(), From: n.Next.From, Seq: n.Next.Seq}
	}
	r, ok := state.Reputation(n.Name)
	if !ok {
		return out
	}
	out.Reputation = &client.Reputation{
		Points: r.Reputation, Strikes: r.Strikes, Heat: r.HeatIn(state.Epoch()), Misses: r.Misses, Down: r.Down,
		Subjective: r.Subjective, Decided: r.Decided, Founder: r.Founder, Stay: r.Stay,
	}
	if p := state.Probation(&n); p != nil {
		out.Standing = client.Probation
		out.Reputation.Young, out.Reputation.Disreputable = p.Young, p.Disreputable
		if p.Young {
			out.Reputation.OldFrom = p.Until
		}
	}
	return out
}

func presentJoin(j fsm.JoinRecord) client.Join {
	id := keyID(j.Join.Public)
	return client.Join{
		ID: j.ID.String(), Name: j.Join.Name, Operator: j.Join.Operator, Key: id.String(), Words: words(id),
		Peer: j.Join.Peer, Public: j.Join.Public, Expires: j.Expires, Seq: j.Seq,
	}
}

func presentVotes(votes []fsm.Vote) []client.Vote {
	out := make([]client.Vote, len(votes))
	for i, v := range votes {
		out[i] = client.Vote{Author: v.Author, Operator: v.Operator, ID: v.ID.String(), Seq: v.Seq}
	}
	return out
}

func presentProposal(s *fsm.State, p *fsm.Proposal) client.Proposal {
	out := client.Proposal{
		ID: p.ID.String(), Words: words(p.ID), Action: p.Action, Args: json.RawMessage(p.Args), Author: p.Author,
		Base: p.Base, Memo: p.Memo, Standing: p.Standing, Reason: p.Reason, Seq: p.Seq,
		Proposed: p.Proposed, Expires: p.Expires, Decided: p.Decided, DueAt: p.DueAt, Closed: p.Closed,
		Approvals: presentVotes(p.Approvals), Rejections: presentVotes(p.Rejections), Vetoes: presentVotes(p.Vetoes),
	}
	if p.Standing == fsm.ProposalOpen || p.Standing == fsm.ProposalDecided {
		out.Rule = presentRule(s.Rule(p))
	}
	return out
}

func presentRule(r fsm.RuleView) *client.Rule {
	out := &client.Rule{
		Threshold: r.Threshold, DelayMillis: r.DelayMillis, Vetoers: orEmpty(r.Vetoers), Signed: orEmpty(r.Signed),
		Rejected: orEmpty(r.Rejected), Missing: orEmpty(r.Missing), Consents: make([]client.Consent, len(r.Consents)),
		Recovery: r.Recovery, Met: r.Met, VetoThreshold: r.VetoThreshold,
	}
	for i, c := range r.Consents {
		out.Consents[i] = client.Consent{Operator: c.Operator, By: c.By, Given: c.Given}
	}
	return out
}

func presentDiff(d fsm.Diff, v fsm.Verdict) client.Diff {
	out := client.Diff{
		Code: v.Code.String(), Path: v.Path, Detail: v.Detail,
		Words: orEmpty(d.Words), Changes: make([]client.Change, len(d.Changes)),
	}
	for i, c := range d.Changes {
		out.Changes[i] = client.Change{Key: c.Key, Before: json.RawMessage(c.Before), After: json.RawMessage(c.After)}
	}
	return out
}

// statementResults names what became of each statement; statements may be nil.
func statementResults(verdicts []fsm.Verdict, statements []*ledger.Statement) []client.StatementResult {
	out := make([]client.StatementResult, len(verdicts))
	for i, v := range verdicts {
		out[i] = client.StatementResult{
			ID: v.ID.String(), Seq: v.Seq, Verdict: v.Code.String(), Duplicate: v.Duplicate, Path: v.Path, Detail: v.Detail,
		}
		if i < len(statements) {
			out[i].ID, out[i].Type = statements[i].ID.String(), statements[i].Payload.Type
		}
	}
	return out
}

// orEmpty keeps null out of the answers.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
