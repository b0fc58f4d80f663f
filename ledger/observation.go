package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The statements of nodes (FORMAT.md section 17), from format 2 on.
const (
	TypeProbe    = "probe"
	TypeAck      = "ack"
	TypeObserve  = "observe"
	TypeEvidence = "evidence"
	TypeAttest   = "attest"
)

// SeqSpace is which seqs a statement is counted among: an author has one row of
// seqs for each space in each epoch.
type SeqSpace uint8

// Probes are many and never reach the ledger by themselves, so they do not use
// up the seqs of what does.
const (
	SpaceMain SeqSpace = iota
	SpaceProbe
)

// SeqSpaceOf returns the space of a statement type.
func SeqSpaceOf(typ string) SeqSpace {
	if typ == TypeProbe || typ == TypeAck {
		return SpaceProbe
	}
	return SpaceMain
}

// Probe is the body of a probe: the author asks Subject, or each of Subjects, for an
// ack. Its statement id is the challenge.
type Probe struct {
	Nonce    []byte   `json:"nonce"`              // 16 bytes, drawn anew, so that no ack is made in advance
	Subject  string   `json:"subject,omitempty"`  // exactly one of the two
	Subjects []string `json:"subjects,omitempty"` // 2 to MaxProbeSubjects, ascending
	Tick     uint64   `json:"tick"`               // of the author's clock
}

// Asks reports whether the probe asks node name.
func (p *Probe) Asks(name string) bool {
	if len(p.Subjects) > 0 {
		return slices.Contains(p.Subjects, name)
	}
	return p.Subject == name
}

// Check checks what needs no state. The error is a *StatementError.
func (p *Probe) Check(author string) error {
	bad := func(path, format string, args ...any) error {
		return &StatementError{Code: "bad_field", Path: "body." + path, Message: fmt.Sprintf(format, args...)}
	}
	asked, path := p.Subjects, "subjects"
	switch n := len(p.Subjects); {
	case len(p.Nonce) != ProbeNonceBytes:
		return bad("nonce", "want %d bytes", ProbeNonceBytes)
	case n == 0:
		asked, path = []string{p.Subject}, "subject"
	case p.Subject != "":
		return bad("subject", "not beside subjects")
	case n < 2 || n > MaxProbeSubjects:
		return bad("subjects", "want 2 to %d", MaxProbeSubjects)
	}
	for i, name := range asked {
		switch err := ValidName(name); {
		case err != nil:
			return bad(path, "%s", err)
		case name == author:
			return bad(path, "nobody probes itself")
		case i > 0 && name <= asked[i-1]:
			return bad(path, "want ascending names")
		}
	}
	return nil
}

// Ack is the body of an ack: the author was reached by Prober's probe.
type Ack struct {
	Challenge Hash   `json:"challenge"` // statement id of the probe
	Prober    string `json:"prober"`
	Tick      uint64 `json:"tick"` // that of the probe
}

// The kinds of an observation.
const (
	LinkDown = "link.down"
	LinkUp   = "link.up"
	NodeDown = "node.down"
	NodeUp   = "node.up"
	NodeBad  = "node.bad"
)

// The causes of a node.bad observation: what its author saw, in the words of
// a closed list.
const (
	CauseInvalid  = "invalid"  // relayed statements that do not verify
	CauseWithheld = "withheld" // did not relay what it had
	CauseMute     = "mute"     // acknowledges probes and says nothing else
	CauseHeads    = "heads"    // served a rolled-back, forked or frozen ledger
	CauseProtocol = "protocol" // oversized or malformed frames
)

// Observe is the body of an observe statement: what a node saw of Subject. Of a
// link, the author is the near end and Subject the far one.
type Observe struct {
	Cause   string `json:"cause,omitempty"` // of node.bad
	Counter uint64 `json:"counter"`         // from 1; one meaning for each author, epoch, subject and matter
	From    uint64 `json:"from"`            // the first tick of which it speaks
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	To      uint64 `json:"to"` // the last
}

// Matter is what an observation is about: "link", "node" or "bad".
func (o *Observe) Matter() string {
	switch o.Kind {
	case LinkDown, LinkUp:
		return "link"
	case NodeBad:
		return "bad"
	}
	return "node"
}

// Down reports whether the observation says that something failed.
func (o *Observe) Down() bool {
	return o.Kind == LinkDown || o.Kind == NodeDown || o.Kind == NodeBad
}

// Check checks what needs no state. The error is a *StatementError.
func (o *Observe) Check(author string) error {
	bad := func(path, format string, args ...any) error {
		return &StatementError{Code: "bad_field", Path: "body." + path, Message: fmt.Sprintf(format, args...)}
	}
	if err := ValidName(o.Subject); err != nil {
		return bad("subject", "%s", err)
	}
	switch {
	case o.Subject == author:
		return bad("subject", "nobody observes itself")
	case o.Counter < 1:
		return bad("counter", "counted from 1")
	case o.From > o.To || o.To-o.From > MaxObservedTicks:
		return bad("from", "want from <= to, at most %d ticks", MaxObservedTicks)
	}
	switch o.Kind {
	case LinkDown, LinkUp, NodeDown, NodeUp:
		if o.Cause != "" {
			return bad("cause", "only node.bad has one")
		}
	case NodeBad:
		switch o.Cause {
		case CauseInvalid, CauseWithheld, CauseMute, CauseHeads, CauseProtocol:
		default:
			return bad("cause", "unknown cause %q", o.Cause)
		}
	default:
		return bad("kind", "unknown kind %q", o.Kind)
	}
	return nil
}

// Attest is the body of an attest statement: of each epoch since the author's
// last one, which of the nodes that it monitored gave no cause for complaint, and
// which did. Of the others it says nothing.
type Attest struct {
	Epochs []AttestedEpoch `json:"epochs"` // ascending
}

// AttestedEpoch is one epoch of an attestation.
type AttestedEpoch struct {
	Cause []byte `json:"cause,omitempty"` // as Clean: nodes that gave cause for complaint
	Clean []byte `json:"clean"`           // ordinals of nodes, 3 bytes each, big-endian, ascending
	Epoch uint64 `json:"epoch"`
}

// Ordinals decodes the nodes that an attested epoch calls clean. The error is a
// *StatementError.
func (e *AttestedEpoch) Ordinals() ([]uint32, error) { return DecodeOrdinals("clean", e.Clean) }

// Complaints decodes the nodes that gave cause for complaint. The error is a
// *StatementError.
func (e *AttestedEpoch) Complaints() ([]uint32, error) { return DecodeOrdinals("cause", e.Cause) }

// DecodeOrdinals reads what EncodeOrdinals gives. The error is a
// *StatementError that names the field.
func DecodeOrdinals(field string, b []byte) ([]uint32, error) {
	bad := func(format string, args ...any) error {
		return &StatementError{Code: "bad_field", Path: "body.epochs", Message: field + ": " + fmt.Sprintf(format, args...)}
	}
	if len(b)%3 != 0 || len(b) > 3*MaxAttested {
		return nil, bad("want 3 bytes a node, at most %d nodes", MaxAttested)
	}
	ordinals := make([]uint32, 0, len(b)/3)
	for c := range slices.Chunk(b, 3) {
		n := binary.BigEndian.Uint32([]byte{0, c[0], c[1], c[2]})
		if len(ordinals) > 0 && n <= ordinals[len(ordinals)-1] {
			return nil, bad("the ordinals do not ascend")
		}
		ordinals = append(ordinals, n)
	}
	return ordinals, nil
}

// EncodeOrdinals encodes ascending ordinals below 2^24 for an AttestedEpoch.
func EncodeOrdinals(ordinals []uint32) []byte {
	out := make([]byte, 0, 3*len(ordinals))
	for _, n := range ordinals {
		invariant(n < 1<<24, "an ordinal fits 3 bytes")
		out = append(out, byte(n>>16), byte(n>>8), byte(n))
	}
	return out
}

// Check checks what needs no state. The error is a *StatementError.
func (a *Attest) Check() error {
	if len(a.Epochs) < 1 || len(a.Epochs) > MaxAttestEpochs {
		return &StatementError{Code: "bad_field", Path: "body.epochs", Message: fmt.Sprintf("want 1 to %d epochs", MaxAttestEpochs)}
	}
	total := 0
	for i := range a.Epochs {
		if i > 0 && a.Epochs[i].Epoch <= a.Epochs[i-1].Epoch {
			return &StatementError{Code: "bad_field", Path: "body.epochs", Message: "the epochs do not ascend"}
		}
		ordinals, err := a.Epochs[i].Ordinals()
		if err != nil {
			return err
		}
		complaints, err := a.Epochs[i].Complaints()
		if err != nil {
			return err
		}
		total += len(ordinals) + len(complaints)
		for _, n := range complaints {
			if _, both := slices.BinarySearch(ordinals, n); both {
				return &StatementError{Code: "bad_field", Path: "body.epochs", Message: "a node is in clean and in cause"}
			}
		}
	}
	if total > MaxAttested {
		return &StatementError{Code: "bad_field", Path: "body.epochs", Message: fmt.Sprintf("at most %d nodes in all", MaxAttested)}
	}
	return nil
}
