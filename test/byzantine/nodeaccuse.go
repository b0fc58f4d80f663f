package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// operatorsOf names the first n operators of nodes.
func operatorsOf(n int) []string {
	var names []string
	for i := range n {
		names = append(names, operatorName(i))
	}
	return names
}

// accusedAlone has one node slander another in epoch after epoch, while the
// others say that they reach it.
func accusedAlone(ctx context.Context, f *fleet) error {
	slanderer, victim := f.node(nodeName(0, 0)), f.node(nodeName(1, 0))
	f.attackers(slanderer)
	t, quiet := f.speak(ctx, f.except(slanderer.operator))
	defer quiet()
	began := f.audit.reputation(slanderer.name)
	t.enter("during")
	accused, refused, epochs := 0, 0, 0
	for ; f.audit.reputation(slanderer.name) == began; epochs++ {
		if epochs == aloneEpochs {
			return fmt.Errorf("after %d epochs the slander cost nothing", epochs)
		}
		if err := f.advance(ctx, 1); err != nil {
			return err
		}
		monitors := f.monitors(victim.name)
		for _, kind := range []string{ledger.NodeDown, ledger.NodeBad, ledger.LinkDown} {
			code, _ := f.submitsAt(ctx, f.members[0], f.sees(slanderer, kind, victim.name))
			accused++
			if code != "ok" {
				refused++
				f.Counts(code, 1)
				f.Demand(code == "not_monitor" && !slices.Contains(monitors, slanderer), "an accusation gets %s", code)
			}
		}
		for _, m := range monitors {
			if m == slanderer {
				continue
			}
			if code, _ := f.submitsAt(ctx, f.members[1], f.sees(m, ledger.NodeUp, victim.name)); code != "ok" {
				return fmt.Errorf("%s may not say that %s is up: %s", m.name, victim.name, code)
			}
		}
		if err := f.mark(ctx); err != nil {
			return err
		}
	}
	quiet()
	f.Says("attacker", "%s says in %d epochs that %s is down and bad and that their link is down: %d accusations, %d of them when it was not drawn", slanderer.name, epochs, victim.name, accused, refused)
	f.Says("detected", "no quorum: %d verdicts; contradicted by the others: its reputation fell from %d to %d, a first miss being free", len(f.audit.about(fsm.EffectVerdict, "")), began, f.audit.reputation(slanderer.name))
	f.Demand(len(f.audit.about(fsm.EffectVerdict, "")) == 0, "one node's word made a verdict")
	f.Demand(len(f.audit.about(fsm.EffectLink, "")) == 0, "one end's word took a link down")
	f.Demand(f.audit.reputation(victim.name) >= began, "the victim has %d", f.audit.reputation(victim.name))
	t.line(f)
	return nil
}

// accusedByThird has a third of the operators accuse everybody else, with every
// node that they have, in epoch after epoch, and attest each other clean and
// nobody else, while the friends of the accused attest these clean.
func accusedByThird(ctx context.Context, f *fleet) error {
	operators := operatorsOf(fleetOperators / 3)
	bad, honest := f.of(operators...), f.except(operators...)
	f.attackers(bad...)
	t, quiet := f.speak(ctx, honest)
	defer quiet()
	t.enter("during")
	began := map[*node]uint64{}
	for _, n := range f.nodes {
		began[n] = f.audit.reputation(n.name)
	}
	accused, counted := 0, 0
	for range accuseEpochs {
		if err := f.advance(ctx, 1); err != nil {
			return err
		}
		for _, kind := range []string{ledger.NodeBad, ledger.NodeDown} {
			for _, n := range bad {
				for _, victim := range honest {
					if !slices.Contains(f.monitors(victim.name), n) {
						continue
					}
					code, _ := f.submitsAt(ctx, f.members[accused%replicas], f.sees(n, kind, victim.name))
					accused++
					if code == "ok" {
						counted++
						continue
					}
					f.Counts(code, 1)
				}
			}
		}
	}
	quiet()
	if err := f.mark(ctx); err != nil {
		return err
	}
	f.Says("attacker", "all nodes of %d of %d operators accuse every one of %d honest nodes, as bad and as down, in %d epochs: %d accusations, %d of them counted", len(operators), fleetOperators, len(honest), accuseEpochs, accused, counted)
	slandered, friends, err := f.attestedByBoth(ctx, bad, honest)
	if err != nil {
		return err
	}
	credited := 0
	for _, n := range honest {
		now := f.audit.reputation(n.name)
		if now > began[n] {
			credited++
		}
		f.Demand(now >= began[n], "%s has %d, it had %d", n.name, now, began[n])
		f.Demand(f.audit.low[n.name] >= min(began[n], ledger.DefaultProtection().VoteReputation), "%s fell to %d", n.name, f.audit.low[n.name])
	}
	f.Says("attacker", "then %d of its nodes attest that the others of theirs were clean and that every honest node that they watch gave cause", slandered)
	f.Says("honest", "%d friends of the accused attest them clean: %d of %d accused are credited for it", friends, credited, len(honest))
	f.Says("detected", "no quorum of more than two thirds: %d verdicts, %d offences", len(f.audit.about(fsm.EffectVerdict, "")), len(f.audit.about(fsm.EffectOffence, "")))
	f.Demand(counted > 0, "no accusation counted: nothing was shown")
	f.Demand(slandered > 0 && friends > 0, "%d and %d attested: nothing was shown", slandered, friends)
	f.Demand(len(f.audit.about(fsm.EffectVerdict, "")) == 0, "a third of the operators made a verdict")
	t.line(f)
	return nil
}

// attestedByBoth lets the window of the accusations end, has a coalition and the
// honest attest it, each for its friends, and lets it be settled. The coalition
// calls the others bad besides. It says how many attested of each side.
func (f *fleet) attestedByBoth(ctx context.Context, bad, honest []*node) (slandered, friends int, err error) {
	epochs := int(ledger.DefaultProtection().AttestEpochs)
	accused := func(n *node) bool { return slices.Contains(honest, n) }
	if err := f.advance(ctx, epochs-int(f.audit.epoch())%epochs); err != nil {
		return 0, 0, err
	}
	if friends, err = f.attests(ctx, honest, accused); err != nil {
		return 0, 0, err
	}
	slandered, err = f.attestsThat(ctx, bad, func(n *node, window uint64) ledger.Attest {
		body := f.attestation(n, window, func(n *node) bool { return slices.Contains(bad, n) }, true)
		for i, cause := range f.attestation(n, window, accused, true).Epochs {
			body.Epochs[i].Cause = cause.Clean
		}
		return body
	})
	if err != nil {
		return 0, 0, err
	}
	if err := f.advance(ctx, epochs); err != nil {
		return 0, 0, err
	}
	return slandered, friends, f.mark(ctx)
}

// accusedByTwoThirds shows where the rule ends: just below two thirds of the
// drawn nothing happens, above it what they say holds, until the breaker trips.
func accusedByTwoThirds(ctx context.Context, f *fleet) error {
	operators := operatorsOf(9) // of twelve: eight of the eleven drawn for one of theirs, nine for another's
	victims := f.except(operators...)
	t, quiet := f.speak(ctx, f.of(operators...)) // whoever slanders still speaks
	defer quiet()
	if err := f.advance(ctx, 1); err != nil {
		return err
	}
	t.enter("during")
	accuse := func(victim *node, below bool) (int, int) {
		monitors := f.monitors(victim.name)
		limit, said := 2*len(monitors)/3, 0 // more than which it takes
		if !below {
			limit = len(monitors)
		}
		for _, m := range monitors {
			if said < limit && slices.Contains(operators, m.operator) {
				if code, _ := f.submitsAt(ctx, f.members[0], f.sees(m, ledger.NodeBad, victim.name)); code == "ok" {
					said++
				}
			}
		}
		return said, len(monitors)
	}
	said, total := accuse(victims[0], true)
	if err := f.mark(ctx); err != nil {
		return err
	}
	f.Says("attacker", "%d of the %d operators drawn for %s call it bad", said, total, victims[0].name)
	f.Says("detected", "not more than two thirds: %d verdicts", len(f.audit.about(fsm.EffectVerdict, "")))
	f.Demand(len(f.audit.about(fsm.EffectVerdict, "")) == 0, "%d of %d made a verdict", said, total)

	// Above it: the limit that DESIGN.md states. The victims are the coalition's.
	f.attackers(victims...)
	begin := time.Now()
	for _, v := range victims {
		for round := 0; f.audit.standing(v.name) == fsm.NodeActive && round < accuseEpochs && len(f.audit.about(fsm.EffectBreaker, "")) == 0; round++ {
			if round > 0 {
				if err := f.advance(ctx, 1); err != nil {
					return err
				}
			}
			said, total = accuse(v, false)
			if err := f.mark(ctx); err != nil {
				return err
			}
		}
	}
	quiet()
	held := 0
	for _, v := range victims {
		if f.audit.standing(v.name) == fsm.NodeQuarantined {
			held++
		}
	}
	f.Says("attacker", "then nine of twelve operators call every node of the other three bad: %d of %d drawn", said, total)
	f.Says("detected", "%d verdicts, %d in quarantine by their word after %s; the breaker: %d (a fifth of %d nodes is the most)", len(f.audit.about(fsm.EffectVerdict, "")), held,
		time.Since(begin).Round(time.Millisecond), len(f.audit.about(fsm.EffectBreaker, "")), len(f.nodes))
	f.Demand(held > 0, "more than two thirds of the drawn made no verdict")
	f.Demand(len(f.audit.about(fsm.EffectBreaker, "")) > 0, "the breaker did not trip")
	f.Demand(held*5 <= len(f.nodes), "%d of %d are in quarantine by the word of others", held, len(f.nodes))
	for _, v := range victims {
		if f.audit.standing(v.name) == fsm.NodeQuarantined {
			if err := f.decide(ctx, "node.release", map[string]string{"name": v.name, "reason": "slandered"}); err != nil {
				return err
			}
		}
	}
	if err := f.mark(ctx); err != nil {
		return err
	}
	for _, v := range victims {
		f.Demand(f.audit.standing(v.name) == fsm.NodeActive, "%s is %s after its release", v.name, f.audit.standing(v.name))
	}
	f.Says("council", "released all of them by decision")
	t.line(f)
	return nil
}
