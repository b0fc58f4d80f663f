package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// NodeEvent is what is about a node: a verdict, an offence, a change of its standing
// or of a link, a decision that names it or its key, each by its effect; or its own
// key.rotate, which is a statement and has a Rotation as body.
type NodeEvent struct {
	Seq    uint64          `json:"seq"`
	Stamp  uint64          `json:"stamp" doc:"Milliseconds"`
	Type   string          `json:"type" doc:"Of the effect"`
	Causes []uint64        `json:"causes" doc:"The entries that caused it"`
	Body   json.RawMessage `json:"body"`
}

// NodeHistory is a page of /v1/nodes/{name}/history, newest first. A page looks
// at a bounded stretch of the history, so it can be empty and have a next one.
type NodeHistory struct {
	Meta   `json:"-"`
	Name   string      `json:"name"`
	From   uint64      `json:"from" doc:"seq of the decision that first admitted a node of this name"`
	Events []NodeEvent `json:"events"`
	Next   string      `json:"next,omitempty"`
}

// VerdictTypes are the effects by which the rules judge nodes and links, as
// WatchOptions.Types takes them.
var VerdictTypes = []string{
	fsm.EffectVerdict, fsm.EffectOffence, fsm.EffectQuarantined, fsm.EffectReleased, fsm.EffectExcluded,
	fsm.EffectBreaker, fsm.EffectPartition, fsm.EffectLink,
}

// Teller finds the entries that are about one node. Server and client use the
// same, so that what one lists the other can find by itself.
type Teller struct {
	Name string
	Keys []uint64 // seqs at which it got its keys: of its admission and rekeys
	// Entry reads an entry at or below the one that is looked at: what a
	// decision was about is in its proposal.
	Entry func(seq uint64) ([]byte, error)
	Holds func(key ledger.Hash) (bool, error) // whether the node has or had that key
}

// Event gives the event that an entry is; nil where it is not about the node.
func (t *Teller) Event(raw []byte) (*NodeEvent, error) {
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		return nil, err
	}
	if e.Kind == ledger.KindStatement {
		if event, err := t.rotation(e); event != nil || err != nil {
			return event, err
		}
		return t.restoring(e, raw)
	}
	if e.Kind != ledger.KindEffect {
		return nil, nil
	}
	effect, err := e.Effect()
	if err != nil {
		return nil, err
	}
	about, err := t.about(e.Seq, effect)
	if err != nil || !about {
		return nil, err
	}
	return &NodeEvent{Seq: e.Seq, Stamp: e.Stamp, Type: effect.Type, Causes: slices.Clone(effect.Causes), Body: bytes.Clone(effect.Body)}, nil
}

// Rotation is the body of a NodeEvent of type key.rotate, which is a statement:
// the node announced its next key.
type Rotation struct {
	Epoch uint64 `json:"epoch"` // that it bears
	Key   string `json:"key"`   // id of the next key, hex
	Old   string `json:"old"`   // id of the key that signed it, hex
}

// rotation gives the event that a statement is: the node's own rotation.
func (t *Teller) rotation(e *ledger.Entry) (*NodeEvent, error) {
	if !bytes.Contains(e.Content, []byte(ledger.TypeRotate)) {
		return nil, nil // far cheaper than reading what is not
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil || st.Payload.Type != ledger.TypeRotate || st.Payload.Author != t.Name || st.Payload.Epoch == nil {
		return nil, err
	}
	rotate, err := ledger.DecodeBody[ledger.Rotate](st)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(Rotation{Epoch: *st.Payload.Epoch, Key: rotate.KeyID().String(), Old: st.KeyID.String()})
	if err != nil {
		return nil, err
	}
	return &NodeEvent{Seq: e.Seq, Stamp: e.Stamp, Type: ledger.TypeRotate, Causes: []uint64{}, Body: body}, nil
}

func (t *Teller) about(seq uint64, effect *ledger.Effect) (bool, error) {
	switch effect.Type {
	case fsm.EffectVerdict, fsm.EffectOffence, fsm.EffectQuarantined, fsm.EffectReleased, fsm.EffectExcluded, fsm.EffectBreaker:
		var body struct {
			Name string `json:"name"`
		}
		err := json.Unmarshal(effect.Body, &body)
		return body.Name == t.Name, err
	case fsm.EffectLink:
		var body struct {
			Ends []string `json:"ends"`
		}
		err := json.Unmarshal(effect.Body, &body)
		return slices.Contains(body.Ends, t.Name), err
	case fsm.EffectExecuted:
		var body struct {
			Action string `json:"action"`
		}
		if err := json.Unmarshal(effect.Body, &body); err != nil {
			return false, err
		}
		switch body.Action {
		case "node.admit", "node.rekey":
			return slices.Contains(t.Keys, seq), nil
		case "node.quarantine", "node.release", "node.remove", ledger.ActionRevoke:
			return t.decided(effect.Causes)
		}
	}
	return false, nil
}

// decided reports whether the proposal among a decision's causes names the
// node.
func (t *Teller) decided(causes []uint64) (bool, error) {
	for _, seq := range causes {
		raw, err := t.Entry(seq)
		if err != nil {
			return false, err
		}
		args, err := proposalArgs(raw)
		if err != nil {
			return false, err
		}
		if args != nil && args.Key != "" && t.Holds != nil {
			id, err := base64.RawURLEncoding.Strict().DecodeString(args.Key)
			if err != nil || len(id) != len(ledger.Hash{}) {
				return false, err
			}
			return t.Holds(ledger.Hash(id))
		}
		if args != nil {
			return args.Name == t.Name, nil
		}
	}
	return false, nil
}

// nodeArgs are what the actions on a node have in common.
type nodeArgs struct {
	Key    string `json:"key"` // of key.revoke, in base64url
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// proposalArgs reads the arguments of an entry that is a proposal; nil where
// it is none.
func proposalArgs(raw []byte) (*nodeArgs, error) {
	e, err := ledger.ParseEntry(raw)
	if err != nil || e.Kind != ledger.KindStatement {
		return nil, err
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil || st.Payload.Type != ledger.TypePropose {
		return nil, err
	}
	body, err := ledger.DecodeBody[ledger.Propose](st)
	if err != nil {
		return nil, err
	}
	args := new(nodeArgs)
	return args, json.Unmarshal(body.Args, args)
}

// NodeHistory reads a page of what became of a node, as a server says; Story
// verifies.
func (c *Client) NodeHistory(ctx context.Context, name string, r Read) (*NodeHistory, error) {
	return get[NodeHistory](ctx, c, "/v1/nodes/"+segment(name)+"/history", r)
}

// StoryOptions say how much of a node's story to tell.
type StoryOptions struct {
	Limit int // events to tell: the admission and the newest; 0: 1,000, which is the most
	// Whole looks at every entry since the node's admission, each in the hash
	// chain under a certified head, so that no server can leave an event out. It
	// takes as long as that history is.
	Whole bool
}

// Story is what became of a node: each event and what caused it is an entry
// that the client verified under a certified head, and the records are proven.
type Story struct {
	Name       string
	Node       *fsm.NodeRecord       // nil: there is no such node now
	Reputation *fsm.ReputationRecord // nil in a ledger of format 1
	Head       Head                  // under which the records are proven
	From       uint64                // seq of its first admission
	Events     []StoryEvent          // oldest first
	Left       int                   // older events that are not told, because of the limit
	Whole      bool                  // no event is left out by a server

	keySince uint64 // proven
}

// StoryEvent is an event with the entries that caused it.
type StoryEvent struct {
	NodeEvent
	Causes []*Entry // as Entry verified them
}

// Story tells what became of a node, verified. A node that never was is
// ErrNotFound.
func (c *Client) Story(ctx context.Context, name string, o StoryOptions) (*Story, error) {
	s := &Story{Name: name, Whole: o.Whole}
	if err := c.storyRecords(ctx, s); err != nil {
		return nil, err
	}
	limit := o.Limit
	if limit <= 0 || limit > maxStoryEvents {
		limit = maxStoryEvents
	}
	seqs, err := c.storySeqs(ctx, s)
	if err != nil {
		return nil, err
	}
	if o.Whole {
		more, err := c.wholeStory(ctx, s)
		if err != nil {
			return nil, err
		}
		seqs = union(seqs, more)
	}
	if s.Left = max(0, len(seqs)-limit); s.Left > 0 {
		seqs = append([]uint64{seqs[0]}, seqs[s.Left+1:]...) // the admission is always told
	}
	for _, seq := range seqs {
		event, err := c.storyEvent(ctx, s, seq)
		if err != nil {
			return nil, err
		}
		s.Events = append(s.Events, *event)
	}
	return s, nil
}

// storyRecords proves the node's records, or that there are none.
func (c *Client) storyRecords(ctx context.Context, s *Story) error {
	record, err := c.Record(ctx, "node/"+s.Name)
	if err != nil {
		return err
	}
	s.Head = record.Head
	if record.Value == nil {
		return nil
	}
	s.Node = new(fsm.NodeRecord)
	if err := canon.Unmarshal(record.Value, s.Node); err != nil {
		return fmt.Errorf("read record %s: %w", record.Key, err)
	}
	key, _, err := verified[fsm.KeyRecord](ctx, c, "key/"+s.Node.Key.String())
	if err != nil {
		return err
	}
	s.keySince = key.Since
	r, head, err := verified[fsm.ReputationRecord](ctx, c, "reputation/"+s.Name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Reputation, s.Head = r, *head
	return nil
}

// storySeqs lists, oldest first, where a server says that the events are. What
// the proven records name must be among them.
func (c *Client) storySeqs(ctx context.Context, s *Story) ([]uint64, error) {
	var seqs []uint64
	r := Read{}
	for range maxStoryPages {
		page, err := c.NodeHistory(ctx, s.Name, r)
		if err != nil {
			return nil, err
		}
		s.From = page.From
		for _, e := range page.Events {
			seqs = append(seqs, e.Seq)
		}
		if r.Cursor = page.Next; r.Cursor == "" {
			slices.Sort(seqs)
			seqs = slices.Compact(seqs)
			return seqs, s.holds(seqs)
		}
	}
	return nil, fmt.Errorf("read history of %s: more than %d pages", s.Name, maxStoryPages)
}

// holds checks that the newest events that the proven records name are told.
func (s *Story) holds(seqs []uint64) error {
	if s.Node == nil {
		return nil
	}
	newest := []uint64{s.Node.Since, s.keySince}
	if s.Reputation != nil && s.Reputation.Last > 0 {
		newest = append(newest, s.Reputation.Last)
	}
	for _, seq := range newest {
		// A change that came after the records were read is no omission.
		if seq < s.Head.Size && !slices.Contains(seqs, seq) {
			return fmt.Errorf("the history of %s leaves out entry %d, which its record names", s.Name, seq)
		}
	}
	return nil
}

// holds says whose a key is or was, by its proven record.
func (c *Client) holds(ctx context.Context, name string) func(ledger.Hash) (bool, error) {
	return func(id ledger.Hash) (bool, error) {
		k, _, err := verified[fsm.KeyRecord](ctx, c, "key/"+id.String())
		if err != nil {
			return false, err
		}
		return k.Role == fsm.RoleNode && k.Holder == name, nil
	}
}

// union gives the members of two lists, sorted.
func union(a, b []uint64) []uint64 {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// wholeStory finds the events among all entries since the admission.
func (c *Client) wholeStory(ctx context.Context, s *Story) ([]uint64, error) {
	kept := map[uint64][]byte{} // proposals on nodes, for the decisions on them
	teller := &Teller{Name: s.Name, Entry: func(seq uint64) ([]byte, error) {
		if raw, ok := kept[seq]; ok {
			return raw, nil
		}
		e, err := c.Entry(ctx, seq)
		if err != nil {
			return nil, err
		}
		return e.Entry, nil
	}}
	teller.Holds = c.holds(ctx, s.Name)
	var seqs []uint64
	// What a server says of the beginning can't hide what came after the key.
	for next := min(s.From, max(s.keySince, 1)); next < s.Head.Size; {
		page, err := c.Entries(ctx, next, MaxEntriesPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			e := &page[i]
			if view := string(e.View); e.Type == ledger.TypePropose && (strings.Contains(view, `"node.`) || strings.Contains(view, ledger.ActionRevoke)) {
				kept[e.Seq] = e.Entry
			}
			if e.Seq >= s.Head.Size {
				break
			}
			// Its admission and rekeys are not among them: the record of its key
			// proves the newest.
			event, err := teller.Event(e.Entry)
			if err != nil {
				return nil, fmt.Errorf("read entry %d: %w", e.Seq, err)
			}
			if event != nil {
				seqs = append(seqs, e.Seq)
			}
		}
		next = page[len(page)-1].Seq + 1
	}
	return seqs, nil
}

// storyEvent verifies an event and its causes.
func (c *Client) storyEvent(ctx context.Context, s *Story, seq uint64) (*StoryEvent, error) {
	entry, err := c.Entry(ctx, seq)
	if err != nil {
		return nil, err
	}
	entries := map[uint64]*Entry{}
	// Whether an admission admits this node is in its joins, which are told with it.
	teller := &Teller{Name: s.Name, Keys: []uint64{seq}, Entry: func(seq uint64) ([]byte, error) {
		e, err := c.Entry(ctx, seq)
		if err != nil {
			return nil, err
		}
		entries[seq] = e
		return e.Entry, nil
	}, Holds: c.holds(ctx, s.Name)}
	event, err := teller.Event(entry.Entry)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", seq, err)
	}
	if event == nil {
		return nil, fmt.Errorf("entry %d, which a server names, is not about %s", seq, s.Name)
	}
	out := &StoryEvent{NodeEvent: *event}
	for _, cause := range event.Causes {
		e, ok := entries[cause]
		if !ok {
			if e, err = c.Entry(ctx, cause); err != nil {
				return nil, err
			}
		}
		out.Causes = append(out.Causes, e)
	}
	return out, nil
}
