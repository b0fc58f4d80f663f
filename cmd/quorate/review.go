package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// review is what a governor sees before signing.
type review struct {
	ID         string   `json:"id"`
	Words      string   `json:"words"`
	Ledger     string   `json:"ledger"`
	Generation uint64   `json:"generation"`
	Author     string   `json:"author"`
	Key        string   `json:"key"` // id of the key that signed the proposal
	Action     string   `json:"action"`
	InWords    []string `json:"in_words"`
	Memo       string   `json:"memo,omitempty"`
	Expires    uint64   `json:"expires"`
	Standing   string   `json:"standing,omitempty"` // "" while it is not known to be on the ledger
	Reason     string   `json:"reason,omitempty"`
	DueAt      uint64   `json:"due_at,omitempty"`

	Rule   *ruleView `json:"rule,omitempty"`
	Effect *effect   `json:"effect,omitempty"`
}

// ruleView is the rule that applies, and who has signed.
type ruleView struct {
	Threshold   uint64   `json:"threshold"`          // distinct operators; with Recovery, holders
	Recovery    bool     `json:"recovery,omitempty"` // recovery holders decide, not the council
	DelayMillis uint64   `json:"delay_millis"`
	Vetoers     []string `json:"vetoers,omitempty"`
	Signed      []signer `json:"signed"`
	Rejected    []signer `json:"rejected,omitempty"`
	Missing     []string `json:"missing"` // operators of the council, or holders, that have not voted
	Needed      int      `json:"needed"`  // how many more of them
	Source      string   `json:"source"`  // what vouches for this
}

type signer struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
}

type seat struct{ name, operator, key string }

// effect is what executing the proposal now would change.
type effect struct {
	Code    string          `json:"code"` // ok, or why it would fail
	Detail  string          `json:"detail,omitempty"`
	Words   []string        `json:"words,omitempty"`
	Changes []client.Change `json:"changes,omitempty"`
	Source  string          `json:"source"`
	Stale   string          `json:"stale,omitempty"` // how old the head is, if that is too old
}

// newReview begins a review from the signed bytes alone.
func newReview(s *ledger.Statement) (*review, *ledger.Propose, error) {
	if s.Payload.Type == ledger.TypeRecover {
		return reviewRecovery(s)
	}
	body, err := ledger.DecodeBody[ledger.Propose](s)
	if err != nil {
		return nil, nil, err
	}
	return &review{
		ID: s.ID.String(), Words: wordsOf(s.ID), Ledger: s.Payload.Ledger.String(), Generation: s.Payload.Generation,
		Author: s.Payload.Author, Key: s.KeyID.String(), Action: body.Action, InWords: actionWords(body.Action, body.Args),
		Memo: body.Memo, Expires: s.Payload.Expires,
	}, &body, nil
}

// addJoins says which nodes the joins at hand are.
func (r *review) addJoins(joins []*ledger.Statement) {
	perOperator := map[string][]string{}
	for _, j := range joins {
		if body, err := ledger.DecodeBody[ledger.Join](j); err == nil {
			perOperator[body.Operator] = append(perOperator[body.Operator], body.Name)
		}
	}
	for _, operator := range sortedKeys(perOperator) {
		names := perOperator[operator]
		slices.Sort(names)
		r.InWords = append(r.InWords, fmt.Sprintf("of %s (%d): %s", operator, len(names), strings.Join(names, " ")))
	}
}

// online fills in what the ledger says about the proposal, all of it proven
// under a certified head; joins come with the proposal.
func (r *review) online(ctx context.Context, l *link, body *ledger.Propose, joins [][]byte) error {
	rules, err := l.rules(ctx)
	if err != nil {
		return err
	}
	proposal, err := provenRecord[fsm.Proposal](ctx, l, "proposal/"+r.ID)
	if err != nil {
		return err
	}
	if proposal != nil {
		r.Standing, r.Reason, r.DueAt, r.Expires = proposal.Standing, proposal.Reason, proposal.DueAt, proposal.Expires
	}
	r.Rule = rules.view(body.Action, r.Author, proposal)
	if proposal != nil {
		joins = nil // they are on the ledger with it
	}
	if proposal != nil && proposal.Standing != fsm.ProposalOpen && proposal.Standing != fsm.ProposalDecided {
		return nil
	}
	r.Effect, err = l.simulate(ctx, body, r.Author, joins)
	return err
}

// offline fills in what the writer of a summary said, if there is one.
func (r *review) offline(s *summary, body *ledger.Propose) {
	if s == nil || !s.matches(body) {
		return
	}
	if s.Rule != nil {
		rules := &ruleSource{policy: ledger.Policy{Rules: map[string]ledger.Rule{r.Action: *s.Rule}},
			source: fmt.Sprintf("as the summary says, at size %d; not proven", s.Size)}
		for _, g := range s.Council {
			rules.council = append(rules.council, seat{name: g.Name, operator: g.Operator, key: g.Key})
		}
		r.Rule = rules.view(r.Action, r.Author, nil)
	}
	if s.Diff != nil {
		r.Effect = effectOf(s.Diff, "as the summary says; not proven")
	}
}

// matches says whether the summary was made for this very action.
func (s *summary) matches(body *ledger.Propose) bool {
	return s.Action == body.Action && sameJSON(s.Args, body.Args)
}

func sameJSON(x, y []byte) bool {
	a, err1 := canonical(x)
	b, err2 := canonical(y)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// ruleSource is the policy and those who vote, from which rules are read.
type ruleSource struct {
	policy   ledger.Policy
	council  []seat
	recovery *ledger.Recovery // nil if genesis names none
	source   string
}

// ruleOf is the rule by which an action is decided: key.revoke has that of
// node.remove until the policy gives it one, and the recovery set decides about
// council.reseat, whatever threshold the policy names.
func ruleOf(policy *ledger.Policy, recovery *ledger.Recovery, action string) ledger.Rule {
	rule, known := policy.Rules[action]
	switch {
	case action == actionReseat:
		rule.Threshold, rule.Vetoers = 0, nil
		if recovery != nil {
			rule.Threshold = recovery.Threshold
		}
	case action == ledger.ActionRevoke && !known:
		rule = policy.Rules["node.remove"]
	}
	return rule
}

const actionReseat = "council.reseat"

// voters are those whose voices an action counts: governors by their operators,
// recovery holders by their names.
func (s *ruleSource) voters(action string) []seat {
	if action != actionReseat {
		return s.council
	}
	var holders []seat
	if s.recovery != nil {
		for _, h := range s.recovery.Holders {
			holders = append(holders, seat{name: h.Name, operator: h.Name, key: keyIDOf(h.Public)})
		}
	}
	return holders
}

// rules reads policy and council, proven under a certified head.
func (l *link) rules(ctx context.Context) (*ruleSource, error) {
	policy, err := provenRecord[ledger.Policy](ctx, l, "policy")
	if err != nil {
		return nil, err
	}
	authority, err := provenRecord[ledger.Authority](ctx, l, "authority")
	if err != nil {
		return nil, err
	}
	if policy == nil || authority == nil {
		return nil, refused("update this program", "the ledger has no policy or authority record")
	}
	rules := &ruleSource{policy: *policy, recovery: authority.Recovery, source: "proven under a certified head"}
	if head := l.Head(); head != nil {
		rules.source = fmt.Sprintf("proven under the certified head of size %d", head.Size)
	}
	for _, m := range authority.Council {
		rules.council = append(rules.council, seat{name: m.Name, operator: m.Operator, key: keyIDOf(m.Public)})
	}
	return rules, nil
}

// view is the rule of an action and who has signed; of a proposal that is not
// on the ledger yet, its author alone.
func (s *ruleSource) view(action, author string, p *fsm.Proposal) *ruleView {
	rule, voters := ruleOf(&s.policy, s.recovery, action), s.voters(action)
	v := &ruleView{Threshold: rule.Threshold, DelayMillis: rule.DelayMillis, Vetoers: rule.Vetoers, Source: s.source,
		Recovery: action == actionReseat, Signed: []signer{}, Missing: []string{}}
	if p == nil {
		for _, m := range voters {
			if m.name == author {
				v.Signed = append(v.Signed, signer{m.name, m.operator})
			}
		}
	} else {
		for _, vote := range p.Approvals {
			v.Signed = append(v.Signed, signer{vote.Author, orText(vote.Operator, vote.Author)})
		}
		for _, vote := range p.Rejections {
			v.Rejected = append(v.Rejected, signer{vote.Author, orText(vote.Operator, vote.Author)})
		}
	}
	voted := map[string]bool{}
	approved := map[string]bool{}
	for _, s := range v.Signed {
		voted[s.Operator], approved[s.Operator] = true, true
	}
	for _, s := range v.Rejected {
		voted[s.Operator] = true
	}
	for _, m := range voters {
		if !voted[m.operator] && !slices.Contains(v.Missing, m.operator) {
			v.Missing = append(v.Missing, m.operator)
		}
	}
	slices.Sort(v.Missing)
	v.Needed = max(0, int(rule.Threshold)-len(approved))
	return v
}

func effectOf(d *client.Diff, source string) *effect {
	return &effect{Code: d.Code, Detail: d.Detail, Words: d.Words, Changes: d.Changes, Source: source}
}

// diff is the effect as a summary carries it.
func (e *effect) diff() *client.Diff {
	if e == nil {
		return nil
	}
	return &client.Diff{Code: e.Code, Detail: e.Detail, Words: e.Words, Changes: e.Changes}
}

// provenRecord reads a record of the state with its proof; nil when the state
// has none.
func provenRecord[T any](ctx context.Context, l *link, key string) (*T, error) {
	record, err := l.Record(ctx, key)
	if err != nil {
		return nil, err
	}
	if record.Value == nil {
		return nil, nil
	}
	value := new(T)
	if err := canon.Unmarshal(record.Value, value); err != nil {
		return nil, fmt.Errorf("read record %s: %w", key, err)
	}
	return value, nil
}

// text writes the review for people.
func (r *review) text(w io.Writer) {
	fmt.Fprintf(w, "proposal %s\n", r.ID)
	fmt.Fprintf(w, "  words    %s\n", r.Words)
	fmt.Fprintf(w, "  ledger   %s generation %d\n", r.Ledger, r.Generation)
	fmt.Fprintf(w, "  by       %s, key %s…\n", r.Author, r.Key[:16])
	fmt.Fprintf(w, "  action   %s\n", r.Action)
	for _, line := range r.InWords {
		fmt.Fprintf(w, "           %s\n", clean(line))
	}
	if r.Memo != "" {
		fmt.Fprintf(w, "  memo     %s\n", clean(r.Memo))
	}
	if r.Standing != "" {
		fmt.Fprintf(w, "  standing %s%s\n", r.Standing, suffix(": ", clean(r.Reason)))
	}
	if r.DueAt > 0 && r.Standing == fsm.ProposalDecided {
		fmt.Fprintf(w, "  due      %s\n", moment(r.DueAt))
	}
	if r.Expires > 0 {
		fmt.Fprintf(w, "  expires  %s\n", moment(r.Expires))
	}
	r.effectText(w)
	r.ruleText(w)
}

func (r *review) effectText(w io.Writer) {
	e := r.Effect
	if e == nil {
		if r.Standing == "" || r.Standing == fsm.ProposalOpen {
			fmt.Fprintf(w, "effect     no diff is at hand: only what the proposal itself says above\n")
		}
		return
	}
	fmt.Fprintf(w, "effect     if it were executed now (%s)\n", e.Source)
	if e.Stale != "" {
		fmt.Fprintf(w, "  WARNING  the newest head that a server shows was last signed %s ago: newer votes or changes may be\n"+
			"           hidden from you, or the cosigners are down; ask another server before you sign\n", e.Stale)
	}
	if e.Code != "ok" {
		fmt.Fprintf(w, "  it would fail: %s%s\n", e.Code, suffix(": ", clean(e.Detail)))
	}
	for _, line := range e.Words {
		fmt.Fprintf(w, "  %s\n", clean(line))
	}
	for _, change := range e.Changes {
		changeText(w, change)
	}
}

func (r *review) ruleText(w io.Writer) {
	v := r.Rule
	if v == nil {
		fmt.Fprintf(w, "rule       not known offline; the ledger applies its own\n")
		return
	}
	who := "operators"
	if v.Recovery {
		who = "recovery holders"
	}
	fmt.Fprintf(w, "rule       %d %s must approve%s (%s)\n", v.Threshold, who, ruleSuffix(ledger.Rule{DelayMillis: v.DelayMillis, Vetoers: v.Vetoers}), v.Source)
	fmt.Fprintf(w, "  signed   %s\n", signersText(v.Signed))
	if len(v.Rejected) > 0 {
		fmt.Fprintf(w, "  rejected %s\n", signersText(v.Rejected))
	}
	if v.Needed == 0 && r.Standing == fsm.ProposalOpen {
		fmt.Fprintf(w, "  missing  nobody by this threshold; an operator that must consent, or a stricter rule that it would loosen, keeps it open\n")
		return
	}
	if v.Needed == 0 {
		fmt.Fprintf(w, "  missing  nobody: the threshold is met\n")
		return
	}
	fmt.Fprintf(w, "  missing  %d more of: %s\n", v.Needed, orText(strings.Join(v.Missing, ", "), "nobody is left"))
}

func signersText(list []signer) string {
	var names []string
	for _, s := range list {
		if s.Operator == s.Name { // a recovery holder
			names = append(names, s.Name)
			continue
		}
		names = append(names, s.Name+" of "+s.Operator)
	}
	return orText(strings.Join(names, ", "), "nobody")
}

func suffix(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

// moment writes a time of the ledger.
func moment(millis uint64) string {
	return time.UnixMilli(int64(millis)).UTC().Format("2006-01-02 15:04:05 UTC")
}

// cleanLines is clean for text of several lines.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = clean(strings.ReplaceAll(line, "\t", " "))
	}
	return strings.Join(lines, "\n")
}

// clean makes foreign text safe for a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
