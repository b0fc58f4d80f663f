package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// nodeStory is what explain prints: what became of a node, in words, each
// entry by its number.
type nodeStory struct {
	Name       string      `json:"name"`
	Operator   string      `json:"operator,omitempty"`
	Standing   string      `json:"standing"` // of the record, or probation, which is derived; none: it is not there
	Meaning    string      `json:"meaning"`
	Reputation *uint64     `json:"reputation,omitempty"` // basis points
	Strikes    uint64      `json:"strikes,omitempty"`
	Size       uint64      `json:"size"` // of the certified head that all is proven under
	Signed     uint64      `json:"signed"`
	Admitted   uint64      `json:"admitted"` // seq
	Events     []toldEvent `json:"events"`   // oldest first
	Left       int         `json:"left,omitempty"`
	Whole      bool        `json:"whole"` // every entry since the admission was looked at
	Ledger     string      `json:"ledger"`
	Policy     *storyRules `json:"policy,omitempty"`
	Key        *nodeKey    `json:"key,omitempty"` // that it has now
}

// storyRules are the figures of the rules that the story speaks of.
type storyRules struct {
	QuarantineBelow uint64 `json:"quarantine_below"`
	LeaveReputation uint64 `json:"leave_reputation"`
	VoteReputation  uint64 `json:"vote_reputation"`
	ExcludeStrikes  uint64 `json:"exclude_strikes"`
}

type toldEvent struct {
	Seq    uint64      `json:"seq"`
	Time   string      `json:"time"`
	Type   string      `json:"type"`
	Text   string      `json:"text"`
	Rule   string      `json:"rule,omitempty"` // why that followed
	Causes []toldCause `json:"causes"`
}

type toldCause struct {
	Seq    uint64 `json:"seq"`
	Type   string `json:"type"`
	Author string `json:"author,omitempty"`
	Text   string `json:"text"`
}

func (a *app) explainCommand() *cobra.Command {
	var server serverFlags
	var limit int
	var whole bool
	c := &cobra.Command{
		Use:   "explain node NAME | explain key ID",
		Short: "tell how a node came to stand as it does, or the life of a key",
		Long: `explain node tells a node's story in words: its admission, each verdict, offence and
decision, with the rule by which it followed and the entries that caused it, and how
its key stands: in force, late, over, revoked from which epoch, or restored. Each verified by its inclusion under the certified head, and the node's records are
proven. A server could still leave out an older event; with --whole every entry
since the admission is read and verified here, so that none can.

explain key tells whose a key is, in which epochs it speaks, how it came and ended,
its backup and what it signed last; of a revoked one also what is disputed. ID is
its whole id or the first 8 digits or more; a holder's name lists its keys.`,
		Example: "  quorate explain node edge-7\n  quorate explain node edge-7 --whole --output json\n  quorate explain key 77c0b1e2",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 || args[0] != "node" && args[0] != "key" {
				return usage("usage: "+c.UseLine(), "say which node or key to explain")
			}
			return nil
		},
		ValidArgs: []string{"key", "node"},
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "key" {
				return a.withServer(c, &server, func(ctx context.Context, l *link) error { return a.explainKey(ctx, l, args[1], whole) })
			}
			if err := ledger.ValidName(args[1]); err != nil {
				return usage("give a node's name", "%w", err)
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				story, err := l.explainNode(ctx, args[1], client.StoryOptions{Limit: limit, Whole: whole})
				if err != nil {
					return err
				}
				return a.print(story, story.text)
			})
		},
	}
	server.add(c.Flags())
	c.Flags().IntVar(&limit, "limit", 100, "how many events: the admission and the newest")
	c.Flags().BoolVar(&whole, "whole", false, "read every entry since the admission, so that no server can leave one out")
	return c
}

func (l *link) explainNode(ctx context.Context, name string, o client.StoryOptions) (*nodeStory, error) {
	s, err := l.Story(ctx, name, o)
	var p *client.Problem
	if errors.As(err, &p) && p.Status == 404 {
		return nil, &failure{exit: exitRefused, code: "not_found", cause: fmt.Errorf("there never was a node %q on this ledger", name), next: "quorate list nodes shows those that there are"}
	}
	if err != nil {
		return nil, err
	}
	policy, _, err := l.VerifiedPolicy(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := l.CurrentEpoch(ctx, client.Read{})
	if err != nil {
		return nil, err
	}
	rules := policy.Protects()
	out := &nodeStory{
		Name: name, Size: s.Head.Size, Signed: s.Head.Signed, Admitted: s.From, Left: s.Left, Whole: s.Whole, Ledger: l.genesis.String(),
	}
	if s.Reputation != nil {
		out.Reputation, out.Strikes = &s.Reputation.Reputation, s.Reputation.Strikes
		out.Policy = &storyRules{rules.QuarantineBelow, rules.LeaveReputation, rules.VoteReputation, rules.ExcludeStrikes}
	}
	if s.Node != nil {
		out.Operator = s.Node.Operator
		if out.Key, err = l.nodeKey(ctx, s.Node); err != nil {
			return nil, err
		}
	}
	out.Standing, out.Meaning = standingWords(s, &rules, epoch.Epoch)
	for i := range s.Events {
		out.Events = append(out.Events, tellEvent(&s.Events[i], &rules))
	}
	return out, nil
}

// standingWords says how a node stands and what that means for it.
func standingWords(s *client.Story, p *ledger.Protection, epoch uint64) (standing, meaning string) {
	n, r := s.Node, s.Reputation
	switch {
	case n == nil:
		return "removed", "it is no longer on the ledger; its keys can never be used again"
	case n.Standing == fsm.NodeExcluded:
		return n.Standing, "for good, for " + n.Reason + ": only its removal and a new admission bring it back, with a new key"
	case n.Standing == fsm.NodeQuarantined && (r == nil || r.Decided):
		return n.Standing, "by decision (" + n.Reason + "), until it is released by decision"
	case n.Standing == fsm.NodeQuarantined:
		return n.Standing, fmt.Sprintf("for %s, until its reputation is %d again (clean attested epochs restore it), not before epoch %d; it is epoch %d",
			n.Reason, p.LeaveReputation, r.Stay, epoch)
	case r == nil:
		return n.Standing, "it may sign and relay"
	}
	var why []string
	if old := n.Admitted + p.AgeEpochs; !r.Founder && epoch < old {
		why = append(why, fmt.Sprintf("it is too young until epoch %d (it is epoch %d)", old, epoch))
	}
	if r.Reputation < p.VoteReputation {
		why = append(why, fmt.Sprintf("its reputation is below %d", p.VoteReputation))
	}
	if len(why) > 0 {
		return client.Probation, "it may sign and relay, but its word does not count yet: " + strings.Join(why, ", and ")
	}
	if r.Down {
		return n.Standing, "it is down by its monitors' verdict, so it is neither drawn nor credited"
	}
	return n.Standing, "its word counts"
}

// tellEvent puts an event into words.
func tellEvent(e *client.StoryEvent, p *ledger.Protection) toldEvent {
	out := toldEvent{Seq: e.Seq, Time: moment(e.Stamp), Type: e.Type, Causes: []toldCause{}}
	out.Text, out.Rule = effectWords(e.Type, e.Body, p)
	switch e.Type {
	case ledger.TypeRotate:
		out.Text, out.Rule = rotationWords(e.Body)
	case ledger.TypeRestoreTest:
		out.Text, out.Rule = restoredEvent(e.Body)
	}
	for _, cause := range e.Causes {
		told := tellCause(cause)
		if e.Type == fsm.EffectExecuted && told.reason != "" {
			out.Text += ": " + told.reason
		}
		out.Causes = append(out.Causes, told.toldCause)
	}
	return out
}

// effectWords says what an effect did, and by which rule.
func effectWords(typ string, body json.RawMessage, p *ledger.Protection) (text, rule string) {
	switch typ {
	case fsm.EffectVerdict:
		return wordsOfBody(body, func(v *fsm.VerdictEffect) (string, string) {
			return fmt.Sprintf("its monitors' verdict: %s, by %d of the %d operators that were drawn to watch it", v.Kind, v.Operators, v.Total),
				fmt.Sprintf("a verdict needs more than two thirds of the drawn operators, %d at least; silent ones count in the total", ledger.MinAccusers)
		})
	case fsm.EffectOffence:
		return wordsOfBody(body, func(o *fsm.OffenceEffect) (string, string) {
			return fmt.Sprintf("%s cost it %d points; its reputation is %d then, its heat %d", o.Kind, o.Taken, o.Reputation, o.Heat), offenceRule(o.Kind, p)
		})
	case fsm.EffectQuarantined:
		return wordsOfBody(body, func(s *fsm.StandingEffect) (string, string) {
			return fmt.Sprintf("quarantined for %s, at reputation %d, not to end before epoch %d; strike %d", s.Reason, s.Reputation, s.Stay, s.Strikes),
				fmt.Sprintf("a reputation below %d quarantines; each strike doubles the least stay", p.QuarantineBelow)
		})
	case fsm.EffectReleased:
		return wordsOfBody(body, func(s *fsm.StandingEffect) (string, string) {
			return fmt.Sprintf("released, at reputation %d", s.Reputation), fmt.Sprintf("a quarantine ends at an epoch's start once its stay is over and the reputation is %d", p.LeaveReputation)
		})
	case fsm.EffectExcluded:
		return wordsOfBody(body, func(s *fsm.StandingEffect) (string, string) {
			return "excluded for good, for " + s.Reason, fmt.Sprintf("signing two things under one number excludes at once; so do %d strikes", p.ExcludeStrikes)
		})
	case fsm.EffectBreaker:
		return wordsOfBody(body, func(b *fsm.BreakerEffect) (string, string) {
			if b.Closed {
				return fmt.Sprintf("the breaker closed: %d of %d nodes are in quarantine by the word of others", b.Held, b.Fleet), ""
			}
			return fmt.Sprintf("the breaker tripped over %s: %d of %d nodes are in quarantine by the word of others already, so the verdict is withheld", b.Name, b.Held, b.Fleet),
				fmt.Sprintf("the word of others holds at most %s of the fleet; beyond that governance decides", percent(p.BreakerBasisPoints))
		})
	case fsm.EffectPartition:
		return wordsOfBody(body, func(x *fsm.PartitionEffect) (string, string) {
			if x.Healed {
				return fmt.Sprintf("the partition healed: %d of %d nodes are down", x.Down, x.Fleet), ""
			}
			return fmt.Sprintf("a partition: %d of %d nodes are down", x.Down, x.Fleet),
				fmt.Sprintf("more than %s of the fleet down at once is a cut and nobody's fault", percent(p.PartitionBasisPoints))
		})
	case fsm.EffectLink:
		return wordsOfBody(body, func(x *fsm.LinkEffect) (string, string) {
			return fmt.Sprintf("%s between %s", x.Kind, strings.Join(x.Ends, " and ")), "a link changes when both ends say so, or one does and the other is down by verdict"
		})
	case fsm.EffectExecuted:
		return wordsOfBody(body, func(x *fsm.ProposalEffect) (string, string) {
			return decisionWords(x.Action) + " by decision", "as many operators signed as the policy demands of " + x.Action
		})
	}
	return string(body), ""
}

func decisionWords(action string) string {
	switch action {
	case "node.admit":
		return "admitted"
	case "node.rekey":
		return "given another key"
	case "node.quarantine":
		return "quarantined"
	case "node.release":
		return "released"
	case "node.remove":
		return "removed"
	case ledger.ActionRevoke:
		return "a key of it revoked"
	}
	return action
}

func offenceRule(kind string, p *ledger.Protection) string {
	switch kind {
	case ledger.NodeBad:
		return fmt.Sprintf("a node.bad verdict costs %d points, more with strikes and heat", p.BadPoints)
	case ledger.NodeDown:
		return fmt.Sprintf("a node.down verdict costs %d points", p.DownPoints)
	case "accusation":
		return fmt.Sprintf("accusing against more than two thirds of the drawn costs %d points, doubling; the first time is free", p.MinorPoints)
	}
	return fmt.Sprintf("it proves itself by the offender's own signature; a minor offence costs %d points, more with strikes and heat", p.MinorPoints)
}

// wordsOfBody decodes the body of an effect for its words. A body of another
// shape, of a newer program, is shown as it is.
func wordsOfBody[T any](body json.RawMessage, words func(*T) (string, string)) (text, rule string) {
	value := new(T)
	if err := canon.Unmarshal(body, value); err != nil {
		return string(body), ""
	}
	return words(value)
}

func percent(basisPoints uint64) string { return fmt.Sprintf("%g%%", float64(basisPoints)/100) }

// causeWords is a cause in words, with the reason that a proposal gave.
type causeWords struct {
	toldCause
	reason string
}

func tellCause(e *client.Entry) causeWords {
	out := causeWords{toldCause: toldCause{Seq: e.Seq, Type: e.Type}}
	var payload struct {
		Author string          `json:"author"`
		Body   json.RawMessage `json:"body"`
	}
	if e.Kind != "statement" || json.Unmarshal(e.View, &payload) != nil {
		out.Text = e.Kind + " " + e.Type
		return out
	}
	out.Author = payload.Author
	switch e.Type {
	case ledger.TypeObserve:
		out.Text, _ = wordsOfBody(payload.Body, func(o *ledger.Observe) (string, string) {
			cause := ""
			if o.Cause != "" {
				cause = " (" + o.Cause + ")"
			}
			return fmt.Sprintf("says %s of %s%s, in ticks %d to %d", o.Kind, o.Subject, cause, o.From, o.To), ""
		})
	case ledger.TypeEvidence:
		out.Text, _ = wordsOfBody(payload.Body, func(x *ledger.Evidence) (string, string) {
			return fmt.Sprintf("brings evidence of %s: %s by the offender's own signature", x.Kind, plural(len(x.Exhibits), "exhibit")), ""
		})
	case ledger.TypePropose:
		out.Text, _ = wordsOfBody(payload.Body, func(x *ledger.Propose) (string, string) {
			var args struct {
				Reason string `json:"reason"`
			}
			if json.Unmarshal(x.Args, &args) == nil {
				out.reason = args.Reason
			}
			return "proposes " + x.Action, ""
		})
	case ledger.TypeApprove:
		out.Text = "approves"
	default:
		out.Text = "says " + e.Type
	}
	return out
}

func (s *nodeStory) text(w io.Writer) {
	fmt.Fprintf(w, "node %s", s.Name)
	if s.Operator != "" {
		fmt.Fprintf(w, " of %s", s.Operator)
	}
	fmt.Fprintf(w, ": %s\n  %s\n", s.Standing, clean(s.Meaning))
	if s.Reputation != nil {
		fmt.Fprintf(w, "  reputation %d of 10000, %s; below %d it is quarantined, from %d on its word counts\n",
			*s.Reputation, plural(int(s.Strikes), "strike"), s.Policy.QuarantineBelow, s.Policy.VoteReputation)
	}
	if s.Key != nil {
		fmt.Fprintf(w, "  %s\n", clean(s.Key.text()))
	}
	fmt.Fprintln(w)
	for i, e := range s.Events {
		if i == 1 && s.Left > 0 {
			fmt.Fprintf(w, "          … %s between, left out by --limit\n", plural(s.Left, "event"))
		}
		fmt.Fprintf(w, "%8d  %s  %s\n", e.Seq, e.Time, clean(e.Text))
		if e.Rule != "" {
			fmt.Fprintf(w, "          rule: %s\n", clean(e.Rule))
		}
		for _, c := range e.Causes {
			fmt.Fprintf(w, "          because of %d: %s %s\n", c.Seq, clean(c.Author), clean(c.Text))
		}
	}
	how := "a server chose which events to show; --whole looks at every entry"
	if s.Whole {
		how = "every entry since the admission was read"
	}
	fmt.Fprintf(w, "\nverified: records and entries are proven under the head of size %d, signed %s; %s\n",
		s.Size, time.Unix(int64(s.Signed), 0).UTC().Format("15:04:05 UTC"), how)
}
