package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

type opKind int

const (
	opSubmit opKind = iota // of one statement
	opSize                 // a linearizable read of the size
	opLookUp               // a linearizable read: is this statement there?
	opFinal                // the same, of the certified history, when all is over
)

// op is what one client asked and was told.
type op struct {
	kind      opKind
	client    int
	member    int // the replica that was asked; 0: any
	id        string
	text      string // of a submission
	call, end int64  // nanoseconds of the run's clock
	seq       uint64
	open      error // of a submission without a receipt: it may take effect at any later time
	times     int   // of opFinal: how often the statement is in the history
}

// history is what all clients were told.
type history struct {
	mu   sync.Mutex
	ops  []op
	errs []error
}

func (h *history) add(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// broken notes an answer that makes no sense at all.
func (h *history) broken(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = append(h.errs, err)
}

// lately draws one of the newest acknowledged submissions.
func (h *history) lately(chance *rand.Rand) (op, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const newest = 8
	var list []op
	for _, o := range slices.Backward(h.ops) {
		if o.kind == opSubmit && o.open == nil {
			if list = append(list, o); len(list) == newest {
				break
			}
		}
	}
	if len(list) == 0 {
		return op{}, false
	}
	return list[chance.IntN(len(list))], true
}

func (h *history) all() []op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

// acknowledged counts the submissions that were, of those called from a moment on.
func (h *history) acknowledged(from int64, of func(op) bool) (n int) {
	for _, o := range h.all() {
		if o.kind == opSubmit && o.open == nil && o.call >= from && (of == nil || of(o)) {
			n++
		}
	}
	return n
}

// A statement is a register that is written once: it is absent, and from some
// moment on it has one seq. Registers are linearizable each by itself, so the
// history falls into as many small ones as there are statements.
type registerState struct {
	there bool
	seq   uint64 // 0: not told yet
}

var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := map[string][]porcupine.Operation{}
		var order []string
		for _, o := range history {
			id := o.Input.(op).id
			if byID[id] == nil {
				order = append(order, id)
			}
			byID[id] = append(byID[id], o)
		}
		parts := make([][]porcupine.Operation, 0, len(order))
		for _, id := range order {
			parts = append(parts, byID[id])
		}
		return parts
	},
	Init: func() any { return registerState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(registerState), input.(op)
		same := !s.there || s.seq == 0 || s.seq == o.seq
		switch {
		case o.kind == opSubmit && o.open != nil:
			return true, registerState{true, s.seq}
		case o.kind == opSubmit:
			return same, registerState{true, o.seq}
		case o.kind == opFinal && o.times > 1:
			return false, s
		case o.seq == 0:
			return !s.there, s
		}
		return s.there && same, registerState{true, o.seq}
	},
	DescribeOperation: func(input, _ any) string { return input.(op).String() },
}

// The ledger's size only grows, and a statement's seq lies at or above every
// size that was read before it took effect.
var sizeModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		size, o := state.(uint64), input.(op)
		if o.kind == opSubmit {
			return o.seq >= size, o.seq + 1
		}
		return o.seq >= size, o.seq
	},
	DescribeOperation: func(input, _ any) string { return input.(op).String() },
}

func (o op) String() string {
	id := o.id[:min(8, len(o.id))]
	switch o.kind {
	case opSubmit:
		if o.open != nil {
			return fmt.Sprintf("client %d submits %s: outcome open", o.client, id)
		}
		return fmt.Sprintf("client %d submits %s: seq %d", o.client, id, o.seq)
	case opSize:
		return fmt.Sprintf("client %d reads size %d", o.client, o.seq)
	case opFinal:
		return fmt.Sprintf("in the end %s is %d times there, at seq %d", id, o.times, o.seq)
	}
	if o.seq == 0 {
		return fmt.Sprintf("client %d finds %s absent", o.client, id)
	}
	return fmt.Sprintf("client %d finds %s at seq %d", o.client, id, o.seq)
}

// checkTime bounds the search; a history that takes longer is not called good.
const checkTime = 60 * time.Second

// check says whether the history is linearizable, given where each statement
// ended up in the certified history; nil: that is not known yet.
func check(ops []op, final map[string][]uint64) error {
	var registers, sizes []porcupine.Operation
	asked := map[string]bool{}
	last := int64(0)
	add := func(list *[]porcupine.Operation, o op) {
		end := o.end
		if o.kind == opSubmit && o.open != nil {
			end = math.MaxInt64
		}
		*list = append(*list, porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Output: nil, Return: end})
	}
	for _, o := range ops {
		last = max(last, o.end)
		if o.kind != opSize {
			add(&registers, o)
			asked[o.id] = true
		}
		if o.kind == opSize || o.kind == opSubmit && o.open == nil {
			add(&sizes, o)
		}
	}
	for id := range asked {
		if final == nil {
			break
		}
		o := op{kind: opFinal, client: 0, id: id, call: last + 1, end: last + 2, times: len(final[id])}
		if o.times > 0 {
			o.seq = final[id][0]
		}
		add(&registers, o)
	}
	return errors.Join(
		judge("statements", registerModel, registers),
		judge("sizes", sizeModel, sizes))
}

func judge(what string, model porcupine.Model, list []porcupine.Operation) error {
	switch porcupine.CheckOperationsTimeout(model, list, checkTime) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("the history of %s was too large to check within %s", what, checkTime)
	}
	return fmt.Errorf("the history of %s is not linearizable: %s", what, culprit(model, list))
}

// culprit names operations that cannot be put in order.
func culprit(model porcupine.Model, list []porcupine.Operation) string {
	if model.Partition == nil {
		return backwards(list)
	}
	for _, part := range model.Partition(list) {
		if porcupine.CheckOperationsTimeout(model, part, checkTime) == porcupine.Ok {
			continue
		}
		var text []string
		for _, o := range part {
			text = append(text, o.Input.(op).String())
		}
		return strings.Join(text, "; ")
	}
	return "no part fails by itself"
}

// backwards finds two operations, one after the other in time, of which the
// later one saw less.
func backwards(list []porcupine.Operation) string {
	for _, late := range list {
		for _, early := range list {
			least := early.Input.(op).seq
			if early.Input.(op).kind == opSubmit {
				least++
			}
			if early.Return < late.Call && late.Input.(op).seq < least {
				return fmt.Sprintf("%s, and %s later %s", early.Input.(op), time.Duration(late.Call-early.Return), late.Input.(op))
			}
		}
	}
	return "no two contradict each other"
}
