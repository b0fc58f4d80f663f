package fsm

import (
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// tally is how a proposal stands under the council and policy of the moment.
type tally struct {
	rule     ledger.Rule
	voters   []string // who has a voice: operators with a governor, or recovery holders; sorted
	approved []Vote   // the approvals that count, by seq
	rejected []Vote   // the rejections that count, by seq
	consents []Consent
	author   bool // the proposer still holds the seat and key that proposed
}

// Consent is what node.admit and node.rekey need of one operator whose nodes
// they name: a
// signature of one of its own governors or, if it has none, of its sponsor's.
type Consent struct {
	Operator string `json:"operator"`
	By       string `json:"by,omitempty"` // the operator whose governors consent for it; "" when nobody can
	Given    bool   `json:"given,omitempty"`
}

// rule is the rule for an action under the policy of the moment: never below
// the majority of operators for what changes authority; for policy.change the
// strictest of the old rule, the new one, and those that it loosens; for council.reseat the recovery set's
// threshold.
func (v *view) rule(action string, args canon.Raw) ledger.Rule {
	rule := ruleOf(v.policy, action)
	if action == ledger.TypeRecover {
		// As many as change the council; nothing to wait for, and nobody to veto it.
		return ledger.Rule{Threshold: v.rule("council.change", nil).Threshold}
	}
	if action == "council.reseat" {
		rule.Threshold, rule.Vetoers = 0, nil
		if v.recovery != nil {
			rule.Threshold = v.recovery.Threshold
		}
		return rule
	}
	if action == "policy.change" {
		if change, p := decodeArgs[policyArgs](args); p == nil {
			rule = stricter(rule, change.Policy.Rules[action])
			for _, other := range ledger.ActionsOf(v.meta.Format) {
				old := ruleOf(v.policy, other)
				if other != "council.reseat" && loosens(old, ruleOf(&change.Policy, other)) {
					rule = stricter(rule, old)
				}
			}
			if own, drops := droppedRule(v.policy, &change.Policy); drops {
				rule = stricter(rule, own)
			}
		}
	}
	if ledger.ChangesAuthority(action) {
		rule.Threshold = max(rule.Threshold, ledger.MajorityOfOperators(len(v.councilOperators())))
	}
	return rule
}

// ruleOf is a policy's rule for an action; of key.revoke, if it has none, that of
// node.remove.
func ruleOf(p *ledger.Policy, action string) ledger.Rule {
	rule, ok := p.Rules[action]
	if !ok && action == ledger.ActionRevoke {
		return p.Rules["node.remove"]
	}
	return rule
}

// droppedRule is key.revoke's own rule, if the next policy has none. Whatever holds
// in its place, the old one is to be met: the thresholds of record authority have one
// only for the rules that a policy names, and the rule of links (FORMAT.md section
// 10) takes one that is gone for lowered. Decided by fewer, the handover could
// never be certified.
func droppedRule(old, next *ledger.Policy) (ledger.Rule, bool) {
	own, had := old.Rules[ledger.ActionRevoke]
	_, kept := next.Rules[ledger.ActionRevoke]
	return own, had && !kept
}

// stricter is a rule that is met only when both are.
func stricter(a, b ledger.Rule) ledger.Rule {
	return ledger.Rule{
		DelayMillis: max(a.DelayMillis, b.DelayMillis),
		Threshold:   max(a.Threshold, b.Threshold),
		Vetoers:     union(a.Vetoers, b.Vetoers),
	}
}

// loosens reports whether something that old stops, next would let happen:
// else whoever can't meet a rule could change it first. council.reseat is left
// out, whose threshold is the recovery set's and whose delay guards the council
// that decides this.
func loosens(old, next ledger.Rule) bool {
	if next.Threshold < old.Threshold || next.DelayMillis < old.DelayMillis {
		return true
	}
	return slices.ContainsFunc(old.Vetoers, func(name string) bool { return !slices.Contains(next.Vetoers, name) })
}

func union(a, b []string) []string {
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}

func (v *view) tally(p *Proposal) tally {
	c := tally{rule: v.rule(p.Action, p.Args), voters: v.voters(p.Action)}
	for _, vote := range p.Approvals {
		if v.stillCounts(p.Action, vote) {
			c.approved = append(c.approved, vote)
			c.author = c.author || vote.Seq == p.Seq
		}
	}
	for _, vote := range p.Rejections {
		if v.stillCounts(p.Action, vote) {
			c.rejected = append(c.rejected, vote)
		}
	}
	c.consents = v.consents(p.Action, p.Args)
	for i := range c.consents {
		consent := &c.consents[i]
		consent.Given = slices.ContainsFunc(c.approved, func(vote Vote) bool { return vote.Operator == consent.By })
	}
	return c
}

// voters are those who have a voice on an action, sorted.
func (v *view) voters(action string) []string {
	voters := []string{}
	if action == "council.reseat" {
		if v.recovery != nil {
			for _, h := range v.recovery.Holders {
				voters = append(voters, h.Name)
			}
		}
		return voters
	}
	for operator := range v.councilOperators() {
		voters = append(voters, operator)
	}
	slices.Sort(voters)
	return voters
}

// stillCounts reports whether a vote still counts: its author holds the very seat
// from which it was cast. Whoever left, moved or got a new key since casts no
// vote any more, because no one could verify it against the council of now.
func (v *view) stillCounts(action string, vote Vote) bool {
	if vote.Seq < v.meta.Recovered {
		return false // it was cast in another generation
	}
	if action == "council.reseat" {
		return v.holder(vote.Author) != nil
	}
	g, ok := lookup[Governor](v, tableCouncil+vote.Author)
	return ok && g.Since < vote.Seq
}

// voice is whom a vote speaks for.
func voice(action string, vote Vote) string {
	if action == "council.reseat" {
		return vote.Author
	}
	return vote.Operator
}

// met reports whether the proposal is decided.
func (c *tally) met() bool {
	return uint64(len(c.approved)) >= c.rule.Threshold && c.missingConsent() == ""
}

// reachable reports whether those who have not rejected can still decide it.
func (c *tally) reachable() bool {
	for _, consent := range c.consents {
		refused := slices.ContainsFunc(c.rejected, func(vote Vote) bool { return vote.Operator == consent.By })
		if refused && !consent.Given {
			return false
		}
	}
	return uint64(len(c.voters)-len(c.rejected)) >= c.rule.Threshold
}

func (c *tally) missingConsent() string {
	for _, consent := range c.consents {
		if !consent.Given {
			return consent.Operator
		}
	}
	return ""
}

// causes are the seqs of the statements that count.
func (c *tally) causes() []uint64 { return seqs(c.approved) }

func seqs(votes []Vote) []uint64 {
	causes := make([]uint64, len(votes))
	for i, vote := range votes {
		causes[i] = vote.Seq
	}
	return causes
}

// consents says whose signature an action needs that gives keys to nodes, by
// operator: nobody else makes a node speak for one.
func (v *view) consents(action string, raw canon.Raw) []Consent {
	var joins []ledger.Hash
	switch action {
	case "node.admit":
		if args, p := decodeArgs[admitArgs](raw); p == nil {
			joins = args.Joins
		}
	case "node.rekey":
		if args, p := decodeArgs[nodeRekeyArgs](raw); p == nil {
			joins = []ledger.Hash{args.Join}
		}
	}
	operators := []string{}
	for _, id := range joins {
		if join, ok := lookup[JoinRecord](v, joinOf(id)); ok {
			operators = append(operators, join.Join.Operator)
		}
	}
	slices.Sort(operators)
	governed := v.councilOperators()
	consents := []Consent{}
	for _, name := range slices.Compact(operators) {
		consents = append(consents, Consent{Operator: name, By: v.consenter(name, governed)})
	}
	return consents
}

// consenter is the operator whose governors consent for an operator's nodes:
// itself, or the sponsor of one that has no governor; "" when nobody can.
func (v *view) consenter(name string, governed map[string]int) string {
	if governed[name] > 0 {
		return name
	}
	o, ok := lookup[OperatorRecord](v, tableOperator+name)
	if ok && o.Sponsor != "" && governed[o.Sponsor] > 0 {
		return o.Sponsor
	}
	return ""
}

// RuleView is how a proposal stands, for people and programs to look at.
type RuleView struct {
	Action      string    `json:"action"`
	Threshold   uint64    `json:"threshold"`    // distinct operators; of council.reseat, recovery holders
	DelayMillis uint64    `json:"delay_millis"` // from decision to execution
	Vetoers     []string  `json:"vetoers"`      // governors; any of them ends it
	Signed      []string  `json:"signed"`       // operators (or holders) whose approval counts
	Rejected    []string  `json:"rejected"`
	Missing     []string  `json:"missing"`  // those who have not voted
	Consents    []Consent `json:"consents"` // node.admit, node.rekey: operators whose signature it needs
	Recovery    bool      `json:"recovery"` // recovery holders decide it, not operators
	Met         bool      `json:"met"`

	// VetoThreshold is how many operators' vetoes cancel a council.reseat.
	VetoThreshold uint64 `json:"veto_threshold,omitempty"`
}

// Rule shows the rule that applies to p under the council and policy of s, who
// signed and who is missing. A proposal that is not on the ledger yet needs
// only Action and Args.
func (v *view) Rule(p *Proposal) RuleView {
	c := v.tally(p)
	r := RuleView{
		Action:      p.Action,
		Threshold:   c.rule.Threshold,
		DelayMillis: c.rule.DelayMillis,
		Vetoers:     append([]string{}, c.rule.Vetoers...),
		Signed:      voices(p.Action, c.approved),
		Rejected:    voices(p.Action, c.rejected),
		Missing:     []string{},
		Consents:    append([]Consent{}, c.consents...),
		Recovery:    p.Action == "council.reseat",
		Met:         c.met(),
	}
	for _, name := range c.voters {
		if !slices.Contains(r.Signed, name) && !slices.Contains(r.Rejected, name) {
			r.Missing = append(r.Missing, name)
		}
	}
	if r.Recovery {
		r.VetoThreshold = v.rule("council.change", nil).Threshold
	}
	return r
}

func voices(action string, votes []Vote) []string {
	names := make([]string, 0, len(votes))
	for _, vote := range votes {
		names = append(names, voice(action, vote))
	}
	slices.Sort(names)
	return names
}
