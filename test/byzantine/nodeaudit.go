package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// audit follows the ledger as an auditor does who trusts nobody: entries that
// the client verified, from which the state and every effect are derived anew.
type audit struct {
	s *scene

	mu      sync.Mutex
	state   *fsm.State // at the newest seal
	effects []effect
	changed chan struct{} // closed at the next seal
	fault   error
	fallen  map[string]string // nodes that were ever anything but active: what
	low     map[string]uint64 // the lowest reputation that a node had
	ids     map[ledger.Hash]int
	ofNodes map[ledger.Hash]string    // author
	authors map[string]map[uint64]int // statements by author and epoch
}

// effect is an effect on the ledger.
type effect struct {
	seq    uint64
	typ    string
	body   json.RawMessage
	causes []uint64
}

func newAudit(s *scene) *audit {
	return &audit{s: s, changed: make(chan struct{}), fallen: map[string]string{}, low: map[string]uint64{},
		ids: map[ledger.Hash]int{}, ofNodes: map[ledger.Hash]string{}, authors: map[string]map[uint64]int{}}
}

// run follows until ctx ends.
func (a *audit) run(ctx context.Context) {
	err := a.follow(ctx)
	if ctx.Err() == nil {
		a.mu.Lock()
		a.fault = err
		a.mu.Unlock()
	}
}

func (a *audit) follow(ctx context.Context) error {
	replayer, err := fsm.NewReplayer(a.s.entry, fsm.NewDirectVerifier(auditKeys))
	if err != nil {
		return err
	}
	a.show(replayer.State())
	c, err := a.s.client("", a.s.members...)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Watch(ctx, client.WatchOptions{From: 1, Verify: true}, func(e *client.Entry) error {
		raw := []byte(e.Entry)
		if err := replayer.Add(raw); err != nil {
			return err
		}
		entry, err := ledger.ParseEntry(raw)
		if err != nil {
			return err
		}
		switch entry.Kind {
		case ledger.KindStatement:
			a.count(entry)
		case ledger.KindEffect:
			return a.keep(entry)
		case ledger.KindSeal:
			a.show(replayer.State())
		}
		return nil
	})
}

func (a *audit) keep(entry *ledger.Entry) error {
	body, err := entry.Effect()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.effects = append(a.effects, effect{seq: entry.Seq, typ: body.Type, body: json.RawMessage(body.Body), causes: body.Causes})
	return nil
}

func (a *audit) count(entry *ledger.Entry) {
	st, err := ledger.ParseStatement(entry.Content)
	if err != nil {
		return // the replayer refuses it
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[st.ID]++
	if st.Payload.Epoch != nil {
		if _, ok := a.state.Node(st.Payload.Author); ok {
			a.ofNodes[st.ID] = st.Payload.Author
		}
		if a.authors[st.Payload.Author] == nil {
			a.authors[st.Payload.Author] = map[uint64]int{}
		}
		a.authors[st.Payload.Author][*st.Payload.Epoch]++
	}
}

// times says how often a statement is on the ledger.
func (a *audit) times(id ledger.Hash) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ids[id]
}

// strangers counts the statements of nodes, and those that nobody signed for
// them with their keys.
func (a *audit) strangers(f *fleet) (count, strange int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	agents := map[string]bool{}
	for _, p := range f.agents {
		agents[p.name] = true
	}
	for id, author := range a.ofNodes {
		if agents[author] {
			continue // it signs by itself
		}
		count++
		if f.signed[id].IsZero() {
			strange++
		}
	}
	return count, strange
}

// by says how many statements of an author the ledger has, by epoch.
func (a *audit) by(author string) map[uint64]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.authors[author])
}

// show takes note of the state at a seal, which proves it.
func (a *audit) show(state *fsm.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = state
	for _, n := range state.Nodes("", 1<<16) {
		if n.Standing != fsm.NodeActive && a.fallen[n.Name] == "" {
			a.fallen[n.Name] = n.Standing + ": " + n.Reason
		}
		if r, ok := reputationOf(state, n.Name); ok {
			if low, known := a.low[n.Name]; !known || r.Reputation < low {
				a.low[n.Name] = r.Reputation
			}
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// reputationOf reads a node's reputation from its record, which is what every
// certified state digest covers.
func reputationOf(state *fsm.State, name string) (fsm.ReputationRecord, bool) {
	var r fsm.ReputationRecord
	value, ok := state.Record("reputation/" + name)
	return r, ok && json.Unmarshal(value, &r) == nil
}

// now is the state at the newest certified seal.
func (a *audit) now() *fsm.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

func (a *audit) epoch() uint64 { return a.now().Epoch() }

func (a *audit) reputation(name string) uint64 {
	r, _ := reputationOf(a.now(), name)
	return r.Reputation
}

func (a *audit) standing(name string) string {
	n, _ := a.now().Node(name)
	return n.Standing
}

// await waits until something holds of a certified state.
func (a *audit) await(ctx context.Context, what string, holds func(*fsm.State) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it took too long"))
	defer cancel()
	for {
		a.mu.Lock()
		state, changed, fault := a.state, a.changed, a.fault
		a.mu.Unlock()
		switch {
		case fault != nil:
			return fmt.Errorf("the auditor: %w", fault)
		case state != nil && holds(state):
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, context.Cause(ctx))
		case <-changed:
		case <-time.After(time.Second): // the fault
		}
	}
}

// awaitEffect waits for an effect about a node.
func (a *audit) awaitEffect(ctx context.Context, typ, name string) (effect, error) {
	var found effect
	err := a.await(ctx, fmt.Sprintf("the ledger has %s of %s", typ, name), func(*fsm.State) bool {
		list := a.about(typ, name)
		if len(list) == 0 {
			return false
		}
		found = list[len(list)-1]
		return true
	})
	return found, err
}

// about lists the effects of a type about a node, or with "" all of that type.
func (a *audit) about(typ, name string) []effect {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []effect
	for _, e := range a.effects {
		var body struct {
			Name string `json:"name"`
		}
		if e.typ == typ && (name == "" || json.Unmarshal(e.body, &body) == nil && body.Name == name) {
			list = append(list, e)
		}
	}
	return list
}

// harmed lists what befell nodes that are not among the guilty.
func (a *audit) harmed(guilty map[string]bool) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for name, what := range a.fallen {
		if !guilty[name] {
			list = append(list, name+" was "+what)
		}
	}
	return list
}
