package fsm

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// model drives the rules themselves through thousands of epochs: real
// statements, entries and seals, but every signature is junk and the verifier
// trusts, so that no ML-DSA is computed. What each attack does to a fleet, in
// figures, is in DESIGN.md, "Simulated figures"; each of its rows is a test in
// one of the files model*_test.go.
type model struct {
	t       testing.TB
	state   *State
	policy  ledger.Policy
	protect ledger.Protection
	now     uint64
	nonces  uint64
	counter uint64
	seqs    map[string]uint64
	ids     map[string]ledger.Hash // key ids

	happened []event
	refused  map[Code]int

	watched map[string]bool            // whom the attestors speak of
	faulty  map[string]map[uint64]bool // who gave cause for complaint, and in which epochs
	word    func(m ledger.Monitor, subject string, epoch uint64, clean bool) attestation
}

// event is an effect on a node.
type event struct {
	epoch uint64
	typ   string
	name  string
	kind  string
}

// attestation is what an attestor says of a node in an epoch.
type attestation int

const (
	silent attestation = iota
	attestsClean
	attestsCause
)

func newModel(t testing.TB, operators, nodes int, change ...func(*ledger.Genesis)) *model {
	t.Helper()
	g := defaultGenesis()
	g.Format = 2
	for i := range operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: operatorName(i), Sponsor: "alpha"})
	}
	slices.SortFunc(g.Operators, func(a, b ledger.Operator) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	for _, c := range change {
		c(g)
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(entry)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{
		t: t, state: s, policy: g.Policy, protect: g.Policy.Protects(), now: g.Created,
		seqs: map[string]uint64{}, ids: map[string]ledger.Hash{}, refused: map[Code]int{},
		watched: map[string]bool{}, faulty: map[string]map[uint64]bool{},
	}
	for _, name := range []string{"alice", "bob", "r1"} {
		m.ids[name] = ledger.Hash(keyNamed(name).ID())
	}
	m.admitFleet(operators, nodes)
	m.apply(ledger.CommandSeal)
	return m
}

func (m *model) admitFleet(operators, nodes int) {
	var seats []seat
	for i := range operators {
		for j := range nodes {
			seats = append(seats, seat{nodeName(i, j), operatorName(i)})
		}
	}
	m.admit(seats...)
}

type seat struct{ name, operator string }

// admit has governors admit nodes. Their keys are junk.
func (m *model) admit(seats ...seat) {
	m.t.Helper()
	for chunk := range slices.Chunk(seats, ledger.MaxJoins) {
		var joins [][]byte
		args := admitArgs{}
		for _, s := range chunk {
			public := filler("public "+s.name+fmt.Sprint(m.now), keys.PublicKeySize)
			body := ledger.Join{Name: s.name, Operator: s.operator, Peer: filler("peer "+s.name, 32), Public: public}
			m.ids[s.name] = keyIDOf(body)
			join := m.envelope(s.name, ledger.TypeJoin, body, nil)
			joins, args.Joins = append(joins, join), append(args.Joins, idOf(join))
		}
		m.must(joins...)
		m.decide("node.admit", args)
	}
}

// decide has two governors decide.
func (m *model) decide(action string, args any) {
	m.t.Helper()
	raw, err := canon.Marshal(args)
	if err != nil {
		m.t.Fatal(err)
	}
	base, err := m.state.BaseFor(action, raw)
	if err != nil {
		m.t.Fatalf("base of %s: %v", action, err)
	}
	p := m.envelope("alice", ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base}, nil)
	m.must(p, m.envelope("bob", ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}, nil))
}

// envelope makes a statement with a junk signature, under the key that its author has.
// seq is for one that is said out of turn.
func (m *model) envelope(author, typ string, body any, seq *uint64) []byte {
	m.t.Helper()
	next := m.seqs[author]
	if seq == nil {
		seq = &next
		if m.replayForm(author, typ) == ledger.ReplayEpochSeq {
			m.seqs[author]++
		}
	}
	return m.said(author, m.ids[author], typ, body, m.state.Epoch(), *seq)
}

// replayForm is the form that an author's statements of a type have.
func (m *model) replayForm(author, typ string) ledger.Replay {
	form, _ := ledger.ReplayForm(typ)
	if form != ledger.ReplayEither {
		return form
	}
	if _, ok := m.state.Governor(author); ok {
		return ledger.ReplayNonce
	}
	return ledger.ReplayEpochSeq
}

// said makes a statement under any key, with a junk signature, of an epoch and seq if
// its form has them.
func (m *model) said(author string, key ledger.Hash, typ string, body any, epoch, seq uint64) []byte {
	m.t.Helper()
	raw, err := canon.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	meta := m.state.Meta()
	p := ledger.Payload{Author: author, Body: raw, Generation: meta.Generation, Ledger: meta.Ledger, Type: typ}
	switch m.replayForm(author, typ) {
	case ledger.ReplayNonce:
		m.nonces++
		p.Nonce = binary.BigEndian.AppendUint64(make([]byte, 8, 16), m.nonces)
		p.Expires = m.now + 3_600_000
	case ledger.ReplayEpochSeq:
		p.Epoch, p.Seq = &epoch, &seq
	}
	payload, err := canon.Marshal(p)
	if err != nil {
		m.t.Fatal(err)
	}
	e := keys.Envelope{KeyID: keys.ID(key), Type: "quorate/" + typ + ".v1", Payload: payload, Signature: junkSignature}
	return e.Bytes()
}

var junkSignature = make([]byte, keys.SignatureSize)

func (m *model) apply(kind ledger.CommandKind, envelopes ...[]byte) Result {
	m.t.Helper()
	next, result := Apply(m.state, &ledger.Command{Kind: kind, Stamp: m.now, Statements: envelopes}, trusting{})
	m.state = next
	for _, b := range result.Entries {
		m.note(b)
	}
	return result
}

func (m *model) note(entry []byte) {
	m.t.Helper()
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		m.t.Fatal(err)
	}
	if e.Kind != ledger.KindEffect {
		return
	}
	effect, err := e.Effect()
	if err != nil {
		m.t.Fatal(err)
	}
	switch effect.Type {
	case EffectVerdict, EffectOffence, EffectQuarantined, EffectReleased, EffectExcluded, EffectBreaker, EffectPartition, EffectLink:
	default:
		return
	}
	var about struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(effect.Body, &about); err != nil {
		m.t.Fatal(err)
	}
	m.happened = append(m.happened, event{epoch: m.state.Epoch(), typ: effect.Type, name: about.Name, kind: about.Kind})
}

// must applies a bundle that is accepted.
func (m *model) must(envelopes ...[]byte) {
	m.t.Helper()
	for _, v := range m.apply(ledger.CommandStatements, envelopes...).Verdicts {
		if v.Code != OK {
			m.t.Fatalf("refused: %s at %s: %s", v.Code, v.Path, v.Detail)
		}
	}
}

// try applies a statement that may be refused.
func (m *model) try(envelope []byte) Code {
	m.t.Helper()
	code := m.apply(ledger.CommandStatements, envelope).Verdicts[0].Code
	m.refused[code]++
	return code
}

func (m *model) node(name string) *NodeRecord {
	m.t.Helper()
	n, ok := m.state.Node(name)
	if !ok {
		m.t.Fatalf("no node %s", name)
	}
	return &n
}

func (m *model) reputation(name string) *ReputationRecord { return m.state.reputation(name) }

// votes reports whether a node's word counts.
func (m *model) votes(name string) bool {
	p := m.protect
	return m.state.eligible(m.node(name), &p)
}

func (m *model) monitors(subject string) []ledger.Monitor {
	m.t.Helper()
	return m.state.Monitors(m.node(subject), m.state.Epoch(), m.state.Electorate())
}

func (m *model) tick() uint64 { return m.now / m.policy.TickMillis }

// observe says what a node saw, from some ticks ago until now.
func (m *model) observe(author, kind, subject string, ago uint64) Code {
	m.t.Helper()
	m.counter++
	body := ledger.Observe{Kind: kind, Subject: subject, Counter: m.counter, From: m.tick() - ago, To: m.tick()}
	if kind == ledger.NodeBad {
		body.Cause = ledger.CauseWithheld
	}
	return m.try(m.envelope(author, ledger.TypeObserve, body, nil))
}

// flood proves a flood of a node: a minor offence, once an epoch.
func (m *model) flood(name string) {
	m.t.Helper()
	quota := m.policy.Quota
	exhibit := m.envelope(name, ledger.TypeRecord, ledger.Record{Text: "too much"}, &quota)
	m.must(m.envelope("r1", ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{exhibit}}, nil))
	m.fault(name)
}

// equivocation is evidence of two statements of a node under one seq.
func (m *model) equivocation(name string) ledger.Evidence {
	seq := uint64(999)
	say := func(text string) []byte {
		return m.envelope(name, ledger.TypeRecord, ledger.Record{Text: text}, &seq)
	}
	return ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{say("to some"), say("to others")}}
}

// fault takes note that a node gives cause for complaint in this epoch.
func (m *model) fault(name string) {
	if m.faulty[name] == nil {
		m.faulty[name] = map[uint64]bool{}
	}
	m.faulty[name][m.state.Epoch()] = true
}

// epoch lets the epoch pass, and has those who are drawn attest when a window
// is over.
func (m *model) epoch() {
	m.t.Helper()
	m.apply(ledger.CommandSeal)
	m.now = m.state.Meta().EpochStart + m.policy.EpochMillis
	m.apply(ledger.CommandTick)
	clear(m.seqs)
	if m.state.Epoch()%m.protect.AttestEpochs == 0 && len(m.watched) > 0 {
		m.attest()
	}
	m.apply(ledger.CommandSeal)
}

// attest has every node that is drawn for the window that is over say what it
// knows of those who are watched.
func (m *model) attest() {
	m.t.Helper()
	first := m.state.Epoch() - m.protect.AttestEpochs
	seed, ok := m.state.Seed(first)
	if !ok {
		return
	}
	electorate := m.state.Electorate()
	drawn := uint64(min(m.protect.DrawnOf(len(electorate.Stables)), len(electorate.Stables)))
	said := map[string]map[uint64][2][]uint32{} // by attestor and epoch: clean, cause
	for _, subject := range sortedKeys(m.watched) {
		n := m.node(subject)
		for epoch := first; epoch < first+m.protect.AttestEpochs; epoch++ {
			for _, w := range m.state.Monitors(n, epoch, electorate) {
				if !ledger.Attests(seed, w.Node, m.protect.Attestors, drawn) {
					continue
				}
				m.speak(said, w, n, epoch)
			}
		}
	}
	for _, name := range sortedKeys(said) {
		body := ledger.Attest{}
		for _, epoch := range sortedEpochs(said[name]) {
			body.Epochs = append(body.Epochs, attestedEpoch(epoch, said[name][epoch]))
		}
		m.try(m.envelope(name, ledger.TypeAttest, body, nil))
	}
}

func (m *model) speak(said map[string]map[uint64][2][]uint32, w ledger.Monitor, n *NodeRecord, epoch uint64) {
	clean := !m.faulty[n.Name][epoch]
	word := attestsCause
	if clean {
		word = attestsClean
	}
	if m.word != nil {
		word = m.word(w, n.Name, epoch, clean)
	}
	if word == silent {
		return
	}
	if said[w.Node] == nil {
		said[w.Node] = map[uint64][2][]uint32{}
	}
	lists := said[w.Node][epoch]
	lists[word-attestsClean] = append(lists[word-attestsClean], uint32(n.Ordinal))
	said[w.Node][epoch] = lists
}

func attestedEpoch(epoch uint64, lists [2][]uint32) ledger.AttestedEpoch {
	slices.Sort(lists[0])
	slices.Sort(lists[1])
	return ledger.AttestedEpoch{Cause: ledger.EncodeOrdinals(lists[1]), Clean: ledger.EncodeOrdinals(lists[0]), Epoch: epoch}
}

func sortedEpochs(m map[uint64][2][]uint32) []uint64 {
	epochs := make([]uint64, 0, len(m))
	for e := range m {
		epochs = append(epochs, e)
	}
	slices.Sort(epochs)
	return epochs
}

// count counts what happened to nodes that which holds of.
func (m *model) count(typ string, which func(name string) bool) int {
	n := 0
	for _, e := range m.happened {
		if e.typ == typ && (which == nil || which(e.name)) {
			n++
		}
	}
	return n
}

// honestHurt counts the honest nodes that were ever quarantined or excluded.
func (m *model) honestHurt(honest func(name string) bool) int {
	return m.count(EffectQuarantined, honest) + m.count(EffectExcluded, honest)
}

// operatorOf gives the index of the operator that a fleet's node belongs to.
func operatorOf(name string) int {
	var operator, node int
	if _, err := fmt.Sscanf(name, "n-%d-%d", &operator, &node); err != nil {
		return -1
	}
	return operator
}

func within(t *testing.T, what string, got, want, margin float64) {
	t.Helper()
	t.Logf("%s: %.4g", what, got)
	if got < want-margin || got > want+margin {
		t.Errorf("%s: %.4g, want %.4g ± %.4g", what, got, want, margin)
	}
}

// wholeModel skips what takes long unless all of the model is asked for: make
// model.
func wholeModel(t *testing.T) {
	t.Helper()
	if os.Getenv("QUORATE_MODEL") == "" {
		t.Skip("make model runs it")
	}
}
