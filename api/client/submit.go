package client

import (
	"bytes"
	"context"
	"errors"
	"net/http"
)

// Wait says what a submission waits for.
type Wait string

// What a submission waits for.
const (
	WaitCommitted Wait = "committed" // Raft's majority has it
	WaitCertified Wait = "certified" // a checkpoint that covers it is certified; the client checks it
)

// StatementResult is what became of one statement of a submission.
type StatementResult struct {
	ID        string `json:"id" doc:"Statement id, hex"`
	Type      string `json:"type,omitempty"`
	Seq       uint64 `json:"seq" doc:"Of its entry, when accepted"`
	Verdict   string `json:"verdict" doc:"ok, or the code of the rule that refused it"`
	Duplicate bool   `json:"duplicate,omitempty" doc:"Accepted before; seq is that of the first time"`
	Path      string `json:"path,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

// SubmitAnswer is the answer of POST /v1/statements.
type SubmitAnswer struct {
	Level      string            `json:"level" enum:"committed,certified"`
	First      uint64            `json:"first" doc:"seq of the first entry that the submission appended"`
	Last       uint64            `json:"last" doc:"seq of the last one"`
	Stamp      uint64            `json:"stamp"`
	Checkpoint uint64            `json:"checkpoint,omitempty" doc:"Size of the certified head that covers it"`
	Statements []StatementResult `json:"statements"`

	// Verified is set by the client: it checked the inclusion of every
	// statement under a certified checkpoint itself.
	Verified bool `json:"-"`
}

// ProposalAnswer is the answer of POST /v1/proposals and of
// /v1/proposals/{id}/approvals: what became of the statements, and how the
// proposal stands after them.
type ProposalAnswer struct {
	SubmitAnswer
	Proposal *Proposal `json:"proposal,omitempty"`
}

// Submit sends statements: one, or a bundle that is accepted whole or not at
// all. It resends the identical bytes to other servers until one answers,
// which is safe: the ledger gives an identical resubmission the first result.
// When every server says that there is no leader, for longer than an election
// takes, it fails with the *Problem that says so.
func (c *Client) Submit(ctx context.Context, envelopes [][]byte, wait Wait) (*SubmitAnswer, error) {
	var answer SubmitAnswer
	if err := c.submit(ctx, "/v1/statements", envelopes, wait, &answer); err != nil {
		return nil, err
	}
	return &answer, c.confirm(ctx, envelopes, wait, &answer)
}

// Propose is Submit for a proposal, which must come first, with its joins and
// approvals behind it.
func (c *Client) Propose(ctx context.Context, envelopes [][]byte, wait Wait) (*ProposalAnswer, error) {
	var answer ProposalAnswer
	if err := c.submit(ctx, "/v1/proposals", envelopes, wait, &answer); err != nil {
		return nil, err
	}
	return &answer, c.confirm(ctx, envelopes, wait, &answer.SubmitAnswer)
}

// Vote is Submit for approve, reject, withdraw and veto statements on the
// proposal with this id.
func (c *Client) Vote(ctx context.Context, proposal string, envelopes [][]byte, wait Wait) (*ProposalAnswer, error) {
	var answer ProposalAnswer
	if err := c.submit(ctx, "/v1/proposals/"+segment(proposal)+"/approvals", envelopes, wait, &answer); err != nil {
		return nil, err
	}
	return &answer, c.confirm(ctx, envelopes, wait, &answer.SubmitAnswer)
}

// submit posts the statements as a CBOR sequence until a server answers.
func (c *Client) submit(ctx context.Context, path string, envelopes [][]byte, wait Wait, out any) error {
	if wait == "" {
		wait = WaitCommitted
	}
	k := call{
		method: http.MethodPost, path: path + "?wait=" + string(wait), contentType: "application/cose",
		body: bytes.Join(envelopes, nil), timeout: submitTimeout,
	}
	search := newSearch(c)
	err := c.failOver(ctx, func(server string) error {
		return search.try(ctx, server, func() error { return c.try(ctx, server, k, out) })
	})
	var vain *noLeaderError
	if errors.As(err, &vain) {
		return vain.last
	}
	return err
}
