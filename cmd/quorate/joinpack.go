package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
)

// joinPackCommand makes what a new agent starts from: first a draft, then, of
// what governors endorsed, the pack.
func (a *app) joinPackCommand() *cobra.Command {
	var server serverFlags
	var out string
	c := &cobra.Command{
		Use:   "join-pack [ENDORSED.pack…] --out FILE",
		Short: "make what a new agent starts from: a recent head that governors endorsed",
		Long: `join-pack makes the file that quorate agent init --join-pack takes, in two steps:

  1. quorate join-pack --out head.pack          asks a server for the authority chain and
                                                the newest certified head, and verifies both
     quorate endorse head.pack --out NAME.pack  each of some governors signs it, offline
  2. quorate join-pack NAME.pack… --out fleet.pack
                                                collects what they signed, offline, and
                                                refuses it unless as many operators as
                                                change the council endorse one head

The genesis hash proves authority and not recency: an agent that starts from it
alone could be shown an old ledger in which replicas that were removed still
certify. An agent that starts from a pack accepts no history that does not contain
the endorsed head, and no pack that was endorsed more than 31 days ago. Make one
at each change of the council or the replicas, and at least monthly.

What a pack cannot show is that its own chain is the true one: governors who were
replaced, together with the replicas of their time, could make another. Whoever
sets up a node compares the pack's words with a governor of today.`,
		Example: "  quorate join-pack --out head.pack --server https://r1.example:8100 --genesis genesis\n  quorate join-pack alice.pack bob.pack --out fleet.pack --genesis genesis",
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return usage("say --out FILE", "the output file is missing")
			}
			if len(args) > 0 {
				return a.collectPack(args, &server, out)
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error { return a.draftPack(ctx, l, out) })
		},
	}
	server.add(c.Flags())
	c.Flags().StringVar(&out, "out", "", "the file to write")
	return c
}

// packView is a join pack as people see it.
type packView struct {
	Ledger     string         `json:"ledger"`
	Words      string         `json:"words"`
	Generation uint64         `json:"generation"`
	Authority  uint64         `json:"authority"` // index of the record whose council endorses
	Size       uint64         `json:"size"`
	Root       string         `json:"root"`
	RootWords  string         `json:"root_words"`
	Signed     uint64         `json:"signed"` // milliseconds: the replicas
	Threshold  uint64         `json:"threshold"`
	Council    []signer       `json:"council"`
	Endorsed   uint64         `json:"endorsed,omitempty"` // milliseconds; none: too few operators
	By         []packEndorser `json:"by"`
	Missing    []string       `json:"missing"` // operators of the council that have not endorsed
	Out        string         `json:"out,omitempty"`
}

type packEndorser struct {
	signer
	Time uint64 `json:"time"` // milliseconds
}

func viewPack(pack *ledger.JoinPack, r *ledger.JoinPackReport) *packView {
	v := &packView{
		Ledger: r.Genesis.String(), Words: wordsOf(r.Genesis), Generation: r.Authority.Generation, Authority: r.Authority.Index,
		Size: r.Head.Size, Root: r.Head.Root.String(), RootWords: wordsOf(r.Head.Root), Signed: r.Signed * 1000,
		Threshold: r.Threshold, Endorsed: r.Endorsed, Council: []signer{}, By: []packEndorser{}, Missing: []string{},
	}
	for _, m := range r.Authority.Council {
		v.Council = append(v.Council, signer{m.Name, m.Operator})
		if !slices.Contains(r.Operators, m.Operator) && !slices.Contains(v.Missing, m.Operator) {
			v.Missing = append(v.Missing, m.Operator)
		}
	}
	for i, m := range r.Endorsers { // in the order of the endorsements
		v.By = append(v.By, packEndorser{signer{m.Name, m.Operator}, pack.Endorsements[i].Time})
	}
	return v
}

func (v *packView) text(w io.Writer) {
	fmt.Fprintf(w, "a head for newcomers to start from\n")
	fmt.Fprintf(w, "  ledger   %s generation %d\n  words    %s\n", v.Ledger, v.Generation, v.Words)
	fmt.Fprintf(w, "  head     size %d, last signed %s by the replicas\n  root     %s\n  words    %s\n", v.Size, moment(v.Signed), v.Root, v.RootWords)
	fmt.Fprintf(w, "  council  %s (authority %d)\n", signersText(v.Council), v.Authority)
	fmt.Fprintf(w, "  rule     governors of %d operators must endorse it\n", v.Threshold)
	for _, e := range v.By {
		fmt.Fprintf(w, "  endorsed %s of %s, %s\n", e.Name, e.Operator, moment(e.Time))
	}
	if v.Endorsed > 0 {
		fmt.Fprintf(w, "  since    %s; agents start from it for 31 days, unless they are told otherwise\n", moment(v.Endorsed))
		return
	}
	fmt.Fprintf(w, "  missing  %d more of: %s\n", v.Threshold-uint64(len(v.operators())), strings.Join(v.Missing, ", "))
}

// draftPack writes what governors are to endorse.
func (a *app) draftPack(ctx context.Context, l *link, out string) error {
	head, err := l.Sync(ctx)
	if err != nil {
		return err
	}
	pack := &ledger.JoinPack{Checkpoint: string(head.Note)}
	for _, raw := range l.Links() {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return err
		}
		pack.Authority = append(pack.Authority, link)
	}
	report, err := pack.Check(l.genesis)
	if err != nil {
		return err
	}
	return a.keepPack(pack, report, out, func(w io.Writer) {
		fmt.Fprintf(w, "next, by governors of %d operators: quorate endorse %s --key FILE --out NAME.pack\n", report.Threshold, out)
	})
}

// keepPack writes a pack and shows it.
func (a *app) keepPack(pack *ledger.JoinPack, report *ledger.JoinPackReport, out string, next func(io.Writer)) error {
	data, err := pack.Encode()
	if err != nil {
		return err
	}
	if err := writeNew(out, data, 0o644); err != nil {
		return err
	}
	view := viewPack(pack, report)
	view.Out = out
	return a.print(view, func(w io.Writer) {
		view.text(w)
		fmt.Fprintf(w, "wrote %s\n", out)
		next(w)
	})
}

// readPack reads a pack and verifies all of it but how many endorse it. Without
// --genesis it is for the user to compare the words.
func (a *app) readPack(path string, f *serverFlags) (*ledger.JoinPack, *ledger.JoinPackReport, error) {
	pack, err := agent.ReadJoinPack(path)
	if err != nil {
		return nil, nil, usage("quorate join-pack makes one", "%w", causeOf(err))
	}
	claimed, err := pack.Ledger()
	if err != nil {
		return nil, nil, usage("quorate join-pack makes one", "%s: %w", path, err)
	}
	trusted, err := a.readGenesis(f.genesis)
	if err != nil {
		return nil, nil, err
	}
	if trusted == nil {
		a.note("note: no --genesis was given; compare the ledger's words yourself: %s", wordsOf(claimed))
		trusted = &pinned{hash: claimed}
	}
	if claimed != trusted.hash {
		return nil, nil, refused("ask whoever made the pack, by another way", "the join pack is of ledger %s, not of %s", claimed, trusted.hash)
	}
	report, err := pack.Check(trusted.hash)
	if err != nil {
		return nil, nil, packRefused(path, err)
	}
	return pack, report, nil
}

// packRefused says what to do about a pack that does not hold.
func packRefused(path string, err error) error {
	next := "ask whoever made the pack, by another way; do not start from it"
	var few *ledger.NotEndorsedError
	var age *ledger.PackAgeError
	switch {
	case errors.As(err, &few):
		next = "quorate endorse FILE, by governors of other operators; then quorate join-pack collects it"
	case errors.As(err, &age):
		next = "check this machine's clock, or ask for a new pack: quorate join-pack and endorse, as at least monthly"
	}
	var wrong *agent.PackError
	if errors.As(err, &wrong) {
		return refused(next, "%w", wrong)
	}
	return refused(next, "%s: %w", path, err)
}

// collectPack puts together what governors endorsed apart from each other.
func (a *app) collectPack(paths []string, f *serverFlags, out string) error {
	pack, report, err := a.readPack(paths[0], f)
	if err != nil {
		return err
	}
	f.genesis = report.Genesis.String() // said once
	for _, path := range paths[1:] {
		other, _, err := a.readPack(path, f)
		if err != nil {
			return err
		}
		if err := pack.Merge(other); err != nil {
			return usage("endorse one and the same head", "%s: %w", path, err)
		}
	}
	if report, err = pack.Verify(report.Genesis); err != nil {
		return packRefused(strings.Join(paths, ", "), err)
	}
	return a.keepPack(pack, report, out, func(w io.Writer) {
		fmt.Fprintf(w, "next: quorate agent init NAME --operator OPERATOR --join-pack %s, by %s; compare the words with another governor\n",
			out, time.UnixMilli(int64(report.Endorsed+ledger.MaxEndorsedAgeMillis)).UTC().Format("2006-01-02"))
	})
}

// operators are those of the endorsers, each once.
func (v *packView) operators() []string {
	var list []string
	for _, e := range v.By {
		if !slices.Contains(list, e.Operator) {
			list = append(list, e.Operator)
		}
	}
	return list
}
