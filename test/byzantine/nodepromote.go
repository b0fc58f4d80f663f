package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// attestation is what a node says of a window's epochs: which of the nodes that
// it was drawn to watch were clean, as far as it wants to say so.
func (f *fleet) attestation(n *node, window uint64, clean func(subject *node) bool, drawnOnly bool) ledger.Attest {
	state := f.audit.now()
	policy := state.Policy()
	epochs := policy.Protects().AttestEpochs
	electorate := state.Electorate()
	body := ledger.Attest{}
	for epoch := window * epochs; epoch < (window+1)*epochs; epoch++ {
		var ordinals []uint32
		for _, subject := range f.nodes {
			record, ok := state.Node(subject.name)
			if !ok || !clean(subject) {
				continue
			}
			if !drawnOnly || slices.Contains(state.Monitors(&record, epoch, electorate), ledger.Monitor{Operator: n.operator, Node: n.name}) {
				ordinals = append(ordinals, uint32(record.Ordinal))
			}
		}
		slices.Sort(ordinals)
		body.Epochs = append(body.Epochs, ledger.AttestedEpoch{Clean: ledger.EncodeOrdinals(ordinals), Epoch: epoch})
	}
	return body
}

// attests has every honest node that is drawn for the window that is over
// attest what it watched, but for some; it says how many did.
func (f *fleet) attests(ctx context.Context, nodes []*node, clean func(*node) bool) (int, error) {
	return f.attestsThat(ctx, nodes, func(n *node, window uint64) ledger.Attest { return f.attestation(n, window, clean, true) })
}

// attestsThat has every node that is drawn say what it likes of the window.
func (f *fleet) attestsThat(ctx context.Context, nodes []*node, of func(n *node, window uint64) ledger.Attest) (int, error) {
	window, ok := f.window()
	if !ok {
		return 0, nil
	}
	count := 0
	for _, n := range nodes {
		if !f.drawnToAttest(n, window) {
			continue
		}
		code, _ := f.submitsAt(ctx, f.members[count%replicas], f.states(n, ledger.TypeAttest, of(n, window)))
		switch code {
		case "ok":
			count++
		case "attested_already", "not_monitor": // in an epoch before this one; or its word does not count now
		default:
			return count, fmt.Errorf("the attestation of %s is refused: %s", n.name, code)
		}
	}
	return count, nil
}

// window is the newest one that may be attested.
func (f *fleet) window() (uint64, bool) {
	state := f.audit.now()
	policy := state.Policy()
	w := state.Epoch() / policy.Protects().AttestEpochs
	return w - 1, w > 0
}

func (f *fleet) drawnToAttest(n *node, window uint64) bool {
	state := f.audit.now()
	record, ok := state.Node(n.name)
	if !ok {
		return false
	}
	first, drawn := state.AttestWindow(&record)
	policy := state.Policy()
	return drawn && first == window*policy.Protects().AttestEpochs
}

func everybody(*node) bool { return true }

// selfPromoted has both nodes of an operator say whatever could raise them.
func selfPromoted(ctx context.Context, f *fleet) error {
	pair := f.of(operatorName(0))
	honest := f.except(operatorName(0))
	f.attackers(pair...)
	t, quiet := f.speak(ctx, honest)
	defer quiet()
	epochs := int(ledger.DefaultProtection().AttestEpochs)
	if err := f.advance(ctx, epochs); err != nil {
		return err
	}
	t.enter("during")
	before := f.audit.reputation(pair[0].name)
	window, _ := f.window()
	own := func(n *node) bool { return n.operator == operatorName(0) }
	accepted := 0
	for _, n := range pair {
		f.demandsCode(ctx, "that it is up itself", rewordedSubject(f, n, n.name), "bad_field")
		f.demandsCode(ctx, "that its sibling is up", f.sees(n, ledger.NodeUp, sibling(pair, n).name), "not_monitor")
		f.demandsCode(ctx, "an attestation of the window to come", f.states(n, ledger.TypeAttest, f.attestation(n, window+1, own, false)), "out_of_window")
		// The whole fleet, whoever watches it, its own operator included.
		code, _ := f.submitsAt(ctx, f.members[0], f.states(n, ledger.TypeAttest, f.attestation(n, window, everybody, false)))
		f.Demand(code == "ok" == f.drawnToAttest(n, window) && (code == "ok" || code == "not_monitor"), "an attestation of everything gets %q, drawn: %t", code, f.drawnToAttest(n, window))
		if code == "ok" {
			accepted++
			f.demandsCode(ctx, "a second attestation", f.states(n, ledger.TypeAttest, f.attestation(n, window, own, false)), "attested_already")
		} else {
			f.Counts(code, 1)
		}
		f.forgeGovernance(ctx, n, honest[0])
		if err := f.whitewash(ctx, n); err != nil {
			return err
		}
	}
	if err := f.advance(ctx, epochs); err != nil {
		return err
	}
	f.Says("attacker", "both nodes of %s attest themselves, each other and everybody, say that they are up, propose, and ask to be admitted under other names, operators and keys; %d of their attestations were taken", operatorName(0), accepted)
	f.Says("detected", "what an author says of its own operator's nodes or of nodes that it does not watch counts for nothing: reputation %d and %d, it was %d", f.audit.reputation(pair[0].name), f.audit.reputation(pair[1].name), before)
	for _, n := range pair {
		f.Demand(f.audit.reputation(n.name) == before, "%s raised itself to %d", n.name, f.audit.reputation(n.name))
	}
	for _, n := range honest {
		f.Demand(f.audit.reputation(n.name) == before, "%s has %d by the word of one operator", n.name, f.audit.reputation(n.name))
	}

	// The same window attested by the others counts: the rule refuses whom it should.
	count, err := f.attests(ctx, honest, everybody)
	if err != nil {
		return err
	}
	if err := f.advance(ctx, epochs); err != nil {
		return err
	}
	quiet()
	f.Says("honest", "%d honest attestors then attest a window: reputation of %s is %d", count, honest[0].name, f.audit.reputation(honest[0].name))
	f.Demand(f.audit.reputation(honest[0].name) > before, "honest attestation credited nothing")
	t.line(f)
	return nil
}

func sibling(pair []*node, n *node) *node {
	if pair[0] == n {
		return pair[1]
	}
	return pair[0]
}

// rewordedSubject is an observation of a node about any subject, itself too.
func rewordedSubject(f *fleet, n *node, subject string) []byte {
	body := f.observation(n, ledger.NodeUp, subject)
	return f.states(n, ledger.TypeObserve, body)
}

// whitewash has a node ask for other names and keys. Joins wait for governors;
// who they are of is checked when they are made.
func (f *fleet) whitewash(ctx context.Context, n *node) error {
	fresh, err := newNode(n.name, n.operator)
	if err != nil {
		return err
	}
	join := func(signer *node, name, operator string, public []byte) []byte {
		return f.sign(signer.key, f.withNonce(name, ledger.TypeJoin), ledger.Join{Name: name, Operator: operator, Peer: signer.peer.Public().(ed25519.PublicKey), Public: public})
	}
	f.demandsCode(ctx, "a join alone", join(fresh, n.name+"-new", n.operator, fresh.key.Public().Bytes()), "join_alone")
	f.demandsJoin(ctx, "a join with its present key", join(n, n.name+"-new", n.operator, n.key.Public().Bytes()), "key_taken")
	f.demandsJoin(ctx, "a join under another's name", join(fresh, nodeName(5, 0), operatorName(0), fresh.key.Public().Bytes()), "wrong_operator")
	f.demandsJoin(ctx, "a join under a governor's name", join(fresh, "alice", operatorName(0), fresh.key.Public().Bytes()), "name_taken")
	f.demandsJoin(ctx, "a join with another's key", join(fresh, n.name+"-new", n.operator, n.key.Public().Bytes()), "wrong_key")
	return nil
}

// demandsJoin submits a join beside a proposal of the council that names it, as
// if a governor had been taken in, and demands that a rule refuses it.
func (f *fleet) demandsJoin(ctx context.Context, what string, join []byte, want string) {
	got := codeOf(f.decide(ctx, "node.admit", struct {
		Joins []ledger.Hash `json:"joins"`
	}{[]ledger.Hash{statementID(join)}}, join))
	if got == want {
		f.Counts(got, 1)
		return
	}
	f.Fail("%s: the ledger says %q, want %q", what, got, want)
}

// onOff has one node flood in an epoch and behave in the next ones, attested
// clean by all, for as long as it is let.
func onOff(ctx context.Context, f *fleet) error {
	n := f.node(nodeName(0, 0))
	witness := f.node(nodeName(1, 0))
	f.attackers(n)
	honest := f.except(n.operator)
	t, quiet := f.speak(ctx, honest)
	defer quiet()
	t.enter("during")
	began := f.audit.reputation(n.name)
	p := ledger.DefaultProtection()
	offences, attested := 0, 0
	var story []string
	for f.audit.standing(n.name) == fsm.NodeActive {
		if offences >= onOffRounds {
			return fmt.Errorf("after %d offences it is still active, with reputation %d", offences, f.audit.reputation(n.name))
		}
		before := f.audit.reputation(n.name)
		flood := f.states(n, ledger.TypeRecord, text("now and then"), atSeq(fleetQuota))
		if code, _ := f.submitsAt(ctx, f.members[0], f.brings(witness, ledger.EvidenceFlood, flood)); code != "ok" {
			return fmt.Errorf("evidence of a flood is refused: %s", code)
		}
		offences++
		if err := f.mark(ctx); err != nil {
			return err
		}
		story = append(story, fmt.Sprintf("%d→%d", before, f.audit.reputation(n.name)))
		if f.audit.standing(n.name) != fsm.NodeActive {
			break
		}
		for range onOffPause {
			if err := f.advance(ctx, 1); err != nil {
				return err
			}
			count, err := f.attests(ctx, honest, everybody)
			if err != nil {
				return err
			}
			attested += count
		}
	}
	record, _ := reputationOf(f.audit.now(), n.name)
	f.Says("attacker", "%s floods in one epoch of %d and behaves in the others: %v", n.name, onOffPause, story)
	f.Says("detected", "flood, %d times; heat and too little time to recover: %s after %d offences, with %d strike, until epoch %d at least (now %d); %d attestations were made meanwhile", offences,
		f.audit.standing(n.name), offences, record.Strikes, record.Stay, f.audit.epoch(), attested)
	f.Demand(record.Stay >= f.audit.epoch()+p.StayEpochs, "its quarantine ends at once")
	f.Demand(attested > 0, "nobody attested: its recovery was not staged")
	// What the others attest is credited when its window is settled.
	for range p.AttestEpochs {
		if err := f.advance(ctx, 1); err != nil {
			return err
		}
		count, err := f.attests(ctx, honest, everybody)
		if err != nil {
			return err
		}
		attested += count
	}
	// One more offence from inside is a strike, and lengthens the stay.
	if code, _ := f.submitsAt(ctx, f.members[0], f.brings(witness, ledger.EvidenceFlood, f.states(n, ledger.TypeRecord, text("again"), atSeq(fleetQuota)))); code != "ok" {
		return fmt.Errorf("evidence against a quarantined node is refused: %s", code)
	}
	if err := f.mark(ctx); err != nil {
		return err
	}
	inside, _ := reputationOf(f.audit.now(), n.name)
	quiet()
	f.Says("detected", "an offence in quarantine: %d strikes, until epoch %d", inside.Strikes, inside.Stay)
	f.Demand(inside.Strikes > record.Strikes && inside.Stay > record.Stay, "an offence in quarantine cost nothing")
	for _, h := range honest[:2] {
		f.Demand(f.audit.reputation(h.name) > began, "%s, which behaved, has %d, it had %d", h.name, f.audit.reputation(h.name), began)
	}
	t.line(f)
	return nil
}
