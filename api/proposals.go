package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

type proposalsInput struct {
	PageInput
	Standing string `query:"standing" enum:"open,decided,executed,failed,rejected,withdrawn,vetoed,expired" doc:"Only those; without it all"`
}

type baseInput struct {
	ReadInput
	Action string `query:"action" required:"true" maxLength:"64"`
	Args   string `query:"args" maxLength:"8192" doc:"The action's args as canonical JSON, for actions whose tables depend on them"`
}

type simulateInput struct {
	RawBody     []byte `contentType:"application/json"`
	ContentType string `header:"Content-Type"`
}

func (s *Server) proposalRoutes(h huma.API) {
	registerRead(s, h, "list-proposals", "/v1/proposals", "Proposals, by statement id",
		func(_ context.Context, v *View, in *proposalsInput) (*client.Proposals, error) {
			return s.proposals(v, &in.PageInput, "proposals/"+in.Standing, in.Standing, func(*fsm.Proposal) bool { return true })
		})
	registerRead(s, h, "list-decisions", "/v1/decisions", "Proposals that were decided, by statement id; older ones are effects of type decision in /v1/entries",
		func(_ context.Context, v *View, in *PageInput) (*client.Proposals, error) {
			return s.proposals(v, in, "decisions", "", func(p *fsm.Proposal) bool { return p.Decided != 0 })
		})
	registerRead(s, h, "get-proposal", "/v1/proposals/{id}", "One proposal: the rule that applies, who has signed and who is missing, and the effect that it would have now",
		func(_ context.Context, v *View, in *idInput) (*client.Proposal, error) {
			id, err := ledger.ParseHash(in.ID)
			if err != nil {
				return nil, badParameter("path.id", "%v", err)
			}
			return oneProposal(v, id)
		})
	registerRead(s, h, "get-base", "/v1/base", "The table versions that a proposal of an action must name, and the ledger and generation that a statement must",
		func(_ context.Context, v *View, in *baseInput) (*client.Base, error) { return base(v, in) })
	s.simulateRoute(h)
}

func (s *Server) proposals(v *View, in *PageInput, list, standing string, keep func(*fsm.Proposal) bool) (*client.Proposals, error) {
	after, err := cursorHash(list, in.Cursor)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Proposals{Proposals: []client.Proposal{}}
	var last ledger.Hash
	for {
		step := v.State.Proposals(standing, after, limit+1)
		for _, p := range step {
			if !keep(p) {
				continue
			}
			if len(out.Proposals) == limit {
				out.Next = encodeCursor(list, last.String())
				return out, nil
			}
			out.Proposals = append(out.Proposals, presentProposal(v.State, p))
			last = p.ID
		}
		if len(step) <= limit {
			return out, nil
		}
		after = step[len(step)-1].ID
	}
}

// oneProposal adds the effect that the proposal would have on the view's
// state, with the same pure rules that will execute it.
func oneProposal(v *View, id ledger.Hash) (*client.Proposal, error) {
	p, ok := v.State.Proposal(id)
	if !ok {
		return nil, notFound("there is no proposal %s in the state; closed ones leave it after a while and stay in /v1/entries", id)
	}
	out := presentProposal(v.State, p)
	if p.Standing == fsm.ProposalOpen || p.Standing == fsm.ProposalDecided {
		diff, verdict := fsm.Simulate(v.State, p.Action, p.Args, p.Author, v.State.Stamp())
		presented := presentDiff(diff, verdict)
		out.Diff = &presented
	}
	return &out, nil
}

func base(v *View, in *baseInput) (*client.Base, error) {
	args := canon.Raw(in.Args)
	if len(args) == 0 {
		args = canon.Raw("{}")
	}
	if err := canon.Valid(args); err != nil {
		return nil, canonProblem("query.args", err)
	}
	versions, err := v.State.BaseFor(in.Action, args)
	if err != nil {
		return nil, badParameter("query.action", "%v", err)
	}
	meta := v.State.Meta()
	return &client.Base{Base: versions, Ledger: meta.Ledger.String(), Generation: meta.Generation, Epoch: meta.Epoch}, nil
}

func (s *Server) simulateRoute(h huma.API) {
	op := huma.Operation{
		OperationID: "simulate", Method: http.MethodPost, Path: "/v1/simulate", Tags: []string{"read"},
		Summary:      "The effect of executing an action now; changes nothing",
		MaxBodyBytes: s.limits.SimulateBytes + 1, BodyReadTimeout: s.limits.ReadTimeout,
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemaOf[client.SimulateRequest](h)},
		}},
		SkipValidateBody: true,
		Errors:           []int{400, 413, 415, 422, 429, 503},
	}
	type output struct{ Body *client.Diff }
	huma.Register(h, op, func(ctx context.Context, in *simulateInput) (*output, error) {
		if err := wantMedia(in.ContentType, "application/json"); err != nil {
			return nil, err
		}
		var request client.SimulateRequest
		if err := json.Unmarshal(in.RawBody, &request); err != nil {
			return nil, newProblem(http.StatusBadRequest, codeBadRequest, "", `the body is not {"action": …, "args": {…}}`)
		}
		args := canon.Raw(request.Args)
		if len(args) == 0 {
			args = canon.Raw("{}")
		}
		if err := canon.Valid(args); err != nil {
			return nil, canonProblem("args", err)
		}
		diff, verdict, err := s.backend.Simulate(ctx, request.Action, args, request.Author)
		if err != nil {
			return nil, s.fail("/v1/simulate", err)
		}
		out := presentDiff(diff, verdict)
		return &output{Body: &out}, nil
	})
}

// canonProblem names the field that has no canonical form.
func canonProblem(prefix string, err error) *Problem {
	var c *canon.Error
	if !errors.As(err, &c) {
		return newProblem(http.StatusUnprocessableEntity, canon.CodeNotCanonical, prefix, err.Error())
	}
	path := prefix
	if c.Path != "" {
		path += "." + c.Path
	}
	return newProblem(http.StatusUnprocessableEntity, c.Code, path, c.Message)
}
