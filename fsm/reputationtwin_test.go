package fsm

import (
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// reputationTwin is the rules of reputation once more, as naively as they can be
// written, from the entries alone: offences, strikes, attestations and what clean
// epochs give back.
type reputationTwin struct {
	h     *quorumHistory
	epoch uint64
	since uint64 // windows that begin before it are settled
	nodes map[string]*twinReputation
	said  map[attestedMatter]map[string]bool // by operator: it complains
}

type twinReputation struct{ reputation, heat, heatEpoch, strikes, clean uint64 }

type attestedMatter struct {
	name  string
	epoch uint64
}

func newReputationTwin(h *quorumHistory) *reputationTwin {
	w := &reputationTwin{h: h, epoch: h.state.Epoch(), nodes: map[string]*twinReputation{}, said: map[attestedMatter]map[string]bool{}}
	for _, n := range h.state.Nodes("", 100) {
		w.nodes[n.Name] = &twinReputation{reputation: 5_000}
	}
	return w
}

// attested takes an attestation that was accepted. What its author was not drawn
// to watch does not count.
func (w *reputationTwin) attested(st *ledger.Statement, before *State) {
	body, err := ledger.DecodeBody[ledger.Attest](st)
	if err != nil {
		w.h.t.Fatal(err)
	}
	author, _ := before.Node(st.Payload.Author)
	electorate := before.Electorate()
	for _, e := range body.Epochs {
		for complains, list := range map[bool][]byte{false: e.Clean, true: e.Cause} {
			ordinals, err := ledger.DecodeOrdinals("", list)
			if err != nil {
				w.h.t.Fatal(err)
			}
			for _, n := range before.Nodes("", 100) {
				if !slices.Contains(ordinals, uint32(n.Ordinal)) || n.Operator == author.Operator {
					continue
				}
				if !electorate.Bootstrap && !slices.Contains(before.Monitors(&n, e.Epoch, electorate), ledger.Monitor{Operator: author.Operator, Node: author.Name}) {
					continue
				}
				matter := attestedMatter{n.Name, e.Epoch}
				if w.said[matter] == nil {
					w.said[matter] = map[string]bool{}
				}
				w.said[matter][author.Operator] = w.said[matter][author.Operator] || complains
			}
		}
	}
}

// begins is an epoch: the windows whose time to attest is over are settled.
func (w *reputationTwin) begins(epoch uint64, before *State) {
	w.epoch = epoch
	length := w.h.protect.AttestEpochs
	now := epoch / length * length
	if now < w.since+2*length {
		return
	}
	w.since = now - length
	others := max(len(before.Electorate().Stables), 2) - 1
	want := min(3, others-others/3)
	var due []attestedMatter
	for matter := range w.said {
		if matter.epoch < w.since {
			due = append(due, matter)
		}
	}
	slices.SortFunc(due, func(a, b attestedMatter) int { return int(a.epoch) - int(b.epoch) })
	for _, matter := range due {
		clean, complaints := 0, 0
		for _, complains := range w.said[matter] {
			if complains {
				complaints++
			} else {
				clean++
			}
		}
		delete(w.said, matter)
		if n, _ := before.Node(matter.name); clean >= want && clean > 2*complaints && n.Standing != NodeExcluded {
			w.nodes[matter.name].credit(matter.epoch)
			w.h.happened["credit"]++
		}
	}
}

func (r *twinReputation) heatIn(epoch uint64) uint64 {
	if r.heatEpoch+r.heat > epoch {
		return r.heatEpoch + r.heat - epoch
	}
	return 0
}

func (r *twinReputation) credit(epoch uint64) {
	heat := r.heatIn(epoch)
	if epoch < r.heatEpoch {
		heat = r.heat
	}
	points := uint64(40)
	for range r.strikes {
		points /= 2
	}
	r.reputation = min(10_000, r.reputation+points*100/(100+heat))
	if r.strikes > 0 {
		if r.clean++; r.clean >= 512<<(r.strikes-1) {
			r.strikes, r.clean = r.strikes-1, 0
		}
	}
}

// offence compares what an offence took with what it should have.
func (w *reputationTwin) offence(b *OffenceEffect) {
	r, ok := w.nodes[b.Name]
	if !ok {
		return // a replica's
	}
	points := map[string]uint64{ledger.NodeBad: 1_500, ledger.EvidenceFlood: 400, ledger.EvidenceContradiction: 400, offenceAccusation: 400}[b.Kind]
	heat := r.heatIn(w.epoch)
	taken := min(points*(r.strikes+1)*(100+heat)/100, r.reputation)
	for range 16 { // a false accusation costs twice as much each time
		if b.Kind != offenceAccusation || taken == b.Taken || taken == r.reputation {
			break
		}
		points *= 2
		taken = min(points*(r.strikes+1)*(100+heat)/100, r.reputation)
	}
	r.reputation, r.heat, r.heatEpoch = r.reputation-taken, heat+100, w.epoch
	if points == 0 || b.Taken != taken || b.Reputation != r.reputation || b.Heat != r.heat {
		w.h.complain("%+v, the twin takes %d and has %+v", *b, taken, *r)
	}
}

// stands takes note of a standing by rule.
func (w *reputationTwin) stands(typ string, b *StandingEffect) {
	r := w.nodes[b.Name]
	switch typ {
	case EffectQuarantined:
		r.strikes, r.clean = r.strikes+1, 0
		if stay := w.epoch + 16<<(r.strikes-1); b.Strikes != r.strikes || b.Stay != stay {
			w.h.complain("%s %+v, the twin has %+v and a stay until %d", typ, *b, *r, stay)
		}
	case EffectExcluded:
		if b.Strikes == 6 && r.strikes == 5 {
			r.strikes, r.clean = 6, 0
		}
		if r.reputation = 0; b.Strikes != r.strikes {
			w.h.complain("%s %+v, the twin has %+v", typ, *b, *r)
		}
	}
}

// decided is a node.release that was executed.
func (w *reputationTwin) decided(action, name string) {
	if action == "node.release" {
		w.nodes[name].reputation = max(w.nodes[name].reputation, 3_500)
	}
}

// compare compares all that both know.
func (w *reputationTwin) compare(s *State) {
	if s.Epoch() != w.epoch {
		w.h.complain("epoch %d, the twin's %d", s.Epoch(), w.epoch)
	}
	for name, theirs := range w.nodes {
		mine, _ := s.Reputation(name)
		if mine.Reputation != theirs.reputation || mine.Strikes != theirs.strikes || mine.Clean != theirs.clean {
			w.h.complain("%s has %+v, the twin %+v", name, mine, *theirs)
		}
	}
}

// The statements of format 2 that histories say besides observations.

// evidence has a node bring evidence of any kind about another.
func (h *quorumHistory) evidence() {
	offender, other := h.anyNode(), h.anyNode()
	if offender == other {
		return
	}
	tick, epoch := h.tick(), h.state.Epoch()
	observe := func(kind string, counter uint64) []byte {
		return h.envelope(offender, ledger.TypeObserve, ledger.Observe{Counter: counter, From: tick, Kind: kind, Subject: other, To: tick}, nil)
	}
	h.counter++
	body := ledger.Evidence{Kind: h.any(ledger.EvidenceFlood, ledger.EvidenceContradiction, ledger.EvidenceContradiction, ledger.EvidenceObservation, "nothing")}
	switch body.Kind {
	case ledger.EvidenceFlood:
		seq := h.policy.Quota + h.counter
		body.Exhibits = [][]byte{h.envelope(offender, ledger.TypeRecord, ledger.Record{Text: "too much"}, &seq)}
	case ledger.EvidenceContradiction:
		ack := ledger.Ack{Challenge: ledger.LeafHash([]byte{byte(epoch)}), Prober: other, Tick: tick}
		body.Exhibits = [][]byte{observe(ledger.NodeDown, h.counter), h.envelope(offender, ledger.TypeAck, ack, nil)}
	case ledger.EvidenceObservation:
		body.Exhibits = [][]byte{observe(ledger.NodeDown, h.counter), observe(ledger.NodeUp, h.counter)}
	default: // two observations that do not contradict each other
		body.Kind = ledger.EvidenceObservation
		body.Exhibits = [][]byte{observe(ledger.NodeDown, h.counter), observe(ledger.NodeUp, h.counter+1)}
		h.counter++
	}
	before := h.state
	h.do(ledger.CommandStatements, h.envelope(h.any("r1", other), ledger.TypeEvidence, body, nil))
	if h.state != before {
		h.happened["evidence "+body.Kind]++
	}
}

// attestation has some attest the window that is over: of most nodes that they
// were clean, of the target less often, and of more than they may.
func (h *quorumHistory) attestation() {
	for range 1 + h.r.IntN(5) {
		n := h.node(h.anyNode())
		first, _ := h.state.AttestWindow(n)
		var lists [2][]uint32
		for _, other := range h.state.Nodes("", 100) {
			switch {
			case other.Operator == n.Operator && h.r.IntN(8) > 0:
			case h.r.IntN(8) == 0 || other.Name == h.target && h.r.IntN(2) == 0:
				lists[1] = append(lists[1], uint32(other.Ordinal))
			case h.r.IntN(8) > 0:
				lists[0] = append(lists[0], uint32(other.Ordinal))
			}
		}
		before := h.state
		h.do(ledger.CommandStatements, h.envelope(n.Name, ledger.TypeAttest, ledger.Attest{Epochs: []ledger.AttestedEpoch{attestedEpoch(first, lists)}}, nil))
		if h.state != before {
			h.happened[ledger.TypeAttest]++
		}
	}
}

// decision has governors quarantine a node or release it.
func (h *quorumHistory) decision() {
	n := h.node(h.anyNode())
	action := "node.quarantine"
	if n.Standing != NodeActive {
		action = "node.release"
	}
	args := encode(&nodeReasonArgs{Name: n.Name, Reason: "drawn"})
	base, err := h.state.BaseFor(action, args)
	if err != nil {
		h.t.Fatal(err)
	}
	p := h.envelope("alice", ledger.TypePropose, ledger.Propose{Action: action, Args: args, Base: base}, nil)
	h.deciding = action + " " + n.Name
	h.do(ledger.CommandStatements, p, h.envelope("bob", ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}, nil))
}

// decided is the effect of a decision that was executed.
func (h *quorumHistory) decided(explained map[string]bool) {
	action, name, _ := strings.Cut(h.deciding, " ")
	h.happened[action]++
	explained[name] = true
	h.twin.decided(action, name)
}
