package gossip

import (
	"bytes"

	"github.com/quorate/quorate/ledger"
)

// Proof is evidence that proves itself, and what it proves.
type Proof struct {
	Evidence ledger.Evidence
	Offence  ledger.Offence
}

// Prove makes evidence of a kind from statements whose signatures were verified,
// in the order that FORMAT.md section 17 names. quota is what a seq of their
// space must stay below. The error says why they prove nothing, or that they are
// too long for one statement.
func Prove(kind string, quota uint64, exhibits ...*ledger.Statement) (*Proof, error) {
	offence, err := ledger.Judge(kind, exhibits, quota)
	if err != nil {
		return nil, err
	}
	p := &Proof{Evidence: ledger.Evidence{Kind: kind}, Offence: *offence}
	length := 0
	for _, x := range exhibits {
		p.Evidence.Exhibits = append(p.Evidence.Exhibits, bytes.Clone(x.Envelope))
		length += (len(x.Envelope)*4 + 2) / 3
	}
	if length > ledger.MaxPayloadBytes-payloadAround {
		return nil, &ledger.StatementError{Code: "too_large", Path: "body.exhibits", Message: "the exhibits do not fit one statement"}
	}
	return p, nil
}

// payloadAround is the bytes of an evidence's payload beside its exhibits, at
// most, without the public half of their key.
const payloadAround = 1_024

// With is the evidence with the public half of its exhibits' key, which it has to bring
// once the state has it no longer. The error says that it does not fit.
func (p *Proof) With(public []byte) (ledger.Evidence, error) {
	e := p.Evidence
	e.Public = public
	length := (len(public)*4 + 2) / 3
	for _, x := range e.Exhibits {
		length += (len(x)*4 + 2) / 3
	}
	if length > ledger.MaxPayloadBytes-payloadAround {
		return e, &ledger.StatementError{Code: "too_large", Path: "body.public", Message: "the exhibits and their key do not fit one statement"}
	}
	return e, nil
}

// ProveAny makes the evidence that two verified statements are, of whichever
// kind and in whichever order; the gravest kind if they are of several. Nil: they
// prove nothing.
func ProveAny(rules *Rules, a, b *ledger.Statement) *Proof {
	for _, kind := range [...]string{ledger.EvidenceEquivocation, ledger.EvidenceObservation} {
		if p, err := Prove(kind, 0, a, b); err == nil {
			return p
		}
	}
	for _, pair := range [...][2]*ledger.Statement{{a, b}, {b, a}} {
		if p, err := Prove(ledger.EvidenceContradiction, 0, pair[0], pair[1]); err == nil {
			return p
		}
	}
	for _, st := range [...]*ledger.Statement{a, b} {
		if p := ProveFlood(rules, st); p != nil {
			return p
		}
	}
	return nil
}

// ProveFlood makes the evidence that one verified statement is, or nil.
func ProveFlood(rules *Rules, st *ledger.Statement) *Proof {
	p, err := Prove(ledger.EvidenceFlood, rules.QuotaOf(ledger.SeqSpaceOf(st.Payload.Type)), st)
	if err != nil {
		return nil
	}
	return p
}

// Excludes reports whether the ledger excludes a node for an offence of this
// kind, whatever it did before.
func Excludes(kind string) bool {
	return kind == ledger.EvidenceEquivocation || kind == ledger.EvidenceObservation
}

// Offences remembers which offences are known, and of which evidence is on its
// way, so that each is proven once and brought once. It forgets the oldest beyond
// MaxOffences.
type Offences struct {
	known map[string]bool // whether evidence was brought
	order []string
}

// NewOffences returns an empty memory.
func NewOffences() *Offences { return &Offences{known: map[string]bool{}} }

// Brought reports whether evidence of an offence was brought.
func (o *Offences) Brought(offence *ledger.Offence) bool { return o.known[offence.Key()] }

// Add reports whether the offence is news, and remembers it.
func (o *Offences) Add(offence *ledger.Offence) bool {
	_, there := o.known[offence.Key()]
	if !there {
		o.note(offence.Key(), false)
	}
	return !there
}

// Bring remembers that somebody brought evidence of an offence, or that it stands
// on the ledger.
func (o *Offences) Bring(offence *ledger.Offence) { o.note(offence.Key(), true) }

func (o *Offences) note(key string, brought bool) {
	if _, there := o.known[key]; !there {
		o.order = append(o.order, key)
	}
	o.known[key] = brought
	if len(o.order) > MaxOffences {
		delete(o.known, o.order[0])
		o.order = append([]string(nil), o.order[1:]...)
	}
}
