package fsm

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// The rule of links (FORMAT.md section 10) knows of a policy the thresholds that it
// names. What the rules of the ledger decide must suffice it, or the handover could
// never be certified. A seed that fails is printed; QUORATE_SEED runs it alone.
func TestTheRulesAskForWhatLinksWant(t *testing.T) {
	seeds, first := uint64(5_000), uint64(1)
	if text := os.Getenv("QUORATE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds, first = 1, seed
	}
	s := newWorld(t, fiveOperators()).state
	met := map[string]int{}
	for seed := first; seed < first+seeds; seed++ {
		r := rand.New(rand.NewPCG(seed, 7))
		old := drawRules(r, ledger.DefaultPolicy(5), len(ledger.Actions()))
		next := drawRules(r, old, r.IntN(4))
		now, then := s.view, s.view
		now.policy, then.policy = &old, &next
		prev := now.drawAuthority()
		have := now.rule("policy.change", encode(&policyArgs{Policy: next})).Threshold
		want := prev.Needs("policy.change", then.drawAuthority())
		_, had := old.Rules[ledger.ActionRevoke]
		own, has := next.Rules[ledger.ActionRevoke]
		met[strconv.FormatBool(had)+" "+strconv.FormatBool(has)]++
		// A rule of its own that is weaker than what held in its place: links don't see it.
		comes := !had && has && own.Threshold < old.Rules["node.remove"].Threshold
		if have < want || have > want && !comes {
			t.Fatalf("seed %d: the rules decide by %d what links want %d for: %v to %v", seed, have, want, old.Rules, next.Rules)
		}
		for _, action := range append(ledger.Actions(), ledger.TypeRecover) {
			if !handsOver(action) || action == "policy.change" {
				continue
			}
			if have, want := now.rule(action, nil).Threshold, prev.Needs(action, prev); have != want {
				t.Fatalf("seed %d: the rules decide %s by %d, links want %d", seed, action, have, want)
			}
		}
	}
	if seeds > 1 && len(met) != 4 {
		t.Fatalf("not all changes were drawn: %v", met)
	}
}

func fiveOperators() *ledger.Genesis {
	g := defaultGenesis()
	g.Format, g.Policy = ledger.Format, ledger.DefaultPolicy(5)
	g.Council = append(g.Council, memberOf("dave@delta"), memberOf("erin@epsilon"))
	g.Operators = []ledger.Operator{{Name: "alpha"}, {Name: "beta"}, {Name: "delta"}, {Name: "epsilon"}, {Name: "gamma"}}
	return g
}

// drawRules draws n rules of a policy of five operators anew, and each other time
// whether key.revoke has one.
func drawRules(r *rand.Rand, p ledger.Policy, n int) ledger.Policy {
	p.Rules = maps.Clone(p.Rules)
	actions := ledger.Actions()
	for _, i := range r.Perm(len(actions))[:n] {
		least := uint64(1)
		if ledger.ChangesAuthority(actions[i]) {
			least = 3
		}
		p.Rules[actions[i]] = ledger.Rule{Threshold: least + r.Uint64N(6-least)}
	}
	switch r.IntN(4) {
	case 0:
		delete(p.Rules, ledger.ActionRevoke)
	case 1:
		p.Rules[ledger.ActionRevoke] = ledger.Rule{Threshold: 1 + r.Uint64N(5)}
	}
	return p
}

// A light client follows a change that drops the rule of key.revoke, whose threshold is
// above what the change needs else.
func TestDroppingTheRuleOfRevoke(t *testing.T) {
	g := defaultGenesis()
	g.Format, g.Policy.Rules = ledger.Format, maps.Clone(g.Policy.Rules)
	strict := g.Policy.Rules["node.remove"]
	strict.Threshold = 3
	g.Policy.Rules["node.remove"], g.Policy.Rules[ledger.ActionRevoke] = strict, strict
	w := newWorld(t, g)
	p := w.state.Policy()
	p.Rules = maps.Clone(p.Rules)
	delete(p.Rules, ledger.ActionRevoke)

	change := w.propose("alice", "policy.change", policyArgs{Policy: p})
	w.submit(change)
	w.submit(w.ballot("bob", ledger.TypeApprove, change))
	if got, _ := w.state.Proposal(idOf(change)); got.Standing != ProposalOpen {
		t.Fatalf("after two of three it is %s", got.Standing)
	}
	w.submit(w.ballot("carol", ledger.TypeApprove, change))
	w.apply(ledger.CommandSeal)
	a := w.state.Authority()
	if _, kept := a.Thresholds[ledger.ActionRevoke]; a.Index != 1 || kept || !slices.IsSorted(a.Causes) {
		t.Fatalf("authority %d names %v", a.Index, a.Thresholds)
	}
	checkLightClient(t, w)
}
