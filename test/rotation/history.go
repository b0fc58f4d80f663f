package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/test/nodetest"
	"github.com/quorate/quorate/test/readertest"
	"github.com/quorate/quorate/test/stagehand"
)

// history is what the entries of a ledger say about keys, read without the rules.
type history struct {
	entries   int
	wrong     []string          // the naive reader's complaints
	judged    map[string]int    // by it
	ids       map[string]uint64 // entries of statements, by id
	contents  map[string]uint64 // of observations, by what they say
	spoken    []spoken
	starts    map[uint64]uint64 // of epochs, in milliseconds
	first     map[string]uint64 // epoch in which a node was admitted or re-keyed last
	last      uint64            // epoch
	rotations map[string]int    // in force, of nodes; said, of replicas
	said      int               // rotations said by nodes
	lates     []lateness
	punished  []string // quarantines, exclusions, verdicts of bad conduct

	reader  *readertest.Reader
	alarms  map[string][]string // that are on, by kind
	pending bool                // an epoch has begun, whose alarms are being told
}

// spoken is a statement with a seq.
type spoken struct {
	author     string
	epoch, seq uint64
	id         string
}

// lateness is one node in one epoch in which its key was late, or past its end.
type lateness struct {
	name    string
	epoch   uint64
	expired bool
	told    bool   // an alarm that was on named it
	from    uint64 // the first epoch of its window
}

// times of a node's key, as the policy has them.
type times struct{ key, rotate, late, grace uint64 }

// readExport reads the entries of an exported folder, in their order.
func readExport(folder string) ([][]byte, error) {
	list, err := stagehand.Exports(folder)
	var entries [][]byte
	for _, e := range list {
		entries = append(entries, e.Raw)
	}
	return entries, err
}

// read reads a ledger from entry 0 on.
func read(entries [][]byte, t times) (*history, error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("there are no entries")
	}
	r, err := readertest.New(entries[0])
	if err != nil {
		return nil, err
	}
	h := &history{entries: len(entries), reader: r, ids: map[string]uint64{}, contents: map[string]uint64{}, starts: map[uint64]uint64{}, first: map[string]uint64{},
		rotations: map[string]int{}, alarms: map[string][]string{}}
	for _, raw := range entries[1:] {
		if err := h.take(raw, t); err != nil {
			return nil, err
		}
	}
	h.settle(t)
	h.last, h.wrong, h.judged = r.Epoch, r.Wrong, r.Judged
	return h, nil
}

// has says whether what an agent said is on the ledger, under whatever id.
func (h *history) has(s saying) bool {
	_, same := h.ids[s.id]
	_, again := h.contents[s.content]
	return same || again
}

// take reads one entry.
func (h *history) take(raw []byte, t times) error {
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		return err
	}
	kind := ""
	if e.Kind == ledger.KindEffect {
		effect, err := e.Effect()
		if err != nil {
			return err
		}
		kind = effect.Type
	}
	if kind != "alarm" {
		h.settle(t)
	}
	before := maps.Clone(h.reader.Nodes)
	if err := h.reader.Read(raw); err != nil {
		return err
	}
	switch e.Kind {
	case ledger.KindStatement:
		err = h.statement(e)
	case ledger.KindEffect:
		err = h.effect(e, kind, before)
	}
	return err
}

func (h *history) statement(e *ledger.Entry) error {
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return err
	}
	p := &st.Payload
	h.ids[st.ID.String()] = e.Seq
	if p.Epoch != nil && p.Seq != nil {
		h.spoken = append(h.spoken, spoken{p.Author, *p.Epoch, *p.Seq, st.ID.String()})
	}
	if p.Type == ledger.TypeObserve {
		o, err := ledger.DecodeBody[ledger.Observe](st)
		if err != nil {
			return err
		}
		h.contents[nodetest.ContentOf(p.Author, o)] = e.Seq
	}
	if p.Type == ledger.TypeRotate {
		if _, node := h.reader.Nodes[p.Author]; node {
			h.said++
		} else {
			h.rotations[p.Author]++
		}
	}
	return nil
}

func (h *history) effect(e *ledger.Entry, kind string, before map[string]readertest.Seated) error {
	effect, err := e.Effect()
	if err != nil {
		return err
	}
	switch kind {
	case "epoch":
		var body struct {
			Count   uint64      `json:"count,omitempty"`
			Epoch   uint64      `json:"epoch"`
			Keys    ledger.Hash `json:"keys"`
			Rotated uint64      `json:"rotated,omitempty"`
			Start   uint64      `json:"start"`
		}
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		h.starts[body.Epoch], h.pending = body.Start, true
		for name, n := range h.reader.Nodes {
			if n.Key != before[name].Key {
				h.rotations[name]++
			}
		}
	case "executed":
		for name, n := range h.reader.Nodes {
			if n.Key != before[name].Key {
				h.first[name], h.rotations[name] = h.reader.Epoch, 0
			}
		}
	case "alarm":
		var body struct {
			Count uint64   `json:"count"`
			Kind  string   `json:"kind"`
			Names []string `json:"names"`
		}
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		h.alarms[body.Kind] = body.Names
	case "quarantined", "excluded":
		h.punished = append(h.punished, fmt.Sprintf("entry %d: %s %.200s", e.Seq, kind, effect.Body))
	case "verdict":
		if strings.Contains(string(effect.Body), ledger.NodeBad) {
			h.punished = append(h.punished, fmt.Sprintf("entry %d: %s %.200s", e.Seq, kind, effect.Body))
		}
	}
	return nil
}

// settle looks who is late, once all alarms are told that an epoch's beginning gives.
func (h *history) settle(t times) {
	if !h.pending {
		return
	}
	h.pending = false
	epoch := h.reader.Epoch
	for _, name := range slices.Sorted(maps.Keys(h.reader.Nodes)) {
		n := h.reader.Nodes[name]
		k, waits := h.reader.Keys[n.Key], n.Next != (ledger.Hash{})
		l := lateness{name: name, epoch: epoch, from: k.To + 1 - min(k.To+1, t.rotate)}
		switch {
		case epoch > k.To+t.grace:
			l.expired, l.told = true, slices.Contains(h.alarms["key_expired"], name)
		case !waits && epoch <= k.To && k.To-epoch < t.late:
			l.told = slices.Contains(h.alarms["rotation_late"], name)
		default:
			continue
		}
		h.lates = append(h.lates, l)
	}
}
