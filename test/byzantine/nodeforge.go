package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// rewrapped is an envelope with another signature: the last 3,309 bytes.
func rewrapped(envelope []byte, signature func([]byte)) []byte {
	out := bytes.Clone(envelope)
	signature(out[len(out)-signatureBytes:])
	return out
}

// forgeries are statements that n makes of what victim never said, by the code
// that each must get.
func (f *fleet) forgeries(n, victim *node) map[string][][]byte {
	record := func(k *keys.PrivateKey, author string, change ...func(*ledger.Payload)) []byte {
		p := f.payload(author, ledger.TypeRecord)
		epoch, seq := f.audit.epoch(), uint64(100)
		p.Epoch, p.Seq = &epoch, &seq
		for _, c := range change {
			c(&p)
		}
		return f.sign(k, p, text("never said"))
	}
	foreign := record(n.key, victim.name)
	return map[string][][]byte{
		"wrong_key": {foreign},
		"bad_signature": {
			rewrapped(record(victim.key, victim.name), func(b []byte) { clear(b) }),
			rewrapped(record(victim.key, victim.name), func(b []byte) { b[0] ^= 1 }),
			rewrapped(record(victim.key, victim.name), func(b []byte) { copy(b, foreign[len(foreign)-signatureBytes:]) }),
		},
		"not_cose":         {record(n.key, n.name)[:200], bytes.Repeat([]byte{0xff}, 4096), {}},
		"wrong_ledger":     {record(n.key, n.name, func(p *ledger.Payload) { p.Ledger[0] ^= 1 })},
		"wrong_generation": {record(n.key, n.name, func(p *ledger.Payload) { p.Generation = 1 })},
		"wrong_epoch":      {record(n.key, n.name, atEpoch(f.audit.epoch()+2)), record(n.key, n.name, atEpoch(f.audit.epoch()-2))},
		"unknown_author":   {record(n.key, "nobody")},
	}
}

// forged has one node say what others never said.
func forged(ctx context.Context, f *fleet) error {
	n, victim := f.node(nodeName(0, 0)), f.node(nodeName(1, 0))
	f.attackers(n)
	if err := f.advance(ctx, 3); err != nil {
		return err
	}
	t, quiet := f.speak(ctx, f.except(n.operator))
	defer quiet()
	reputations := f.reputations()
	t.enter("during")
	for range forgeRounds {
		for code, list := range f.forgeries(n, victim) {
			for _, envelope := range list {
				f.demandsCode(ctx, "forged, for "+code, envelope, forgedCodes(code)...)
			}
		}
		f.forgeEvidence(ctx, n, victim)
		f.forgeGovernance(ctx, n, victim)
	}
	quiet()
	f.Says("attacker", "%s submits, %d times over, statements in the name of %s under its own key, with zeroed, flipped and foreign signatures and none at all, for another ledger, generation and epoch, as a governor, and evidence made of them", n.name, forgeRounds, victim.name)
	f.Demand(f.reputations() == reputations, "somebody's reputation changed")
	f.Says("detected", "each by the rule that says so; nothing reached the ledger, and nobody's reputation changed")
	t.line(f)
	return nil
}

func forgedCodes(code string) []string {
	if code == "not_cose" {
		return []string{"not_cose", "bad_request", "empty", "missing_field"}
	}
	return []string{code}
}

// forgeEvidence brings evidence that an honest node's words prove an offence.
func (f *fleet) forgeEvidence(ctx context.Context, n, victim *node) {
	seq := uint64(99)
	said := f.states(victim, ledger.TypeRecord, text("said"), atSeq(seq))
	other := f.states(victim, ledger.TypeRecord, text("not said"), atSeq(seq))
	forged := rewrapped(other, func(b []byte) { b[7] ^= 1 })
	p := f.payload(victim.name, ledger.TypeRecord)
	epoch := f.audit.epoch()
	p.Epoch, p.Seq = &epoch, &seq
	foreign := f.sign(n.key, p, text("not said"))
	flood := uint64(fleetQuota)
	for what, envelope := range map[string][]byte{
		"one statement twice":                  f.brings(n, ledger.EvidenceEquivocation, said, said),
		"one signed again, another signature":  f.brings(n, ledger.EvidenceEquivocation, said, rewrapped(said, func(b []byte) { b[9] ^= 1 })),
		"a forged second statement":            f.brings(n, ledger.EvidenceEquivocation, said, forged),
		"a second one under another key":       f.brings(n, ledger.EvidenceEquivocation, said, foreign),
		"two forged ones":                      f.brings(n, ledger.EvidenceEquivocation, foreign, f.sign(n.key, p, text("nor this"))),
		"a flood below the quota":              f.brings(n, ledger.EvidenceFlood, said),
		"a forged flood":                       f.brings(n, ledger.EvidenceFlood, rewrapped(f.states(victim, ledger.TypeRecord, text("much"), atSeq(flood)), func(b []byte) { clear(b) })),
		"two kinds of statement as a contrast": f.brings(n, ledger.EvidenceContradiction, said, said),
		"rubbish":                              f.brings(n, ledger.EvidenceEquivocation, []byte{1}, []byte{2}),
	} {
		f.demandsCode(ctx, "evidence of "+what, envelope, "proves_nothing")
	}
}

// forgeGovernance has a node propose, approve and attest as if it were somebody.
func (f *fleet) forgeGovernance(ctx context.Context, n, victim *node) {
	propose := ledger.Propose{Action: "node.remove", Args: []byte(`{"name":"` + victim.name + `"}`), Base: map[string]uint64{}}
	f.demandsCode(ctx, "a proposal of a node", f.sign(n.key, f.withNonce(n.name, ledger.TypePropose), propose), "wrong_role")
	f.demandsCode(ctx, "a proposal in alice's name", f.sign(n.key, f.withNonce("alice", ledger.TypePropose), propose), "wrong_key")
	f.demandsCode(ctx, "a probe for the ledger", f.states(n, ledger.TypeProbe, ledger.Probe{Nonce: make([]byte, 16), Subject: victim.name, Tick: f.tick()}), "wrong_statement")
}

// reputations is everybody's standing and reputation as one text, to compare.
func (f *fleet) reputations() string {
	state := f.audit.now()
	out := ""
	for _, n := range f.nodes {
		r, _ := reputationOf(state, n.name)
		record, _ := state.Node(n.name)
		out += fmt.Sprintf("%s %s %d %d\n", n.name, record.Standing, r.Reputation, r.Strikes)
	}
	return out
}

// replayed has one node send again what honest nodes said.
func replayed(ctx context.Context, f *fleet) error {
	n := f.node(nodeName(0, 0))
	f.attackers(n)
	t, quiet := f.speak(ctx, f.except(n.operator))
	defer quiet()
	victims := f.except(n.operator)[:6]
	var said [][]byte
	for _, v := range victims {
		said = append(said, f.states(v, ledger.TypeRecord, text("once")))
	}
	if err := f.submits(ctx, said...); err != nil {
		return err
	}
	before := f.reputations()
	t.enter("during")
	again, twice := 0, 0
	for round := range replayRounds {
		for i, envelope := range said {
			code, duplicate := f.submitsAt(ctx, f.members[(i+round)%replicas], envelope)
			again++
			f.Demand(code == "ok" && duplicate || code == "seq_used", "a replay gets %q, duplicate %t", code, duplicate)
			if duplicate {
				twice++
			}
		}
	}
	if err := f.advance(ctx, 2); err != nil {
		return err
	}
	for _, envelope := range said {
		f.demandsCode(ctx, "a replay two epochs later", envelope, "wrong_epoch", "seq_used", "duplicate")
	}
	f.demandsCode(ctx, "a replay as evidence", f.brings(n, ledger.EvidenceEquivocation, said[0], said[0]), "proves_nothing")
	quiet()
	f.Says("attacker", "%s sends %d honest statements again, %d times in all, at every replica, and once more two epochs later", n.name, len(said), again)
	f.Says("detected", "%d answered as duplicates with the first seq, the rest refused", twice)
	if err := f.mark(ctx); err != nil {
		return err
	}
	for _, envelope := range said {
		f.Demand(f.audit.times(statementID(envelope)) == 1, "a statement is on the ledger %d times", f.audit.times(statementID(envelope)))
	}
	f.Demand(f.reputations() == before, "somebody's reputation changed")
	t.line(f)
	return nil
}

// quarantinedKey has a node that the council quarantined go on as if nothing were.
func quarantinedKey(ctx context.Context, f *fleet) error {
	n, victim := f.node(nodeName(0, 0)), f.node(nodeName(1, 0))
	f.attackers(n)
	t, quiet := f.speak(ctx, f.except(n.operator))
	defer quiet()
	t.enter("during")
	decided := time.Now()
	if err := f.decide(ctx, "node.quarantine", map[string]string{"name": n.name, "reason": "staged"}); err != nil {
		return err
	}
	out, err := f.dropped(ctx, n.name, fsm.NodeQuarantined, decided)
	if err != nil {
		return err
	}
	says := func(when string) {
		for what, envelope := range map[string][]byte{
			"a record":       f.states(n, ledger.TypeRecord, text("I am here")),
			"an accusation":  f.sees(n, ledger.NodeBad, victim.name),
			"a link":         f.sees(n, ledger.LinkDown, victim.name),
			"an attestation": f.states(n, ledger.TypeAttest, ledger.Attest{Epochs: []ledger.AttestedEpoch{{Clean: []byte{0, 0, 1}, Epoch: f.audit.epoch()}}}),
			"evidence":       f.brings(n, ledger.EvidenceFlood, f.states(victim, ledger.TypeRecord, text("x"), atSeq(3))),
		} {
			f.demandsCode(ctx, what+", "+when, envelope, "quarantined")
		}
	}
	says("in quarantine")
	if err := f.advance(ctx, 2); err != nil {
		return err
	}
	says("two epochs later")
	quiet()
	f.Says("attacker", "%s, in quarantine, submits a record, an accusation, a link, an attestation and evidence, at once and two epochs later", n.name)
	f.Says("detected", "quarantined by decision, for each; certified at every replica %s after the decision was signed", out.Round(time.Millisecond))
	f.Demand(f.audit.standing(n.name) == fsm.NodeQuarantined, "it is %s", f.audit.standing(n.name))
	t.line(f)
	return nil
}
