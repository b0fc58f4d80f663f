package api

import (
	"context"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
)

func (s *Server) fleetRoutes(h huma.API) {
	registerRead(s, h, "get-fleet", "/v1/fleet", "How the nodes stand as a whole: by standing, the breaker, a partition",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Fleet, error) { return fleet(v.State), nil })
	registerRead(s, h, "list-links", "/v1/links", "The links that their ends have spoken of, by the names of the ends",
		func(_ context.Context, v *View, in *PageInput) (*client.Links, error) { return s.links(v, in) })
}

// fleetStep is how many nodes are looked at at once.
const fleetStep = 1_024

// fleet counts all nodes, which is why it costs more than a look.
func fleet(state *fsm.State) *client.Fleet {
	out := &client.Fleet{Epoch: state.Epoch()}
	for after := ""; ; {
		step := state.Nodes(after, fleetStep)
		for i := range step {
			out.Nodes++
			switch n := &step[i]; {
			case n.Standing == fsm.NodeQuarantined:
				out.Quarantined++
			case n.Standing == fsm.NodeExcluded:
				out.Excluded++
			case state.Probation(n) != nil:
				out.Probation++
			default:
				out.Active++
			}
		}
		if len(step) < fleetStep {
			break
		}
		after = step[len(step)-1].Name
	}
	p, ok := state.Protection()
	if !ok {
		return out
	}
	policy := state.Policy()
	electorate := state.Electorate()
	out.Protected, out.Down, out.Subjective = true, p.Down, p.Subjective
	out.Breaker, out.Partition, out.Bootstrap = p.Breaker, p.Partition, electorate.Bootstrap
	out.Room = out.Nodes * policy.Protects().BreakerBasisPoints / 10_000
	if !out.Bootstrap {
		out.Eligible = uint64(len(electorate.Stables))
	}
	return out
}

func (s *Server) links(v *View, in *PageInput) (*client.Links, error) {
	after, err := parseCursor("links", in.Cursor)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Links{Links: []client.Link{}}
	links := v.State.Links(after, limit+1)
	for i, l := range links {
		if i == limit {
			last := out.Links[limit-1].Ends
			out.Next = encodeCursor("links", strings.Join(last, "/"))
			break
		}
		out.Links = append(out.Links, presentLink(l))
	}
	return out, nil
}

func presentLink(l fsm.Link) client.Link {
	out := client.Link{Ends: l.Ends[:], Down: l.Down, Words: []client.LinkWord{}, Forgets: l.Lapses}
	for _, w := range l.Words {
		out.Words = append(out.Words, client.LinkWord{Author: w.Author, Operator: w.Operator, Down: w.Down, Seq: w.Seq})
	}
	return out
}
