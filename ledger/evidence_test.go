package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// said is a statement of a test node.
func said(t testing.TB, author, typ string, epoch, seq uint64, body any) *Statement {
	t.Helper()
	envelope, err := Sign(testKey(author), Payload{Author: author, Epoch: &epoch, Ledger: Hash{7}, Seq: &seq, Type: typ}, body)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func down(subject string, counter, from, to uint64) Observe {
	return Observe{Kind: NodeDown, Subject: subject, Counter: counter, From: from, To: to}
}

// judgedQuota is the quota under which judged's cases stand.
const judgedQuota = 10

type judgedCase struct {
	name, kind string
	exhibits   []*Statement
	offence    string // without the key id; "" when nothing is proven
}

func judged(t testing.TB) []judgedCase {
	a := said(t, "n1", TypeRecord, 4, 9, Record{Text: "a"})
	b := said(t, "n1", TypeRecord, 4, 9, Record{Text: "b"})
	later := said(t, "n1", TypeRecord, 5, 9, Record{Text: "b"})
	next := said(t, "n1", TypeRecord, 4, 10, Record{Text: "b"})
	other := said(t, "n2", TypeRecord, 4, 9, Record{Text: "b"})
	probe := said(t, "n1", TypeProbe, 4, 9, Probe{Nonce: make([]byte, 16), Subject: "n2", Tick: 1})
	acked := said(t, "n1", TypeAck, 4, 12, Ack{Challenge: Hash{1}, Prober: "n2", Tick: 15})
	accused := said(t, "n1", TypeObserve, 4, 11, down("n2", 1, 10, 15))
	before := said(t, "n1", TypeObserve, 4, 11, down("n2", 1, 10, 14))
	again := said(t, "n1", TypeObserve, 4, 13, down("n2", 1, 10, 16))
	up := said(t, "n1", TypeObserve, 4, 14, Observe{Kind: NodeUp, Subject: "n2", Counter: 1, From: 10, To: 15})
	link := said(t, "n1", TypeObserve, 4, 14, Observe{Kind: LinkDown, Subject: "n2", Counter: 1, From: 10, To: 15})
	second := said(t, "n1", TypeObserve, 4, 14, down("n2", 2, 10, 15))
	repeated := said(t, "n1", TypeObserve, 4, 15, down("n2", 1, 10, 15))
	third := said(t, "n1", TypeObserve, 4, 14, down("n3", 1, 10, 15))

	return []judgedCase{
		{"two of one seq", EvidenceEquivocation, []*Statement{a, b}, "/4/equivocation/0/9//"},
		{"one twice", EvidenceEquivocation, []*Statement{a, a}, ""},
		{"of two epochs", EvidenceEquivocation, []*Statement{a, later}, ""},
		{"of two seqs", EvidenceEquivocation, []*Statement{a, next}, ""},
		{"of two authors", EvidenceEquivocation, []*Statement{a, other}, ""},
		{"of two spaces", EvidenceEquivocation, []*Statement{a, probe}, ""},
		{"one exhibit", EvidenceEquivocation, []*Statement{a}, ""},
		{"above the quota", EvidenceFlood, []*Statement{next}, "/4/flood/0/0//"},
		{"the last below the quota", EvidenceFlood, []*Statement{a}, ""},
		{"two meanings of a counter", EvidenceObservation, []*Statement{accused, again}, "/4/observation/0/1/node/n2"},
		{"down and up", EvidenceObservation, []*Statement{accused, up}, "/4/observation/0/1/node/n2"},
		{"of two matters", EvidenceObservation, []*Statement{accused, link}, ""},
		{"of two counters", EvidenceObservation, []*Statement{accused, second}, ""},
		{"of two subjects", EvidenceObservation, []*Statement{accused, third}, ""},
		{"the same said twice", EvidenceObservation, []*Statement{accused, repeated}, ""},
		{"an ack in the accused ticks", EvidenceContradiction, []*Statement{accused, acked}, "/4/contradiction/0/1/node/n2"},
		{"of a link", EvidenceContradiction, []*Statement{link, acked}, "/4/contradiction/0/1/link/n2"},
		{"an ack after them", EvidenceContradiction, []*Statement{before, acked}, ""},
		{"an ack to another", EvidenceContradiction, []*Statement{third, acked}, ""},
		{"it says up", EvidenceContradiction, []*Statement{up, acked}, ""},
		{"the wrong way round", EvidenceContradiction, []*Statement{acked, accused}, ""},
		{"unknown kind", "rumour", []*Statement{a, b}, ""},
	}
}

func TestJudge(t *testing.T) {
	for _, c := range judged(t) {
		t.Run(c.name, func(t *testing.T) {
			o, err := Judge(c.kind, c.exhibits, judgedQuota)
			if c.offence == "" {
				var bad *StatementError
				if !errors.As(err, &bad) || o != nil {
					t.Fatalf("offence %v, error %v", o, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := c.exhibits[0].KeyID.String() + c.offence; o.Key() != want || o.Offender != "n1" {
				t.Errorf("%s of %s, want %s", o.Key(), o.Offender, want)
			}
		})
	}
}

func TestObservationForms(t *testing.T) {
	good := Observe{Kind: NodeBad, Cause: CauseMute, Subject: "n2", Counter: 1, From: 3, To: 3}
	if err := good.Check("n1"); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Observe){
		"of itself":       func(o *Observe) { o.Subject = "n1" },
		"no name":         func(o *Observe) { o.Subject = "N 2" },
		"counter 0":       func(o *Observe) { o.Counter = 0 },
		"backwards":       func(o *Observe) { o.To = 2 },
		"too long":        func(o *Observe) { o.To = o.From + MaxObservedTicks + 1 },
		"unknown kind":    func(o *Observe) { o.Kind = "node.odd" },
		"unknown cause":   func(o *Observe) { o.Cause = "dislike" },
		"cause of a down": func(o *Observe) { o.Kind = NodeDown },
	} {
		o := good
		change(&o)
		if err := o.Check("n1"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestProbeForms(t *testing.T) {
	one := Probe{Nonce: make([]byte, ProbeNonceBytes), Subject: "n2", Tick: 7}
	several := Probe{Nonce: make([]byte, ProbeNonceBytes), Subjects: []string{"n2", "n3"}, Tick: 7}
	for _, good := range []Probe{one, several} {
		if err := good.Check("n1"); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	if !one.Asks("n2") || one.Asks("n3") || !several.Asks("n3") || several.Asks("n4") || several.Asks("") {
		t.Error("a probe asks others than it names")
	}
	for name, change := range map[string]func(one, several *Probe){
		"a short nonce": func(o, s *Probe) { o.Nonce, s.Nonce = o.Nonce[1:], s.Nonce[1:] },
		"of itself":     func(o, s *Probe) { o.Subject, s.Subjects = "n1", []string{"n1", "n2"} },
		"no name":       func(o, s *Probe) { o.Subject, s.Subjects = "N 2", []string{"", "n2"} },
		"nobody":        func(o, s *Probe) { o.Subject, s.Subjects = "", nil },
		"both":          func(o, s *Probe) { o.Subjects, s.Subject = s.Subjects, "n2" },
		"a list of one": func(o, s *Probe) { o.Subject, o.Subjects, s.Subjects = "", []string{"n2"}, []string{"n2"} },
		"twice":         func(o, s *Probe) { o.Subject, o.Subjects, s.Subjects = "", []string{"n2", "n2"}, []string{"n3", "n3"} },
		"out of order":  func(o, s *Probe) { o.Subject, o.Subjects, s.Subjects = "", []string{"n3", "n2"}, []string{"n3", "n2"} },
		"more than fit": func(o, s *Probe) {
			o.Subject, o.Subjects, s.Subjects = "", names(MaxProbeSubjects+1), names(MaxProbeSubjects+1)
		},
		"a list and none": func(o, s *Probe) { o.Subject, o.Subjects, s.Subjects = "", nil, []string{} },
	} {
		o, s := one, several
		change(&o, &s)
		for _, p := range []Probe{o, s} {
			if err := p.Check("n1"); err == nil {
				t.Errorf("%s: accepted %+v", name, p)
			}
		}
	}
	most := Probe{Nonce: make([]byte, ProbeNonceBytes), Subjects: names(MaxProbeSubjects)}
	if err := most.Check("n1"); err != nil {
		t.Error(err)
	}
}

// names are n different names of the greatest length, ascending.
func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("n-%061d", i)
	}
	return out
}

func TestAttestForms(t *testing.T) {
	ordinals := []uint32{0, 5, 1 << 16, 1<<24 - 1}
	a := Attest{Epochs: []AttestedEpoch{{Clean: EncodeOrdinals(ordinals), Epoch: 3}, {Epoch: 4}}}
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	got, err := a.Epochs[0].Ordinals()
	if err != nil || len(got) != 4 || got[3] != 1<<24-1 || got[2] != 1<<16 {
		t.Errorf("%v, %v", got, err)
	}
	many := make([]uint32, MaxAttested)
	for i := range many {
		many[i] = uint32(i)
	}
	for name, bad := range map[string]Attest{
		"no epoch":          {},
		"not ascending":     {Epochs: []AttestedEpoch{{Epoch: 4}, {Epoch: 4}}},
		"a broken ordinal":  {Epochs: []AttestedEpoch{{Clean: []byte{1, 2}}}},
		"one ordinal twice": {Epochs: []AttestedEpoch{{Clean: EncodeOrdinals([]uint32{5, 5})}}},
		"too many epochs":   {Epochs: make([]AttestedEpoch, MaxAttestEpochs+1)},
		"too many in all":   {Epochs: []AttestedEpoch{{Clean: EncodeOrdinals(many), Epoch: 1}, {Clean: EncodeOrdinals([]uint32{1}), Epoch: 2}}},
	} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEvidenceForms(t *testing.T) {
	for name, c := range map[string]struct {
		kind     string
		exhibits int
		ok       bool
	}{
		"two":             {EvidenceEquivocation, 2, true},
		"a flood's one":   {EvidenceFlood, 1, true},
		"a flood's two":   {EvidenceFlood, 2, false},
		"one of two":      {EvidenceObservation, 1, false},
		"three":           {EvidenceContradiction, 3, false},
		"an unknown kind": {"rumour", 2, false},
	} {
		e := Evidence{Kind: c.kind, Exhibits: make([][]byte, c.exhibits)}
		if err := e.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two statements of a node, as large as they may be, fit one evidence.
func TestTwoExhibitsFit(t *testing.T) {
	text := strings.Repeat("x", MaxNodePayloadBytes-300)
	a := said(t, "n1", TypeRecord, 1<<40, 1<<40, Record{Text: text})
	b := said(t, "n1", TypeRecord, 1<<40, 1<<40, Record{Text: "y" + text[1:]})
	if n := len(a.PayloadBytes()); n > MaxNodePayloadBytes || n < MaxNodePayloadBytes-200 {
		t.Fatalf("payload of %d bytes", n)
	}
	said(t, "n2", TypeEvidence, 1<<40, 1<<40, Evidence{Kind: EvidenceEquivocation, Exhibits: [][]byte{a.Envelope, b.Envelope}})
}
