package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

func (s *Server) councilRoutes(h huma.API) {
	registerRead(s, h, "get-council", "/v1/council", "The governors",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Council, error) {
			council := v.State.Council()
			out := &client.Council{Governors: make([]client.Governor, 0, len(council))}
			operators := map[string]bool{}
			for _, g := range council {
				out.Governors = append(out.Governors, presentGovernor(g))
				operators[g.Operator] = true
			}
			out.Operators, out.Majority = len(operators), ledger.MajorityOfOperators(len(operators))
			return out, nil
		})
	registerRead(s, h, "get-operators", "/v1/operators", "The operators",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Operators, error) {
			out := &client.Operators{Operators: []client.Operator{}}
			for _, o := range v.State.Operators() {
				out.Operators = append(out.Operators, client.Operator{Name: o.Name, Sponsor: o.Sponsor, Since: o.Since})
			}
			return out, nil
		})
	registerRead(s, h, "get-policy", "/v1/policy", "The policy: a rule for every action, and the ledger's parameters",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Policy, error) {
			return &client.Policy{Policy: v.State.Policy(), Version: v.State.Meta().Versions["policy"]}, nil
		})
	registerRead(s, h, "get-recovery", "/v1/recovery", "The recovery set, which re-seats a lost council",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Recovery, error) {
			out := &client.Recovery{Holders: []client.Holder{}}
			recovery := v.State.Recovery()
			if recovery == nil {
				return out, nil
			}
			out.Threshold = recovery.Threshold
			for _, holder := range recovery.Holders {
				id := holder.KeyID()
				out.Holders = append(out.Holders, client.Holder{Name: holder.Name, Key: id.String(), Words: words(id), Public: holder.Public})
			}
			return out, nil
		})
}
