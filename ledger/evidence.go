package ledger

import (
	"fmt"

	"github.com/quorate/quorate/ledger/keys"
)

// The kinds of evidence that proves itself (FORMAT.md section 17): its
// exhibits bear the offender's own signature, so nobody need believe whoever
// brings it.
const (
	// EvidenceEquivocation is two statements under one key, epoch, space and seq.
	EvidenceEquivocation = "equivocation"
	// EvidenceFlood is one statement whose seq is not below the quota.
	EvidenceFlood = "flood"
	// EvidenceObservation is two observations that differ under one counter.
	EvidenceObservation = "observation"
	// EvidenceContradiction is an accusation, and an ack of its author to the
	// accused for a tick of which the accusation speaks.
	EvidenceContradiction = "contradiction"
)

// Evidence is the body of an evidence statement.
type Evidence struct {
	Exhibits [][]byte `json:"exhibits"` // statements of the offender, verbatim
	Kind     string   `json:"kind"`
	Public   []byte   `json:"public,omitempty"` // ML-DSA-65, of exhibits under a key that the state has no longer; from format 3 on
}

// Offence is what evidence proves of whom, once the exhibits' signatures
// verify. Two pieces of evidence with equal offences prove the same thing.
type Offence struct {
	Epoch    uint64
	Kind     string
	Offender string
	KeyID    Hash
	Seq      uint64 // equivocation, flood: the seq; observation, contradiction: the counter
	Space    SeqSpace
	Subject  string // observation, contradiction: whom it speaks of
	Matter   string // observation, contradiction
}

// Key names the offence: one string for one offence, of at most 200 printable
// characters.
func (o *Offence) Key() string {
	return fmt.Sprintf("%s/%d/%s/%d/%d/%s/%s", o.KeyID, o.Epoch, o.Kind, o.Space, o.Seq, o.Matter, o.Subject)
}

// Check checks what needs neither state nor signatures: how many exhibits. The error is a *StatementError.
func (e *Evidence) Check() error {
	want := 2
	switch e.Kind {
	case EvidenceFlood:
		want = 1
	case EvidenceEquivocation, EvidenceObservation, EvidenceContradiction:
	default:
		return &StatementError{Code: "bad_field", Path: "body.kind", Message: fmt.Sprintf("unknown kind %q", e.Kind)}
	}
	if len(e.Exhibits) != want {
		return &StatementError{Code: "bad_field", Path: "body.exhibits", Message: fmt.Sprintf("%s has %d", e.Kind, want)}
	}
	if n := len(e.Public); n != 0 && n != keys.PublicKeySize {
		return &StatementError{Code: "bad_field", Path: "body.public", Message: fmt.Sprintf("want %d bytes", keys.PublicKeySize)}
	}
	return nil
}

// Judge says what exhibits prove, or why they prove nothing. It does not verify
// signatures: whoever acts on it does, both under the one key that the offence
// names. quota is what a seq of the first exhibit's space must stay below.
func Judge(kind string, exhibits []*Statement, quota uint64) (*Offence, error) {
	nothing := func(format string, args ...any) (*Offence, error) {
		return nil, &StatementError{Code: "proves_nothing", Path: "body.exhibits", Message: fmt.Sprintf(format, args...)}
	}
	want := 2
	if kind == EvidenceFlood {
		want = 1
	}
	if len(exhibits) != want {
		return nothing("%s needs %d exhibits", kind, want)
	}
	a := exhibits[0]
	for _, x := range exhibits {
		if x.Payload.Epoch == nil || x.Payload.Seq == nil {
			return nothing("a statement without epoch and seq")
		}
		if x.KeyID != a.KeyID || x.Payload.Author != a.Payload.Author {
			return nothing("they are of two authors")
		}
		if x.Payload.Ledger != a.Payload.Ledger || x.Payload.Generation != a.Payload.Generation {
			return nothing("they are for two ledgers or generations")
		}
	}
	o := &Offence{
		Epoch: *a.Payload.Epoch, Kind: kind, Offender: a.Payload.Author, KeyID: a.KeyID,
		Seq: *a.Payload.Seq, Space: SeqSpaceOf(a.Payload.Type),
	}
	switch kind {
	case EvidenceFlood:
		if o.Seq < quota {
			return nothing("seq %d is below the quota, %d", o.Seq, quota)
		}
		o.Seq = 0 // one offence an epoch and space, however much was sent
		return o, nil
	case EvidenceEquivocation:
		b := exhibits[1]
		switch {
		case *b.Payload.Epoch != o.Epoch || *b.Payload.Seq != o.Seq || SeqSpaceOf(b.Payload.Type) != o.Space:
			return nothing("they have two seqs")
		case a.ID == b.ID:
			return nothing("they are one statement")
		}
		return o, nil
	case EvidenceObservation:
		return judgeObservations(a, exhibits[1], o, nothing)
	case EvidenceContradiction:
		return judgeContradiction(a, exhibits[1], o, nothing)
	}
	return nothing("unknown kind %q", kind)
}

type provesNothing func(format string, args ...any) (*Offence, error)

// judgeObservations is about two observations under one counter. The seqs they
// bear differ, or they would be an equivocation as well.
func judgeObservations(a, b *Statement, o *Offence, nothing provesNothing) (*Offence, error) {
	if a.Payload.Type != TypeObserve || b.Payload.Type != TypeObserve {
		return nothing("they are not two observations")
	}
	x, err := DecodeBody[Observe](a)
	if err != nil {
		return nil, err
	}
	y, err := DecodeBody[Observe](b)
	if err != nil {
		return nil, err
	}
	switch {
	case *a.Payload.Epoch != *b.Payload.Epoch:
		return nothing("they are of two epochs")
	case x.Subject != y.Subject || x.Matter() != y.Matter() || x.Counter != y.Counter:
		return nothing("they have two counters")
	case x == y:
		return nothing("they say the same")
	}
	o.Seq, o.Subject, o.Matter = x.Counter, x.Subject, x.Matter()
	return o, nil
}

// judgeContradiction is about an accusation and an ack. An honest node never
// acknowledges a probe of a tick that it has spoken about, nor accuses for a
// tick in which it answered.
func judgeContradiction(a, b *Statement, o *Offence, nothing provesNothing) (*Offence, error) {
	if a.Payload.Type != TypeObserve || b.Payload.Type != TypeAck {
		return nothing("they are not an observation and an ack")
	}
	x, err := DecodeBody[Observe](a)
	if err != nil {
		return nil, err
	}
	y, err := DecodeBody[Ack](b)
	if err != nil {
		return nil, err
	}
	switch {
	case x.Kind != LinkDown && x.Kind != NodeDown:
		return nothing("%s says nothing of being reached", x.Kind)
	case *a.Payload.Epoch > *b.Payload.Epoch+1 || *b.Payload.Epoch > *a.Payload.Epoch+1:
		// Ticks come again when a policy makes them longer.
		return nothing("they are of epochs %d and %d, more than one apart", *a.Payload.Epoch, *b.Payload.Epoch)
	case x.Subject != y.Prober:
		return nothing("the ack is to another node than the accused")
	case y.Tick < x.From || y.Tick > x.To:
		return nothing("the ack is of tick %d, the accusation of %d to %d", y.Tick, x.From, x.To)
	}
	o.Seq, o.Subject, o.Matter, o.Space = x.Counter, x.Subject, x.Matter(), SpaceMain
	return o, nil
}
