package gossip

import (
	"cmp"
	"errors"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Urgency is the order in which statements are brought to the ledger.
type Urgency uint8

const (
	UrgentEvidence Urgency = iota // what proves an offence, whoever signed it
	UrgentDown                    // our accusations
	UrgentUp                      // what takes them back
	UrgentAttest
	UrgentRelay // what others signed, and bring themselves if they can
)

// UrgencyOf is how urgent a statement is, of ours or of another node.
func UrgencyOf(st *ledger.Statement, own bool) Urgency {
	switch {
	case st.Payload.Type == ledger.TypeEvidence:
		return UrgentEvidence
	case !own:
		return UrgentRelay
	case st.Payload.Type == ledger.TypeAttest:
		return UrgentAttest
	}
	if o, err := ledger.DecodeBody[ledger.Observe](st); err == nil && o.Down() {
		return UrgentDown
	}
	return UrgentUp
}

// Waiting is a signed statement that has not reached the ledger.
type Waiting struct {
	ID       ledger.Hash
	Epoch    uint64 // in which its author signed it
	Urgency  Urgency
	Envelope []byte // verbatim; not to be changed
	Missed   bool   // it is certain that the ledger has it not and takes it no more

	order uint64
}

// WaitingOf is a statement as an Outbox takes it.
func WaitingOf(st *ledger.Statement, urgency Urgency) Waiting {
	w := Waiting{ID: st.ID, Urgency: urgency, Envelope: slices.Clone(st.Envelope)}
	if st.Payload.Epoch != nil {
		w.Epoch = *st.Payload.Epoch
	}
	return w
}

// An Outbox is what waits to reach the ledger: the most urgent first, and the
// oldest first of equal urgency. When there is no room, the newest of what is
// less urgent gives way. Two statements are never made into one: each is
// signed, and a joined observation could speak of a tick that was acknowledged
// in between. Its zero value is empty.
type Outbox struct {
	items []Waiting // sorted
	bytes int
	order uint64
}

// ErrOutboxFull says that nothing less urgent could give way.
var ErrOutboxFull = errors.New("the outbox is full")

// Put takes a statement in, unless it is there, and gives those that gave way to
// it. The error is ErrOutboxFull; then nothing changed.
func (o *Outbox) Put(w Waiting) (gone []ledger.Hash, err error) {
	if o.Has(w.ID) {
		return nil, nil
	}
	keep, bytes := len(o.items), o.bytes+len(w.Envelope)
	for keep >= MaxOutboxItems || bytes > MaxOutboxBytes {
		if keep == 0 || o.items[keep-1].Urgency <= w.Urgency {
			return nil, ErrOutboxFull
		}
		keep--
		bytes -= len(o.items[keep].Envelope)
		gone = append(gone, o.items[keep].ID)
	}
	o.order++
	w.order = o.order
	items := o.items[:keep:keep]
	at, _ := slices.BinarySearchFunc(items, w, compareWaiting)
	o.items, o.bytes = slices.Insert(items, at, w), bytes
	return gone, nil
}

func compareWaiting(a, b Waiting) int {
	return cmp.Or(cmp.Compare(a.Urgency, b.Urgency), cmp.Compare(a.order, b.order))
}

func (o *Outbox) find(id ledger.Hash) int {
	return slices.IndexFunc(o.items, func(w Waiting) bool { return w.ID == id })
}

// Has reports whether a statement waits.
func (o *Outbox) Has(id ledger.Hash) bool { return o.find(id) >= 0 }

// Drop takes a statement out, and reports whether it was there.
func (o *Outbox) Drop(id ledger.Hash) bool {
	at := o.find(id)
	if at < 0 {
		return false
	}
	o.bytes -= len(o.items[at].Envelope)
	o.items = slices.Delete(o.items, at, at+1)
	return true
}

// Miss notes that it is certain of a statement that the ledger has it not and takes it
// no more. It reports whether that is news.
func (o *Outbox) Miss(id ledger.Hash) bool {
	at := o.find(id)
	if at < 0 || o.items[at].Missed {
		return false
	}
	o.items[at].Missed = true
	return true
}

// Late gives the statements that the ledger takes no more in an epoch: those of
// epochs before the last one.
func (o *Outbox) Late(epoch uint64) []ledger.Hash {
	var late []ledger.Hash
	for _, w := range o.items {
		if w.Epoch+1 < epoch {
			late = append(late, w.ID)
		}
	}
	return late
}

// Clone is an outbox of its own with the same content.
func (o *Outbox) Clone() Outbox {
	return Outbox{items: slices.Clone(o.items), bytes: o.bytes, order: o.order}
}

// Items gives what waits, in order.
func (o *Outbox) Items() []Waiting { return slices.Clone(o.items) }

// Len is how many statements wait, Bytes how long their envelopes are.
func (o *Outbox) Len() int   { return len(o.items) }
func (o *Outbox) Bytes() int { return o.bytes }
