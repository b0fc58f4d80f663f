package fsm

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/quorate/quorate/ledger"
)

// Replayer derives a ledger again from its entries: each statement is applied
// anew, and every effect and seal must be the very bytes that the rules give.
// Commands are not on the ledger and are not needed: a statement is a command
// of its own, an effect that no statement caused is what a tick at its stamp
// gives, a seal is what a seal command gives.
//
// It runs the commands in one transition, which becomes a State only when one
// is asked for: the records that changed are encoded and hashed at each seal,
// whose digest needs them, not at each statement. Nothing ever has to be
// undone, because the first command that does not hold ends the replay.
type Replayer struct {
	state   *State      // as it was last asked for
	open    *transition // what was derived since; nil: nothing
	verify  Verifier
	derived [][]byte // what the last command appended beyond the entries seen
	cause   uint64   // seq of the entry that caused derived
}

// Known is an entry that its caller has read and hashed already. All of it must
// belong together: the replayer relies on it.
type Known struct {
	Raw   []byte
	Leaf  ledger.Hash   // ledger.LeafHash(Raw)
	Entry *ledger.Entry // ledger.ParseEntry(Raw)
}

// encoding gives the bytes of e and their leaf hash if k is that very entry. An
// entry has one encoding, so equal fields are equal bytes.
func (k *Known) encoding(e *ledger.Entry) (raw []byte, leaf ledger.Hash, same bool) {
	if k == nil || k.Entry.Seq != e.Seq || k.Entry.Stamp != e.Stamp || k.Entry.Prev != e.Prev ||
		k.Entry.Kind != e.Kind || !bytes.Equal(k.Entry.Content, e.Content) {
		return nil, ledger.Hash{}, false
	}
	return k.Raw, k.Leaf, true
}

// ReplayError names the first entry that does not follow.
type ReplayError struct {
	Seq     uint64
	Why     string
	Verdict Verdict // of a statement that the rules refuse
}

func (e *ReplayError) Error() string { return fmt.Sprintf("entry %d: %s", e.Seq, e.Why) }

// NewReplayer starts after entry 0.
func NewReplayer(genesisEntry []byte, v Verifier) (*Replayer, error) {
	s, err := New(genesisEntry)
	if err != nil {
		return nil, err
	}
	return ResumeReplayer(s, v), nil
}

// ResumeReplayer starts after the last entry of s.
func ResumeReplayer(s *State, v Verifier) *Replayer { return &Replayer{state: s, verify: v} }

// State returns the state after every entry that was derived, which may be
// ahead of those that were added by what the last one causes; after a seal it
// never is.
func (r *Replayer) State() *State {
	if r.open != nil {
		r.state, r.open = r.open.commit(), nil
	}
	return r.state
}

// Next returns the seq of the next entry to add.
func (r *Replayer) Next() uint64 {
	next := r.state.next
	if r.open != nil {
		next = r.open.next
	}
	return next - uint64(len(r.derived))
}

// Add takes the next entry. The error is a *ReplayError, after which the
// replayer is of no more use.
func (r *Replayer) Add(entry []byte) error {
	if len(r.derived) > 0 {
		return r.match(entry)
	}
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return &ReplayError{Seq: r.Next(), Why: err.Error()}
	}
	return r.AddKnown(&Known{Raw: entry, Leaf: ledger.LeafHash(entry), Entry: e})
}

// AddKnown is Add of an entry that need not be read and hashed again.
func (r *Replayer) AddKnown(k *Known) error {
	if len(r.derived) == 0 {
		if err := r.derive(k); err != nil {
			return err
		}
	}
	return r.match(k.Raw)
}

// match takes the entry if it is the next that was derived.
func (r *Replayer) match(entry []byte) error {
	if !bytes.Equal(r.derived[0], entry) {
		return r.differs(r.Next(), entry)
	}
	r.derived = r.derived[1:]
	return nil
}

// derive runs the command that the entry must come from.
func (r *Replayer) derive(k *Known) error {
	seq, e := r.Next(), k.Entry
	if e.Seq != seq {
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("it says that it is entry %d", e.Seq)}
	}
	c := &ledger.Command{Stamp: e.Stamp}
	switch e.Kind {
	case ledger.KindStatement:
		c.Kind, c.Statements = ledger.CommandStatements, [][]byte{e.Content}
	case ledger.KindEffect:
		c.Kind = ledger.CommandTick
	case ledger.KindSeal:
		c.Kind = ledger.CommandSeal
	default:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("a %s can't stand here", e.Kind)}
	}
	t := r.open
	if t == nil {
		t = begin(r.state, r.state.stamp, r.verify)
		r.open = t
	}
	switch {
	case e.Stamp < t.stamp:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("its stamp %d is before %d", e.Stamp, t.stamp)}
	case t.meta.Format > Format:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("the ledger is at format %d, this program knows %d", t.meta.Format, Format)}
	case e.Stamp > maxStamp:
		return r.underived(seq, e, refuseAll(c, BadStamp))
	}
	t.before, t.stamp, t.entries, t.expected = t.stamp, e.Stamp, t.entries[:0], k
	verdicts, holds := t.run(c)
	if !holds {
		r.open = nil
		return r.underived(seq, e, verdicts)
	}
	r.derived, r.cause = t.entries, seq
	return nil
}

func (r *Replayer) underived(seq uint64, e *ledger.Entry, verdicts []Verdict) error {
	if e.Kind != ledger.KindStatement {
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("nothing before it causes this %s", e.Kind)}
	}
	v := verdicts[0]
	if v.Duplicate {
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("the statement is entry %d already", v.Seq), Verdict: v}
	}
	why := fmt.Sprintf("the statement is refused: %s", v.Code)
	if v.Path != "" {
		why += " at " + v.Path
	}
	if v.Detail != "" {
		why += ": " + v.Detail
	}
	return &ReplayError{Seq: seq, Why: why, Verdict: v}
}

// differs says how an entry differs from the one that the rules give.
func (r *Replayer) differs(seq uint64, entry []byte) error {
	want, err := ledger.ParseEntry(r.derived[0])
	invariant(err == nil, "a derived entry can be parsed")
	got, err := ledger.ParseEntry(entry)
	if err != nil {
		return &ReplayError{Seq: seq, Why: err.Error()}
	}
	switch {
	case got.Seq != want.Seq:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("it says that it is entry %d", got.Seq)}
	case got.Prev != want.Prev:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("prev is %s, the entry before has leaf hash %s", got.Prev, want.Prev)}
	case got.Kind != want.Kind:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("it is a %s, the rules give a %s here", got.Kind, want.Kind)}
	case got.Stamp != want.Stamp:
		return &ReplayError{Seq: seq, Why: fmt.Sprintf("its stamp is %d, the rules give %d", got.Stamp, want.Stamp)}
	}
	if got.Kind == ledger.KindStatement {
		return &ReplayError{Seq: seq, Why: "another statement stands here than the one applied"}
	}
	return &ReplayError{Seq: seq, Why: fmt.Sprintf("the %s is %s, the rules give %s", got.Kind, got.Content, want.Content)}
}

// Finish checks that nothing is missing at the end: what the last entry causes
// is there.
func (r *Replayer) Finish() error {
	if len(r.derived) > 0 {
		return &ReplayError{Seq: r.Next(), Why: fmt.Sprintf("the ledger ends before what entry %d causes", r.cause)}
	}
	return nil
}

// Replay derives the entries after those of s and returns the state after
// them. The error is that of entries, or a *ReplayError.
func Replay(s *State, entries iter.Seq2[[]byte, error], v Verifier) (*State, error) {
	r := ResumeReplayer(s, v)
	for entry, err := range entries {
		if err != nil {
			return nil, err
		}
		if err := r.Add(entry); err != nil {
			return nil, err
		}
	}
	if err := r.Finish(); err != nil {
		return nil, err
	}
	return r.State(), nil
}
