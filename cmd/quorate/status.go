package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

// statusView is what status prints: what this program verified, then what the
// servers say of themselves.
type statusView struct {
	Ledger    string          `json:"ledger"`
	Words     string          `json:"words"`
	Verified  *verifiedHead   `json:"verified,omitempty"`
	Left      *leftHead       `json:"left,omitempty"`    // what a recovery left behind
	Problem   string          `json:"problem,omitempty"` // why no head is verified, or why it is stale
	Replicas  int             `json:"replicas"`
	Quorum    int             `json:"quorum"`
	Threshold int             `json:"cosign_threshold"`
	Faults    int             `json:"faults"`
	Meaning   string          `json:"meaning"`
	Servers   []serverAnswer  `json:"servers"`
	Cluster   *client.Cluster `json:"cluster,omitempty"`
	Fleet     *client.Fleet   `json:"fleet,omitempty"` // certified, as a server says
	Keys      *keysView       `json:"keys,omitempty"`
}

type verifiedHead struct {
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	Signed uint64 `json:"signed"` // seconds

	Handovers uint64 `json:"handovers"` // walked from genesis
}

// leftHead is a head that was verified here before a recovery went on from an
// earlier one.
type leftHead struct {
	Size       uint64 `json:"size"`
	Root       string `json:"root"`
	Generation uint64 `json:"generation"` // that was opened
	Fork       uint64 `json:"fork"`       // size from which it goes on
}

type serverAnswer struct {
	Server string         `json:"server"`
	Status *client.Status `json:"status,omitempty"`
	Error  string         `json:"error,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	var server serverFlags
	var saveHead string
	c := &cobra.Command{
		Use:     "status",
		Short:   "how the ledger and its replicas stand",
		Long:    "status verifies the newest certified head from the genesis hash, then asks every\nserver of the list how it sees itself.",
		Example: "  quorate status --server http://127.0.0.1:7400,http://127.0.0.1:7401",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				view, err := l.status(ctx)
				if err != nil {
					return err
				}
				if saveHead != "" {
					if view.Verified == nil {
						return refused("ask another server", "no head was verified, so none is saved: %s", view.Problem)
					}
					if err := writeNew(saveHead, l.Head().Note, 0o644); err != nil {
						return err
					}
				}
				return a.print(view, func(w io.Writer) { view.text(w, a.now()) })
			})
		},
	}
	server.add(c.Flags())
	c.Flags().StringVar(&saveHead, "save-head", "", "write the verified checkpoint to this file, for --at-least elsewhere")
	return c
}

func (l *link) status(ctx context.Context) (*statusView, error) {
	view := &statusView{Ledger: l.genesis.String(), Words: wordsOf(l.genesis)}
	head, err := l.Sync(ctx)
	if err != nil {
		view.Problem = err.Error()
	}
	if head != nil {
		view.Verified = &verifiedHead{Size: head.Size, Root: head.Root.String(), Signed: head.Signed, Handovers: head.Authority.Index}
	}
	if left := l.Left(); left != nil {
		view.Left = &leftHead{left.Size, left.Root.String(), left.Generation, left.Fork.Size}
	}
	var first *client.Status
	var failed error
	for _, server := range l.Servers() {
		answer := serverAnswer{Server: server}
		status, err := l.StatusOf(ctx, server)
		switch {
		case err != nil:
			answer.Error = err.Error()
			if failed == nil {
				failed = err
			}
		case status.Ledger != l.genesis.String():
			answer.Error = "it serves another ledger: " + status.Ledger
		default:
			answer.Status = status
			if first == nil {
				first = status
			}
		}
		view.Servers = append(view.Servers, answer)
	}
	if first == nil {
		if failed == nil {
			return nil, refused("compare --genesis with another governor, by its twelve words, or name another server", "%s: %s", view.Servers[0].Server, view.Servers[0].Error)
		}
		return nil, unreachable(l.Servers(), failed)
	}
	view.Replicas, view.Quorum, view.Threshold, view.Faults = first.Replicas, first.Quorum, first.CosignThreshold, first.Faults
	view.Meaning = meaning(first.Replicas, first.CosignThreshold, first.Faults)
	if view.Cluster, err = l.Cluster(ctx, client.Read{Consistency: client.Stale}); err != nil {
		view.Cluster = nil
	}
	// A server of an older version knows no fleet; one without a certified head
	// has none to tell of.
	if fleet, err := l.Fleet(ctx, client.Read{}); err == nil {
		view.Fleet = fleet
	}
	view.Keys = l.keys(ctx)
	return view, nil
}

// meaning says what the number of replicas is worth.
func meaning(n, threshold, faults int) string {
	if faults == 0 {
		return fmt.Sprintf("%d of %d certify; equivocation is detected, not prevented: no replica may lie", threshold, n)
	}
	return fmt.Sprintf("%d of %d certify, so %d may lie; more than that is stopped only by endorsed heads and witnesses", threshold, n, faults)
}

func (v *statusView) text(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "ledger    %s\n  words   %s\n", v.Ledger, v.Words)
	if v.Verified != nil {
		signed := time.Unix(int64(v.Verified.Signed), 0)
		fmt.Fprintf(w, "verified  size %d, last signed %s (%s ago)\n", v.Verified.Size, signed.UTC().Format("15:04:05 UTC"), max(0, now.Sub(signed)).Round(time.Second))
		fmt.Fprintf(w, "          walked %s from genesis\n", plural(int(v.Verified.Handovers), "handover"))
	}
	if v.Problem != "" {
		fmt.Fprintf(w, "PROBLEM   %s\n", clean(v.Problem))
	}
	fmt.Fprintf(w, "quorum    %d of %d commit; %s\n", v.Quorum, v.Replicas, v.Meaning)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "\nSERVER\tREPLICA\tROLE\tAPPLIED\tCERTIFIED\tREADY\tALARMS\n")
	for _, s := range v.Servers {
		if s.Status == nil {
			fmt.Fprintf(table, "%s\t-\tunreachable\t\t\t\t%s\n", s.Server, clean(shortReason(s.Error)))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%v\t%s\n", s.Server, s.Status.Name, s.Status.Role, s.Status.Applied, s.Status.Certified,
			s.Status.Ready, orText(strings.Join(s.Status.Alarms, ", "), "none"))
	}
	_ = table.Flush()
	v.replicaKeys(w)
	v.refusals(w)
	v.fleet(w)
	v.keys(w)
	if v.Cluster == nil {
		return
	}
	table = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "\nON THE LEDGER\tOPERATOR\tSTANDING\tPEER\tAPI\n")
	for _, m := range v.Cluster.Members {
		leader := ""
		if m.Leader {
			leader = " (leader)"
		}
		fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\t%s\n", m.Name, leader, m.Operator, m.Standing, m.Peer, m.API)
	}
	_ = table.Flush()
	for _, warning := range v.Cluster.Warnings {
		fmt.Fprintf(w, "WARNING   %s\n", clean(warning))
	}
}

// fleet prints how the nodes stand, and what governance should look at.
func (v *statusView) fleet(w io.Writer) {
	f := v.Fleet
	if f == nil || f.Nodes == 0 {
		return
	}
	fmt.Fprintf(w, "\nfleet     %s: %d active, %d on probation, %d quarantined, %d excluded; %d down; epoch %d\n",
		plural(int(f.Nodes), "node"), f.Active, f.Probation, f.Quarantined, f.Excluded, f.Down, f.Epoch)
	switch {
	case !f.Protected:
		fmt.Fprintf(w, "          the ledger's format has no rules of observation and evidence yet: quorate propose format.upgrade\n")
	case f.Bootstrap:
		fmt.Fprintf(w, "          fewer than 3 operators have nodes whose word counts: verdicts by quorum are off\n")
	default:
		fmt.Fprintf(w, "          %s have nodes whose word counts; the breaker holds at %d in quarantine by the word of others, it is at %d\n", plural(int(f.Eligible), "operator"), f.Room, f.Subjective)
	}
	if f.Breaker {
		fmt.Fprintf(w, "BREAKER   tripped: verdicts that would quarantine are withheld until there is room or governance decides (node.quarantine, node.release)\n")
	}
	if f.Partition {
		fmt.Fprintf(w, "PARTITION recognised: so many nodes are down that it is a cut; nobody is punished for it\n")
	}
}

// refusals prints a line for each kind of lie that a replica refused of another.
func (v *statusView) refusals(w io.Writer) {
	for _, s := range v.Servers {
		if s.Status == nil {
			continue
		}
		for _, one := range s.Status.Refusals {
			fmt.Fprintf(w, "REFUSED   by %s of %s: %s, %d times, last %s: %s\n", clean(s.Status.Name), orText(clean(one.Peer), "an unpinned one"),
				clean(one.Rule), one.Count, time.UnixMilli(int64(one.Last)).UTC().Format("15:04:05 UTC"), clean(one.Reason))
		}
	}
}

func shortReason(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}

// readerCommands are what everyone uses.
func (a *app) readerCommands() []*cobra.Command {
	return []*cobra.Command{a.statusCommand(), a.listCommand(), a.inspectCommand(), a.explainCommand(), a.watchCommand()}
}
