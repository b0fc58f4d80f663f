package api

import (
	"errors"
	"slices"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

type historyInput struct {
	PageInput
	Name string `path:"name" maxLength:"63"`
}

// history gives what became of a node, newest first. Its keys say where it
// begins, and stay when the node goes. It looks at no more than historyScan
// entries.
func (s *Server) history(v *View, in *historyInput) (*client.NodeHistory, error) {
	keys := v.State.KeysOf(in.Name)
	if len(keys) == 0 {
		return nil, notFound("there never was a node of that name; /v1/nodes lists those that there are")
	}
	out := &client.NodeHistory{Name: in.Name, From: slices.Min(keys), Events: []client.NodeEvent{}}
	before, err := cursorSeq("history/"+in.Name, in.Cursor, v.Size)
	if err != nil {
		return nil, err
	}
	teller := &client.Teller{Name: in.Name, Keys: keys, Entry: s.backend.Archive().Entry, Holds: holds(v.State, in.Name)}
	limit := s.page(in.Limit)
	least := max(out.From, before-min(before, historyScan))
	for before > least && len(out.Events) < limit {
		from := max(least, before-min(before, watchBatch))
		events, err := s.eventsIn(teller, from, before)
		if err != nil {
			return nil, err
		}
		before = from
		if room := limit - len(out.Events); len(events) > room {
			events = events[:room]
			before = events[room-1].Seq
		}
		out.Events = append(out.Events, events...)
	}
	if before > out.From {
		out.Next = encodeCursor("history/"+in.Name, uitoa(before))
	}
	return out, nil
}

// eventsIn gives the events of a stretch of the history, newest first.
func (s *Server) eventsIn(teller *client.Teller, from, to uint64) ([]client.NodeEvent, error) {
	var events []client.NodeEvent
	err := s.backend.Archive().Entries(from, to, func(_ uint64, raw []byte) error {
		event, err := teller.Event(raw)
		if event != nil {
			events = append(events, *event)
		}
		return err
	})
	slices.Reverse(events)
	return events, err
}

func (s *Server) withLast(v *View, page *client.Nodes) *client.Nodes {
	nodes := make([]*client.Node, len(page.Nodes))
	for i := range page.Nodes {
		nodes[i] = &page.Nodes[i]
	}
	s.lastEvents(v, nodes)
	return page
}

// lastEvents adds the newest effect about each node that there was one about.
// The records say where it stands, so this looks at one entry for each. What
// this replica's history lacks is left out.
func (s *Server) lastEvents(v *View, nodes []*client.Node) {
	for _, n := range nodes {
		seq := uint64(0)
		if n.Standing == fsm.NodeQuarantined || n.Standing == fsm.NodeExcluded {
			seq = n.Since
		}
		if r, ok := v.State.Reputation(n.Name); ok {
			seq = max(seq, r.Last)
		}
		if seq == 0 {
			continue
		}
		event, err := s.eventAt(v.State, n.Name, seq)
		var gap *archive.GapError
		switch {
		case errors.As(err, &gap):
		case err != nil:
			s.fail("/v1/nodes", err) // it is logged; the rest is no worse for it
		default:
			n.Last = event
		}
	}
}

// holds says whose a key is or was.
func holds(state *fsm.State, name string) func(ledger.Hash) (bool, error) {
	return func(id ledger.Hash) (bool, error) {
		k, ok := state.Key(id)
		return ok && k.Role == fsm.RoleNode && k.Holder == name, nil
	}
}

func (s *Server) eventAt(state *fsm.State, name string, seq uint64) (*client.NodeEvent, error) {
	raw, err := s.backend.Archive().Entry(seq)
	if err != nil {
		return nil, err
	}
	teller := &client.Teller{Name: name, Keys: []uint64{seq}, Entry: s.backend.Archive().Entry, Holds: holds(state, name)}
	return teller.Event(raw)
}
