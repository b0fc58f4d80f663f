package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// errEnough ends a watch that has shown as many entries as were asked for.
var errEnough = errors.New("enough")

func (a *app) watchCommand() *cobra.Command {
	var server serverFlags
	var kinds, types []string
	var from uint64
	var count int
	var stale, verdicts bool
	c := &cobra.Command{
		Use:     "watch",
		Short:   "follow the ledger, entry by entry",
		Long:    "watch prints each entry once a certified head covers it, and resumes where it\nwas when a server goes away. It verifies what it prints, by the genesis hash, but\ncan't see what a server leaves out of a --kind or --type. With --output json each is a line of JSON.\n\n--verdicts follows what becomes of nodes and links, in words: verdicts, offences,\nquarantines, releases, exclusions, links, the breaker, partitions, and decisions\nabout nodes.",
		Example: "  quorate watch --type decision,executed --server http://127.0.0.1:7400\n  quorate watch --verdicts",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.connect(c.Context(), &server)
			if err != nil {
				return err
			}
			defer l.Close()
			print := a.printEntry
			if verdicts {
				if len(kinds)+len(types) > 0 {
					return usage("say --verdicts alone", "--verdicts chooses the types by itself")
				}
				types = append(slices.Clone(client.VerdictTypes), fsm.EffectExecuted)
				policy, _, err := l.VerifiedPolicy(c.Context())
				if err != nil {
					return l.explain(err)
				}
				rules := policy.Protects()
				print = func(e *client.Entry) error { return a.printVerdict(c.Context(), l, e, &rules) }
			}
			said := false
			say := func() {
				if !said && l.Left() != nil {
					said = true
					a.sayLeft(l)
				}
			}
			defer say()
			options := client.WatchOptions{From: from, Kinds: kinds, Types: types, Consistency: client.Certified, Verify: true}
			if stale {
				options.Consistency, options.Verify = client.Stale, false
			}
			if !c.Flags().Changed("from") {
				status, err := l.Status(c.Context())
				if err != nil {
					return l.explain(err)
				}
				options.From = status.Certified
			}
			seen := 0
			err = l.Watch(c.Context(), options, func(e *client.Entry) error {
				say()
				if verdicts && !aboutNodes(e) {
					return nil
				}
				if err := print(e); err != nil {
					return err
				}
				if seen++; seen == count {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) || errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return l.explain(err)
			}
			return nil
		},
	}
	server.add(c.Flags())
	_ = c.Flags().MarkHidden("timeout") // this takes as long as it takes
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only entries of these kinds: statement, effect, seal")
	c.Flags().StringSliceVar(&types, "type", nil, "only statements and effects of these types")
	c.Flags().BoolVar(&verdicts, "verdicts", false, "what becomes of nodes and links, in words")
	c.Flags().Uint64Var(&from, "from", 0, "begin at this seq (default: now)")
	c.Flags().IntVar(&count, "count", 0, "stop after this many entries")
	c.Flags().BoolVar(&stale, "uncertified", false, "show entries before they are certified")
	return c
}

// aboutNodes reports whether an effect that --verdicts asks for is one; of
// decisions only those about nodes are.
func aboutNodes(e *client.Entry) bool {
	if e.Type != fsm.EffectExecuted {
		return true
	}
	effect, err := entryEffect(e)
	if err != nil {
		return false
	}
	body, _ := wordsOfBody(json.RawMessage(effect.Body), func(p *fsm.ProposalEffect) (string, string) { return p.Action, "" })
	return strings.HasPrefix(body, "node.") || body == ledger.ActionRevoke
}

// decided says in words what an executed decision did, as the proposal that it
// names says it: the effect names no node. It is "" if that can't be had.
func (l *link) decided(ctx context.Context, effect *ledger.Effect) string {
	if len(effect.Causes) == 0 {
		return ""
	}
	cause, err := l.Entry(ctx, effect.Causes[0])
	if err != nil {
		return ""
	}
	entry, err := ledger.ParseEntry(cause.Entry)
	if err != nil {
		return ""
	}
	statement, err := ledger.ParseStatement(entry.Content)
	if err != nil {
		return ""
	}
	body, err := ledger.DecodeBody[ledger.Propose](statement)
	if err != nil {
		return ""
	}
	return "decided: " + actionWords(body.Action, body.Args)[0]
}

func entryEffect(e *client.Entry) (*ledger.Effect, error) {
	entry, err := ledger.ParseEntry(e.Entry)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", e.Seq, err)
	}
	return entry.Effect()
}

// printVerdict prints an effect in words, with the entries that caused it.
func (a *app) printVerdict(ctx context.Context, l *link, e *client.Entry, p *ledger.Protection) error {
	if a.output == "json" {
		return a.printEntry(e)
	}
	effect, err := entryEffect(e)
	if err != nil {
		return err
	}
	body := json.RawMessage(effect.Body)
	text, _ := effectWords(e.Type, body, p)
	var about struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(body, &about) == nil && about.Name != "" {
		text = about.Name + ": " + text
	}
	if e.Type == fsm.EffectExecuted {
		text = orText(l.decided(ctx, effect), text)
	}
	_, err = fmt.Fprintf(a.out, "%8d  %s  %-11s %s%s\n", e.Seq, time.UnixMilli(int64(e.Stamp)).UTC().Format("15:04:05.000"), e.Type, clean(text),
		suffix("; caused by ", seqList(effect.Causes)))
	return err
}

func (a *app) printEntry(e *client.Entry) error {
	if a.output == "json" {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write entry: %w", err)
		}
		_, err = fmt.Fprintf(a.out, "%s\n", line)
		return err
	}
	view := ""
	if e.Kind == "effect" || e.Kind == "seal" {
		view = " " + shorten(string(e.View))
	}
	if e.ID != "" {
		view = " " + e.ID
	}
	_, err := fmt.Fprintf(a.out, "%8d  %s  %-9s %-12s%s\n", e.Seq, time.UnixMilli(int64(e.Stamp)).UTC().Format("15:04:05.000"), e.Kind, e.Type, view)
	return err
}
