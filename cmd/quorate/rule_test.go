package main

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// What governors are shown before they sign is the rule that the ledger will
// apply: also where it is not the policy's own line.
func TestRuleThatIsShown(t *testing.T) {
	public := make([]byte, 1952)
	rules := &ruleSource{
		policy: ledger.Policy{Rules: map[string]ledger.Rule{
			"node.remove":    {Threshold: 3, DelayMillis: 5_000},
			"council.reseat": {Threshold: 4, DelayMillis: 20_000, Vetoers: []string{"alice"}},
		}},
		council:  []seat{{name: "alice", operator: "aurora"}, {name: "bob", operator: "borealis"}},
		recovery: &ledger.Recovery{Threshold: 2, Holders: []ledger.Holder{{Name: "rita", Public: public}, {Name: "rosa", Public: public}}},
		source:   "proven",
	}
	text := func(v *ruleView, standing string) string {
		var b strings.Builder
		(&review{Rule: v, Standing: standing}).ruleText(&b)
		return b.String()
	}
	for _, c := range []struct {
		action, author string
		votes          []fsm.Vote
		standing       string
		want           []string
	}{
		{"key.revoke", "alice", nil, "", []string{"3 operators must approve, after 5s", "signed   alice of aurora", "2 more of: borealis"}},
		{"council.reseat", "rita", nil, "", []string{"2 recovery holders must approve, after 20s (proven)", "signed   rita\n", "1 more of: rosa"}},
		{"council.reseat", "rita", []fsm.Vote{{Author: "rita"}, {Author: "rosa"}}, fsm.ProposalDecided, []string{"signed   rita, rosa\n", "nobody: the threshold is met"}},
		{"node.remove", "alice", []fsm.Vote{{Author: "alice", Operator: "a"}, {Author: "bob", Operator: "b"}, {Author: "carol", Operator: "c"}}, fsm.ProposalOpen,
			[]string{"must consent"}},
	} {
		var p *fsm.Proposal
		if c.votes != nil {
			p = &fsm.Proposal{Approvals: c.votes}
		}
		got := text(rules.view(c.action, c.author, p), c.standing)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s shows\n%swithout %q", c.action, got, want)
			}
		}
	}
}

func TestNextVoter(t *testing.T) {
	for _, c := range []struct {
		rule *client.Rule
		want string
	}{
		{nil, "a governor of another operator"},
		{&client.Rule{Recovery: true}, "another recovery holder"},
		{&client.Rule{Consents: []client.Consent{{Operator: "dune", By: "aurora"}, {Operator: "aurora", By: "aurora"}, {Operator: "cirrus", By: "cirrus", Given: true}}},
			"a governor of aurora, who must consent"},
	} {
		if got := nextVoter(c.rule); got != c.want {
			t.Errorf("%+v: %q, want %q", c.rule, got, c.want)
		}
	}
}
