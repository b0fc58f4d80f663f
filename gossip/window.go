package gossip

import (
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Sighting is what a Window says of a statement's seq.
type Sighting uint8

const (
	Fresh        Sighting = iota // nothing was seen under this seq
	Replay                       // this very statement was seen
	Equivocation                 // another statement was seen under this seq
	TooOld                       // too far below the newest to tell
	OverQuota                    // not below the quota: one such statement proves a flood
	WrongEpoch                   // neither this epoch nor the one before
	Crowded                      // the window has no room for another author
)

// A Window remembers which statement was seen under each (key, epoch, space,
// seq) of this epoch and the one before. It holds verified statements only:
// else anybody could fill it in another's name. Its memory is bounded, see
// MaxWindowRows, MaxWindowSeqs and MaxKeptBytes: what falls out of a row is too
// old from then on, never fresh again.
type Window struct {
	epoch uint64
	rows  map[rowKey]*row
	seqs  int // in all rows
	kept  envelopes
}

type rowKey struct {
	key   ledger.Hash
	epoch uint64
	space ledger.SeqSpace
}

// row is the seqs of one author in one epoch and space, ascending.
type row struct {
	floor uint64 // seqs below it are too old
	seen  []seen
}

type seen struct {
	seq uint64
	id  ledger.Hash
}

// NewWindow returns an empty window at an epoch.
func NewWindow(epoch uint64) *Window {
	return &Window{epoch: epoch, rows: map[rowKey]*row{}, kept: newEnvelopes(MaxKeptBytes)}
}

// Advance drops the epochs that have passed. The window never goes back.
func (w *Window) Advance(epoch uint64) {
	if epoch <= w.epoch {
		return
	}
	w.epoch = epoch
	for k, r := range w.rows {
		if k.epoch+1 < epoch {
			w.seqs -= len(r.seen)
			delete(w.rows, k)
		}
	}
}

// Look says what the window knows of a statement that has epoch and seq, and of
// a Replay or an Equivocation the id that was seen first. It changes nothing, so
// a copy is told from news before its signature is verified.
func (w *Window) Look(st *ledger.Statement, quota uint64) (Sighting, ledger.Hash) {
	epoch, seq := *st.Payload.Epoch, *st.Payload.Seq
	switch {
	case epoch != w.epoch && epoch+1 != w.epoch:
		return WrongEpoch, ledger.Hash{}
	case seq >= quota:
		return OverQuota, ledger.Hash{}
	}
	r, ok := w.rows[rowOf(st)]
	if !ok {
		if len(w.rows) >= MaxWindowRows {
			return Crowded, ledger.Hash{}
		}
		return Fresh, ledger.Hash{}
	}
	if at, there := r.find(seq); there {
		if r.seen[at].id == st.ID {
			return Replay, st.ID
		}
		return Equivocation, r.seen[at].id
	}
	if seq < r.floor {
		return TooOld, ledger.Hash{}
	}
	return Fresh, ledger.Hash{}
}

// Take is Look, and remembers the statement if it is fresh. Its signature was
// verified.
func (w *Window) Take(st *ledger.Statement, quota uint64) (Sighting, ledger.Hash) {
	sighting, first := w.Look(st, quota)
	if sighting != Fresh {
		return sighting, first
	}
	key := rowOf(st)
	r, ok := w.rows[key]
	if !ok {
		r = &row{}
		w.rows[key] = r
	}
	at, _ := r.find(*st.Payload.Seq)
	r.seen = slices.Insert(r.seen, at, seen{*st.Payload.Seq, st.ID})
	w.seqs++
	w.shorten(r)
	w.kept.add(st.ID, st.Envelope)
	return Fresh, ledger.Hash{}
}

// shorten drops a row's lowest seqs: those out of the ledger's own window, and,
// while the window holds too many, those beyond the row's even share.
func (w *Window) shorten(r *row) {
	limit := ledger.SeqWindow
	if w.seqs > MaxWindowSeqs {
		limit = min(limit, max(MaxWindowSeqs/len(w.rows), 1))
	}
	drop := max(len(r.seen)-limit, 0)
	for top := r.seen[len(r.seen)-1].seq; top-r.seen[drop].seq >= ledger.SeqWindow; {
		drop++
	}
	if drop == 0 {
		return
	}
	r.floor = r.seen[drop-1].seq + 1
	r.seen = slices.Delete(r.seen, 0, drop)
	w.seqs -= drop
}

// Envelope gives a statement that was taken, if it is still kept.
func (w *Window) Envelope(id ledger.Hash) ([]byte, bool) { return w.kept.get(id) }

// Newest gives, of what a key signed in the epochs that the window has, the
// statement of highest seq in each space, as far as its envelope is kept. A node
// that was restored from an old disk learns from it what it has signed since.
func (w *Window) Newest(key ledger.Hash) [][]byte {
	var found [][]byte
	for epoch := w.epoch - min(w.epoch, 1); epoch <= w.epoch; epoch++ {
		for _, space := range [...]ledger.SeqSpace{ledger.SpaceMain, ledger.SpaceProbe} {
			r, ok := w.rows[rowKey{key, epoch, space}]
			if !ok {
				continue
			}
			for _, s := range slices.Backward(r.seen) {
				if envelope, ok := w.kept.get(s.id); ok {
					found = append(found, envelope)
					break
				}
			}
		}
	}
	return found
}

func rowOf(st *ledger.Statement) rowKey {
	return rowKey{st.KeyID, *st.Payload.Epoch, ledger.SeqSpaceOf(st.Payload.Type)}
}

func (r *row) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(r.seen, seq, func(s seen, seq uint64) int {
		switch {
		case s.seq < seq:
			return -1
		case s.seq > seq:
			return 1
		}
		return 0
	})
}

// envelopes keeps the newest envelopes, up to a number of bytes.
type envelopes struct {
	limit, bytes int
	byID         map[ledger.Hash][]byte
	order        []ledger.Hash // oldest first, from next on
	next         int
}

func newEnvelopes(limit int) envelopes {
	return envelopes{limit: limit, byID: map[ledger.Hash][]byte{}}
}

func (e *envelopes) get(id ledger.Hash) ([]byte, bool) {
	b, ok := e.byID[id]
	return b, ok
}

func (e *envelopes) add(id ledger.Hash, envelope []byte) {
	if _, there := e.byID[id]; there || len(envelope) > e.limit {
		return
	}
	e.byID[id] = slices.Clone(envelope)
	e.order = append(e.order, id)
	e.bytes += len(envelope)
	for e.bytes > e.limit {
		oldest := e.order[e.next]
		e.next++
		e.bytes -= len(e.byID[oldest])
		delete(e.byID, oldest)
	}
	if e.next > len(e.order)/2 {
		e.order = append([]ledger.Hash(nil), e.order[e.next:]...)
		e.next = 0
	}
}
