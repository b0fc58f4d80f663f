package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// listFlags say how to read.
type listFlags struct {
	server      serverFlags
	consistency string
	standing    string
	role        string
	from        uint64
	limit       int
}

func (f *listFlags) read() client.Read { return client.Read{Consistency: f.consistency} }

// table is a list as people read it; rows is what JSON has.
type table struct {
	head []string
	rows [][]string
	data any
}

// listings are what list can show, each with how it is read.
var listings = map[string]func(context.Context, *link, *listFlags) (*table, error){
	"alarms":     listAlarms,
	"backups":    listBackups,
	"council":    listCouncil,
	"decisions":  listDecisions,
	"entries":    listEntries,
	"epochs":     listEpochs,
	"joins":      listJoins,
	"keys":       listKeys,
	"links":      listLinks,
	"nodes":      listNodes,
	"operators":  listOperators,
	"policy":     listPolicy,
	"proposals":  listProposals,
	"quarantine": listQuarantine,
	"replicas":   listReplicas,
}

func (a *app) listCommand() *cobra.Command {
	var f listFlags
	kinds := sortedKeys(listings)
	c := &cobra.Command{
		Use:       "list " + strings.Join(kinds, "|"),
		Short:     "list what the ledger holds",
		Long:      "list reads certified state as a server gives it, and entries with their proofs.\nquorate prove proves a single record to others.",
		Example:   "  quorate list proposals --standing open\n  quorate list entries --from 100 --limit 20",
		ValidArgs: kinds,
		Args:      exactArgs("WHAT"),
		RunE: func(c *cobra.Command, args []string) error {
			listing, ok := listings[args[0]]
			if !ok {
				return usage("one of "+strings.Join(kinds, ", "), "nothing called %q can be listed", args[0])
			}
			if !slices.Contains([]string{client.Certified, client.Stale, client.Linearizable}, f.consistency) {
				return usage("certified, stale or linearizable", "unknown consistency %q", f.consistency)
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error {
				t, err := listing(ctx, l, &f)
				if err != nil {
					return err
				}
				return a.print(t.data, t.text)
			})
		},
	}
	f.server.add(c.Flags())
	c.Flags().StringVar(&f.consistency, "consistency", client.Certified, "certified, stale or linearizable")
	c.Flags().StringVar(&f.standing, "standing", "", "of proposals: open, decided, executed, failed, rejected, withdrawn, vetoed or expired; of backups: covered, untested or missing")
	c.Flags().StringVar(&f.role, "role", "", "of backups and keys: only of a governor, node, recovery or replica")
	c.Flags().Uint64Var(&f.from, "from", 0, "of entries: the first seq")
	c.Flags().IntVar(&f.limit, "limit", 100, "of entries and epochs: how many")
	return c
}

func (t *table) text(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(out, strings.Join(t.head, "\t"))
	for _, row := range t.rows {
		for i := range row {
			row[i] = clean(row[i])
		}
		fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	_ = out.Flush()
}

// maxPages bounds how many pages one list reads.
const maxPages = 1_000

// pages reads a list to its end.
func pages[T any](r client.Read, read func(client.Read) (items []T, next string, err error)) ([]T, error) {
	all := []T{}
	for range maxPages {
		items, next, err := read(r)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		r.Cursor = next
	}
	return all, nil
}

func listCouncil(ctx context.Context, l *link, f *listFlags) (*table, error) {
	council, err := l.Council(ctx, f.read())
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"GOVERNOR", "OPERATOR", "SINCE", "WORDS"}, data: council}
	for _, g := range council.Governors {
		t.rows = append(t.rows, []string{g.Name, g.Operator, number(g.Since), g.Words})
	}
	return t, nil
}

func listOperators(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := l.Operators(ctx, f.read())
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"OPERATOR", "SPONSOR", "SINCE"}, data: list}
	for _, o := range list.Operators {
		t.rows = append(t.rows, []string{o.Name, o.Sponsor, number(o.Since)})
	}
	return t, nil
}

func listPolicy(ctx context.Context, l *link, f *listFlags) (*table, error) {
	answer, err := l.Policy(ctx, f.read())
	if err != nil {
		return nil, err
	}
	p := answer.Policy
	t := &table{head: []string{"POLICY", "VALUE"}, data: answer}
	for _, field := range []struct {
		name  string
		value uint64
	}{
		{"closed_retention_millis", p.ClosedRetentionMillis}, {"epoch_millis", p.EpochMillis}, {"grace_epochs", p.GraceEpochs},
		{"key_epochs", p.KeyEpochs}, {"max_head_age_millis", p.MaxHeadAgeMillis}, {"max_skew_millis", p.MaxSkewMillis},
		{"proposal_lifetime_millis", p.ProposalLifetimeMillis}, {"quota", p.Quota}, {"tick_millis", p.TickMillis},
	} {
		t.rows = append(t.rows, []string{field.name, number(field.value)})
	}
	rules := p.Protects()
	for _, path := range sortedKeys(protectionFields(&rules)) {
		t.rows = append(t.rows, []string{protectionPrefix + path, number(*protectionFields(&rules)[path])})
	}
	keyRules := p.KeyRules()
	t.rows = append(t.rows, []string{keysPrefix + "backup_roles", strings.Join(keyRules.BackupRoles, ",")})
	for _, path := range sortedKeys(keysFields(&keyRules)) {
		t.rows = append(t.rows, []string{keysPrefix + path, number(*keysFields(&keyRules)[path])})
	}
	for _, action := range ledger.ActionsOf(ledger.Format) {
		rule, known := p.Rules[action]
		text := fmt.Sprintf("%d operators%s", rule.Threshold, ruleSuffix(rule))
		switch {
		case action == actionReseat:
			text = "the recovery holders" + ruleSuffix(ledger.Rule{DelayMillis: rule.DelayMillis})
		case !known:
			text = "as node.remove"
		}
		t.rows = append(t.rows, []string{"rules." + action, text})
	}
	return t, nil
}

func listProposals(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Proposal, string, error) {
		page, err := l.Proposals(ctx, f.standing, r)
		if err != nil {
			return nil, "", err
		}
		return page.Proposals, page.Next, nil
	})
	return proposalTable(list), err
}

func listDecisions(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Proposal, string, error) {
		page, err := l.Decisions(ctx, r)
		if err != nil {
			return nil, "", err
		}
		return page.Proposals, page.Next, nil
	})
	return proposalTable(list), err
}

func proposalTable(list []client.Proposal) *table {
	t := &table{head: []string{"PROPOSAL", "ACTION", "STANDING", "BY", "APPROVED BY", "SEQ", "REASON"}, data: list}
	for _, p := range list {
		var approved []string
		for _, v := range p.Approvals {
			approved = append(approved, v.Author)
		}
		t.rows = append(t.rows, []string{p.ID, p.Action, p.Standing, p.Author, strings.Join(approved, " "), number(p.Seq), p.Reason})
	}
	return t
}

// seqList names the entries of a list, a few of them.
func seqList(seqs []uint64) string {
	const most = 6
	var parts []string
	for _, seq := range seqs[:min(most, len(seqs))] {
		parts = append(parts, number(seq))
	}
	if len(seqs) > most {
		parts = append(parts, fmt.Sprintf("… (%d in all)", len(seqs)))
	}
	return strings.Join(parts, " ")
}

func listLinks(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Link, string, error) {
		page, err := l.FleetLinks(ctx, r)
		if err != nil {
			return nil, "", err
		}
		return page.Links, page.Next, nil
	})
	t := &table{head: []string{"LINK", "STANDING", "SAID BY"}, data: list}
	for _, one := range list {
		standing, said := "up", []string{}
		if one.Down {
			standing = "down"
		}
		for _, w := range one.Words {
			word := "up"
			if w.Down {
				word = "down"
			}
			said = append(said, fmt.Sprintf("%s: %s (entry %d)", w.Author, word, w.Seq))
		}
		t.rows = append(t.rows, []string{strings.Join(one.Ends, " - "), standing, strings.Join(said, ", ")})
	}
	return t, err
}

func listJoins(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Join, string, error) {
		page, err := l.Joins(ctx, r)
		if err != nil {
			return nil, "", err
		}
		return page.Joins, page.Next, nil
	})
	t := &table{head: []string{"JOIN", "NODE", "OPERATOR", "EXPIRES", "WORDS"}, data: list}
	for _, j := range list {
		t.rows = append(t.rows, []string{j.ID, j.Name, j.Operator, moment(j.Expires), j.Words})
	}
	return t, err
}

func listReplicas(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := l.Replicas(ctx, f.read())
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"REPLICA", "OPERATOR", "STANDING", "PEER", "API", "SINCE"}, data: list}
	for _, r := range list.Replicas {
		t.rows = append(t.rows, []string{r.Name, r.Operator, r.Standing, r.Peer, r.API, number(r.Since)})
	}
	return t, nil
}

func listEpochs(ctx context.Context, l *link, f *listFlags) (*table, error) {
	r := f.read()
	r.Limit = f.limit
	list, err := l.Epochs(ctx, r)
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"EPOCH", "START", "SEQ", "KEYS", "ROTATED", "ACTIVE KEYS"}, data: list}
	for _, e := range list.Epochs {
		t.rows = append(t.rows, []string{number(e.Epoch), moment(e.Start), number(e.Seq), numberOr(e.Count, "-"), numberOr(e.Rotated, "-"), e.Keys})
	}
	return t, nil
}

// listEntries reads entries that the client verified under a certified head.
func listEntries(ctx context.Context, l *link, f *listFlags) (*table, error) {
	head, err := l.Sync(ctx)
	if err != nil {
		return nil, err
	}
	list := []client.Entry{}
	end := min(head.Size, f.from+uint64(max(0, f.limit)))
	for next := f.from; next < end; next = f.from + uint64(len(list)) {
		page, err := l.Entries(ctx, next, int(min(end-next, client.MaxEntriesPage)))
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		list = append(list, page...)
	}
	t := &table{head: []string{"SEQ", "TIME", "KIND", "TYPE", "HASH"}, data: list}
	for _, e := range list {
		t.rows = append(t.rows, []string{number(e.Seq), time.UnixMilli(int64(e.Stamp)).UTC().Format("15:04:05.000"), e.Kind, e.Type, e.Hash[:min(16, len(e.Hash))] + "…"})
	}
	return t, nil
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
