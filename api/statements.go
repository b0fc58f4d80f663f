package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

const mediaCOSE = "application/cose"

type SubmitInput struct {
	Wait        string `query:"wait" enum:"committed,certified" default:"committed" doc:"committed: Raft's majority holds it; certified: a certified checkpoint covers it"`
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/cose"`
}

type voteInput struct {
	SubmitInput
	ID string `path:"id" pattern:"^[0-9a-f]{64}$" doc:"The proposal's statement id, hex"`
}

type submitOutput struct{ Body *client.SubmitAnswer }

type proposalOutput struct{ Body *client.ProposalAnswer }

func (s *Server) statementRoutes(h huma.API) {
	operation := func(id, path, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Tags: []string{"write"},
			Description: "The body is one COSE_Sign1 statement or a CBOR sequence of them (FORMAT.md section 3), which is accepted whole or not at all. An identical resubmission gets the first result.",
			// huma's bound is exclusive.
			MaxBodyBytes: s.limits.BodyBytes + 1, BodyReadTimeout: s.limits.ReadTimeout,
			Errors: []int{400, 403, 404, 409, 413, 415, 422, 429, 503, 504, 507},
		}
	}
	huma.Register(h, operation("submit", routeStatements, "Submit statements of any type"),
		func(ctx context.Context, in *SubmitInput) (*submitOutput, error) {
			answer, _, err := s.submit(ctx, in, nil)
			if err != nil {
				return nil, s.fail(routeStatements, err)
			}
			return &submitOutput{answer}, nil
		})
	huma.Register(h, operation("propose", "/v1/proposals", "Submit a proposal, with the joins that it admits before it and approvals behind it"),
		func(ctx context.Context, in *SubmitInput) (*proposalOutput, error) {
			return s.submitProposal(ctx, in, nil)
		})
	huma.Register(h, operation("vote", "/v1/proposals/{id}/approvals", "Submit approve, reject, withdraw and veto statements on one proposal"),
		func(ctx context.Context, in *voteInput) (*proposalOutput, error) {
			id, err := ledger.ParseHash(in.ID)
			if err != nil {
				return nil, badParameter("path.id", "%v", err)
			}
			return s.submitProposal(ctx, &in.SubmitInput, &id)
		})
}

// submit reads the statements, checks them with check, and gives them to the
// ledger. What can be refused without the state is refused here; signatures
// and rules are the replica's.
func (s *Server) submit(ctx context.Context, in *SubmitInput, check func([]*ledger.Statement) error) (*client.SubmitAnswer, []*ledger.Statement, error) {
	if err := wantMedia(in.ContentType, mediaCOSE); err != nil {
		return nil, nil, err
	}
	return s.submitBody(ctx, bytes.Clone(in.RawBody), client.Wait(in.Wait), check) // huma takes RawBody back
}

// submitBody is submit of a body that nobody changes any more.
func (s *Server) submitBody(ctx context.Context, body []byte, wait client.Wait, check func([]*ledger.Statement) error) (*client.SubmitAnswer, []*ledger.Statement, error) {
	statements, err := parseStatements(body)
	if err != nil {
		return nil, nil, err
	}
	if err := checkForLedger(statements); err != nil {
		return nil, nil, err
	}
	if check != nil {
		if err := check(statements); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.SubmitTimeout)
	defer cancel()
	receipt, err := s.backend.Submit(ctx, statements, wait)
	if err != nil {
		return nil, nil, err
	}
	return &client.SubmitAnswer{
		Level: string(receipt.Level), First: receipt.First, Last: receipt.Last, Stamp: receipt.Stamp,
		Checkpoint: receipt.Checkpoint, Statements: statementResults(receipt.Verdicts, statements),
	}, statements, nil
}

// checkForLedger refuses what is said from node to node and never stands on the
// ledger by itself.
func checkForLedger(statements []*ledger.Statement) error {
	for i, st := range statements {
		if ledger.SeqSpaceOf(st.Payload.Type) != ledger.SpaceProbe {
			continue
		}
		where := "type"
		if len(statements) > 1 {
			where = joinPath(statementAt(i), where)
		}
		return newProblem(http.StatusUnprocessableEntity, codeWrongStatement, where,
			fmt.Sprintf("%s is said from node to node and is not for the ledger; what it proves goes there as an exhibit of evidence", st.Payload.Type))
	}
	return nil
}

// parseStatements reads a CBOR sequence of statements, strictly. It verifies
// no signature.
func parseStatements(body []byte) ([]*ledger.Statement, error) {
	envelopes, err := keys.SplitSequence(body, ledger.MaxBundle)
	if err != nil {
		return nil, sequenceProblem(body, err)
	}
	statements := make([]*ledger.Statement, len(envelopes))
	for i, envelope := range envelopes {
		where := ""
		if len(envelopes) > 1 {
			where = statementAt(i)
		}
		if statements[i], err = ledger.ParseStatement(envelope); err != nil {
			return nil, statementProblem(err, where)
		}
	}
	return statements, nil
}

// sequenceProblem says why a body is no sequence of statements.
func sequenceProblem(body []byte, err error) *Problem {
	var f *keys.FormatError
	if !errors.As(err, &f) {
		return newProblem(http.StatusBadRequest, fsm.NotCOSE.String(), "", err.Error())
	}
	if f.Code == keys.CodeNotCOSE {
		// What follows a whole statement and is none itself is trailing bytes.
		var single *keys.FormatError
		if _, err := keys.ParseEnvelope(body); errors.As(err, &single) {
			f = single
		}
	}
	return statementProblem(&ledger.StatementError{Code: f.Code, Message: f.Message}, "")
}

// wantMedia checks the Content-Type, which huma does not.
func wantMedia(header, want string) error {
	media, _, err := mime.ParseMediaType(header)
	if err != nil || !strings.EqualFold(media, want) {
		return newProblem(http.StatusUnsupportedMediaType, codeUnsupportedMedia, "header.Content-Type",
			fmt.Sprintf("this route takes %s; send Content-Type: %s", want, want))
	}
	return nil
}

// submitProposal submits with a typed answer. With id, the statements must be
// votes on that proposal; without, a proposal with what belongs to it.
func (s *Server) submitProposal(ctx context.Context, in *SubmitInput, id *ledger.Hash) (*proposalOutput, error) {
	var proposal ledger.Hash
	answer, _, err := s.submit(ctx, in, func(statements []*ledger.Statement) (err error) {
		if id != nil {
			proposal = *id
			return checkVotes(statements, proposal)
		}
		proposal, err = checkProposal(statements)
		return err
	})
	if err != nil {
		return nil, s.fail("/v1/proposals", err)
	}
	out := &client.ProposalAnswer{SubmitAnswer: *answer}
	// What was just committed may not be certified here yet, nor applied on a
	// replica that forwarded it; then the answer goes without.
	if v, err := s.view(ctx, client.Stale); err == nil && v.Size > answer.Last {
		if p, ok := v.State.Proposal(proposal); ok {
			presented := presentProposal(v.State, p)
			out.Proposal = &presented
		}
	}
	return &proposalOutput{out}, nil
}

// checkProposal wants joins, one proposal, and votes on it, in this order.
func checkProposal(statements []*ledger.Statement) (ledger.Hash, error) {
	at := 0
	for at < len(statements) && statements[at].Payload.Type == ledger.TypeJoin {
		at++
	}
	if at == len(statements) || statements[at].Payload.Type != ledger.TypePropose {
		return ledger.Hash{}, wrongStatement(at, "want a propose statement here, after the joins that it admits; other statements go to /v1/statements")
	}
	return statements[at].ID, checkVotesFrom(statements, at+1, statements[at].ID)
}

func checkVotes(statements []*ledger.Statement, proposal ledger.Hash) error {
	return checkVotesFrom(statements, 0, proposal)
}

func checkVotesFrom(statements []*ledger.Statement, from int, proposal ledger.Hash) error {
	for i := from; i < len(statements); i++ {
		switch statements[i].Payload.Type {
		case ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto:
		default:
			return wrongStatement(i, fmt.Sprintf("a %s statement is no vote; want approve, reject, withdraw or veto", statements[i].Payload.Type))
		}
		ballot, err := ledger.DecodeBody[ledger.Ballot](statements[i])
		if err != nil {
			return statementProblem(err, statementAt(i))
		}
		if ballot.Proposal != proposal {
			return wrongStatement(i, fmt.Sprintf("it is a vote on proposal %s, not on %s", ballot.Proposal, proposal))
		}
	}
	return nil
}

func wrongStatement(i int, detail string) *Problem {
	return newProblem(http.StatusUnprocessableEntity, codeWrongStatement, statementAt(i), detail)
}
