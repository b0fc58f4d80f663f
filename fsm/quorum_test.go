package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// quorumOperators is such that of the six that are drawn four are two thirds, and
// no quorum.
const quorumOperators = 7

// Random histories of every statement of format 2, in which nothing critical ever
// takes effect without its quorum, as a naive reader of the entries counts it, and
// every reputation is what a naive twin of those rules has.
func TestNothingCriticalWithoutItsQuorum(t *testing.T) {
	start := newQuorumStart(t)
	wanted := []string{ledger.NodeDown, ledger.NodeUp, ledger.NodeBad, ledger.LinkDown, ledger.LinkUp, EffectQuarantined, EffectExcluded, EffectOffence,
		ledger.TypeAttest, "credit", "evidence flood", "evidence contradiction", "evidence observation", "node.quarantine", "node.release"}
	randomHistories(t, wanted, func(seed uint64) (*State, []string, map[string]int) {
		h := newQuorumHistory(start, seed)
		for range 36 {
			h.step()
		}
		return h.state, h.wrong, h.happened
	})
}

// The reader of the test above does see what is wrong.
func TestQuorumReaderSeesWhatIsWrong(t *testing.T) {
	start := newQuorumStart(t)
	for name, spoil := range map[string]func(h *quorumHistory, e *ledger.Effect){
		"a word less":           func(_ *quorumHistory, e *ledger.Effect) { e.Causes = e.Causes[1:] },
		"a word twice":          func(_ *quorumHistory, e *ledger.Effect) { e.Causes[1] = e.Causes[0] },
		"another's observation": func(h *quorumHistory, e *ledger.Effect) { h.said[e.Causes[0]].subject = "n-00-1" },
		"another kind":          func(h *quorumHistory, e *ledger.Effect) { h.said[e.Causes[0]].kind = ledger.NodeUp },
		"an old word":           func(h *quorumHistory, e *ledger.Effect) { h.said[e.Causes[0]].at -= 1_000_000 },
		"one operator twice":    func(h *quorumHistory, e *ledger.Effect) { h.said[e.Causes[0]].operator = h.said[e.Causes[1]].operator },
		"who was not drawn":     func(h *quorumHistory, e *ledger.Effect) { h.said[e.Causes[0]].author = "n-00-0" },
	} {
		h := newQuorumHistory(start, 1)
		h.spoil = spoil
		for _, m := range h.state.Monitors(h.node("n-00-0"), h.state.Epoch(), h.state.Electorate()) {
			h.observe(m.Node, ledger.NodeDown, "n-00-0")
		}
		if h.happened[ledger.NodeDown] != 1 {
			t.Fatalf("%s: no verdict: %v", name, h.happened)
		}
		if len(h.wrong) == 0 {
			t.Errorf("%s is not seen", name)
		}
	}
}

// newQuorumStart is where histories begin: in epoch 1, each epoch a window of
// attestation, in which everybody attests.
func newQuorumStart(t testing.TB) *model {
	start := newModel(t, quorumOperators, 2, func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		p.AttestEpochs, p.Attestors = 1, quorumOperators
		g.Policy.Protection = &p
	})
	start.now += start.policy.EpochMillis
	start.apply(ledger.CommandTick)
	start.apply(ledger.CommandSeal)
	return start
}

// quorumHistory is one history, and what a naive reader knows of it.
type quorumHistory struct {
	model
	r        *rand.Rand
	target   string
	kind     string
	said     map[uint64]*saidWord // accepted observations by seq
	happened map[string]int
	wrong    []string
	spoil    func(*quorumHistory, *ledger.Effect)
	twin     *reputationTwin
	deciding string // the action and the node of the last proposal
}

type saidWord struct {
	author, operator, subject, kind string
	at, epoch                       uint64
}

func newQuorumHistory(start *model, seed uint64) *quorumHistory {
	h := &quorumHistory{model: *start, r: rand.New(rand.NewPCG(seed, 0)), said: map[uint64]*saidWord{}, happened: map[string]int{}}
	h.seqs = map[string]uint64{}
	h.twin = newReputationTwin(h)
	h.target = h.anyNode()
	h.kind = h.any(ledger.NodeDown, ledger.NodeBad, ledger.NodeDown, ledger.LinkDown)
	return h
}

func (h *quorumHistory) any(from ...string) string { return from[h.r.IntN(len(from))] }

func (h *quorumHistory) anyNode() string { return nodeName(h.r.IntN(quorumOperators), h.r.IntN(2)) }

func (h *quorumHistory) step() {
	switch n := h.r.IntN(24); {
	case n == 20:
		h.evidence()
	case n > 20 && n < 23:
		h.attestation()
	case n == 23 && h.r.IntN(2) == 0:
		h.decision()
	case n == 0 || n == 23:
		h.now += h.policy.EpochMillis
		h.do(ledger.CommandTick)
		h.do(ledger.CommandSeal)
	case n == 1:
		h.now += uint64(h.r.IntN(200_000))
		h.do(ledger.CommandTick)
	case n == 2:
		h.kind = h.any(ledger.NodeDown, ledger.NodeUp, ledger.NodeBad, ledger.LinkDown, ledger.LinkUp)
	case n == 3:
		h.target = h.anyNode()
	case n == 4 && h.r.IntN(4) == 0:
		h.equivocate(h.anyNode())
	case n < 8:
		h.observe(h.anyNode(), h.any(ledger.NodeDown, ledger.NodeUp, ledger.NodeBad, ledger.LinkDown, ledger.LinkUp), h.anyNode())
	case h.kind == ledger.LinkDown || h.kind == ledger.LinkUp:
		ends := []string{h.target, nodeName(0, 0)}
		if h.r.IntN(2) == 0 {
			slices.Reverse(ends)
		}
		h.observe(ends[0], h.kind, ends[1])
	default:
		n, ok := h.state.Node(h.target)
		drawn := h.state.Monitors(&n, h.state.Epoch(), h.state.Electorate())
		if ok && len(drawn) > 0 {
			h.observe(drawn[h.r.IntN(len(drawn))].Node, h.kind, h.target)
		}
	}
}

func (h *quorumHistory) observe(author, kind, subject string) {
	if author == subject {
		return
	}
	h.counter++
	tick := h.now / h.policy.TickMillis
	body := ledger.Observe{Counter: h.counter, From: tick - uint64(h.r.IntN(5)), Kind: kind, Subject: subject, To: tick}
	if kind == ledger.NodeBad {
		body.Cause = ledger.CauseWithheld
	}
	h.do(ledger.CommandStatements, h.envelope(author, ledger.TypeObserve, body, nil))
}

func (h *quorumHistory) equivocate(author string) {
	seq := h.seqs[author]
	h.seqs[author]++
	a := h.envelope(author, ledger.TypeRecord, ledger.Record{Text: "to some"}, &seq)
	b := h.envelope(author, ledger.TypeRecord, ledger.Record{Text: "to others"}, &seq)
	h.do(ledger.CommandStatements, h.envelope("r1", ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{a, b}}, nil))
}

// do applies a command and reads its entries.
func (h *quorumHistory) do(kind ledger.CommandKind, envelopes ...[]byte) {
	before := h.state
	next, result := Apply(before, &ledger.Command{Kind: kind, Stamp: h.now, Statements: envelopes}, trusting{})
	if next == before {
		return // refused
	}
	h.state = next
	explained := map[string]bool{} // nodes of which an effect says something
	for _, entry := range result.Entries {
		e, err := ledger.ParseEntry(entry)
		if err != nil {
			h.t.Fatal(err)
		}
		switch e.Kind {
		case ledger.KindStatement:
			h.hear(e, before)
		case ledger.KindEffect:
			effect, err := e.Effect()
			if err != nil {
				h.t.Fatal(err)
			}
			if h.spoil != nil && effect.Type == EffectVerdict {
				h.spoil(h, effect)
			}
			h.read(effect, before, explained)
		}
	}
	h.twin.compare(next)
	// Nothing critical changes but what an effect says.
	for _, n := range next.Nodes("", 100) {
		old, _ := before.Node(n.Name)
		was, _ := before.Reputation(n.Name)
		is, _ := next.Reputation(n.Name)
		if (old.Standing != n.Standing || was.Down != is.Down || is.Reputation < was.Reputation) && !explained[n.Name] {
			h.complain("%s changes and no effect says so", n.Name)
		}
	}
}

func (h *quorumHistory) complain(format string, values ...any) {
	h.wrong = append(h.wrong, fmt.Sprintf(format, values...))
}

func (h *quorumHistory) hear(e *ledger.Entry, before *State) {
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		h.t.Fatal(err)
	}
	if st.Payload.Type == ledger.TypeAttest {
		h.twin.attested(st, before)
	}
	if st.Payload.Type != ledger.TypeObserve {
		return
	}
	body, err := ledger.DecodeBody[ledger.Observe](st)
	if err != nil {
		h.t.Fatal(err)
	}
	n, _ := before.Node(st.Payload.Author)
	h.said[e.Seq] = &saidWord{n.Name, n.Operator, body.Subject, body.Kind, e.Stamp, *st.Payload.Epoch}
}

func (h *quorumHistory) read(effect *ledger.Effect, before *State, explained map[string]bool) {
	switch effect.Type {
	case EffectVerdict:
		var b VerdictEffect
		decodeInto(h.t, effect, &b)
		h.happened[b.Kind]++
		explained[b.Name] = true
		h.checkVerdict(&b, effect.Causes, before)
	case EffectLink:
		var b LinkEffect
		decodeInto(h.t, effect, &b)
		h.happened[b.Kind]++
		h.checkLink(&b, effect.Causes)
	case EffectEpoch:
		var b EpochEffect
		decodeInto(h.t, effect, &b)
		h.twin.begins(b.Epoch, before)
	case EffectExecuted:
		h.decided(explained)
	case EffectOffence:
		var b OffenceEffect
		decodeInto(h.t, effect, &b)
		h.twin.offence(&b)
		h.happened[effect.Type]++
		explained[b.Name] = true
	case EffectQuarantined, EffectReleased, EffectExcluded:
		var b StandingEffect
		decodeInto(h.t, effect, &b)
		h.happened[effect.Type]++
		h.twin.stands(effect.Type, &b)
		if b.Reason == ledger.NodeBad && !explained[b.Name] {
			h.complain("%s %s without a verdict", b.Name, effect.Type)
		}
		explained[b.Name] = true
	}
}

func decodeInto(t testing.TB, effect *ledger.Effect, v any) {
	t.Helper()
	if err := canon.Unmarshal(effect.Body, v); err != nil {
		t.Fatal(err)
	}
}

// checkVerdict counts once more, from the entries: words of one kind about the
// subject, of one epoch and one window, of different operators that were drawn
// and are not its own, three of them and more than two thirds of all drawn.
func (h *quorumHistory) checkVerdict(b *VerdictEffect, causes []uint64, before *State) {
	subject, ok := before.Node(b.Name)
	if !ok {
		h.complain("a verdict about %s, which is not there", b.Name)
		return
	}
	operators, epoch := map[string]bool{}, uint64(0)
	for _, seq := range causes {
		w := h.said[seq]
		if w == nil {
			h.complain("%s by entry %d, which is no observation", b.Kind, seq)
			return
		}
		epoch = w.epoch
		drawn := before.Monitors(&subject, epoch, before.Electorate())
		if w.subject != b.Name || w.kind != b.Kind || w.operator == subject.Operator || h.now-w.at > h.protect.WindowTicks*h.policy.TickMillis ||
			!slices.Contains(drawn, ledger.Monitor{Operator: w.operator, Node: w.author}) {
			h.complain("%s of %s by %+v", b.Kind, b.Name, *w)
		}
		operators[w.operator] = true
	}
	total := len(before.Monitors(&subject, epoch, before.Electorate()))
	if n := len(operators); n < 3 || n*3 <= total*2 || n != len(causes) || uint64(n) != b.Operators || uint64(total) != b.Total {
		h.complain("%s of %s by %d of %d operators: %+v by %v", b.Kind, b.Name, n, total, b, causes)
	}
}

func (h *quorumHistory) checkLink(b *LinkEffect, causes []uint64) {
	speakers := map[string]bool{}
	for _, seq := range causes {
		w := h.said[seq]
		if w == nil || w.kind != b.Kind || !slices.Contains(b.Ends, w.author) || !slices.Contains(b.Ends, w.subject) ||
			b.Kind == ledger.LinkDown && len(causes) == 2 && h.now-w.at > h.protect.WindowTicks*h.policy.TickMillis {
			h.complain("%s %v by entry %d: %+v", b.Kind, b.Ends, seq, w)
			return
		}
		speakers[w.author] = true
	}
	if len(speakers) == 2 {
		return
	}
	for _, end := range b.Ends {
		if r, _ := h.state.Reputation(end); b.Kind == ledger.LinkDown && len(speakers) == 1 && !speakers[end] && r.Down {
			return
		}
	}
	h.complain("%s %v by %v", b.Kind, b.Ends, causes)
}
