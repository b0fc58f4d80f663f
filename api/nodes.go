package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

type nameInput struct {
	ReadInput
	Name string `path:"name" maxLength:"63"`
}

func (s *Server) nodeRoutes(h huma.API) {
	registerRead(s, h, "list-nodes", "/v1/nodes", "The admitted nodes, by name",
		func(_ context.Context, v *View, in *PageInput) (*client.Nodes, error) {
			return s.nodes(v, in, "nodes", func(fsm.NodeRecord) bool { return true })
		})
	registerRead(s, h, "list-quarantine", "/v1/quarantine", "The nodes in quarantine, by name",
		func(_ context.Context, v *View, in *PageInput) (*client.Nodes, error) {
			return s.nodes(v, in, "quarantine", func(n fsm.NodeRecord) bool { return n.Standing == fsm.NodeQuarantined })
		})
	registerRead(s, h, "get-node", "/v1/nodes/{name}", "One node",
		func(_ context.Context, v *View, in *nameInput) (*client.Node, error) {
			n, ok := v.State.Node(in.Name)
			if !ok {
				return nil, notFound("there is no node of that name; /v1/nodes lists them")
			}
			out := presentNode(v.State, n)
			s.lastEvents(v, []*client.Node{&out})
			return &out, nil
		})
	registerRead(s, h, "get-node-history", "/v1/nodes/{name}/history", "What became of one node, newest first: its admission, verdicts, offences, changes of standing and links, and decisions about it",
		func(_ context.Context, v *View, in *historyInput) (*client.NodeHistory, error) {
			return s.history(v, in)
		})
	registerRead(s, h, "list-joins", "/v1/joins", "The nodes that ask to be admitted, by statement id",
		func(_ context.Context, v *View, in *PageInput) (*client.Joins, error) { return s.joins(v, in) })
}

// nodes gives a page of the nodes that keep keeps. It reads in steps, so that
// a filter over a large fleet copies little.
func (s *Server) nodes(v *View, in *PageInput, list string, keep func(fsm.NodeRecord) bool) (*client.Nodes, error) {
	after, err := parseCursor(list, in.Cursor)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Nodes{Nodes: []client.Node{}}
	for {
		step := v.State.Nodes(after, limit+1)
		for _, n := range step {
			if !keep(n) {
				continue
			}
			if len(out.Nodes) == limit {
				out.Next = encodeCursor(list, out.Nodes[limit-1].Name)
				return s.withLast(v, out), nil
			}
			out.Nodes = append(out.Nodes, presentNode(v.State, n))
		}
		if len(step) <= limit {
			return s.withLast(v, out), nil
		}
		after = step[len(step)-1].Name
	}
}

func (s *Server) joins(v *View, in *PageInput) (*client.Joins, error) {
	after, err := cursorHash("joins", in.Cursor)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Joins{Joins: []client.Join{}}
	joins := v.State.Joins(after, limit+1)
	for i, j := range joins {
		if i == limit {
			out.Next = encodeCursor("joins", joins[i-1].ID.String())
			break
		}
		out.Joins = append(out.Joins, presentJoin(j))
	}
	return out, nil
}

// cursorHash is parseCursor for lists by statement id.
func cursorHash(list, cursor string) (ledger.Hash, error) {
	last, err := parseCursor(list, cursor)
	if err != nil || last == "" {
		return ledger.Hash{}, err
	}
	id, err := ledger.ParseHash(last)
	if err != nil {
		return ledger.Hash{}, badParameter("query.cursor", "not a cursor of this list; begin again without one")
	}
	return id, nil
}
