package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

type proposeFlags struct {
	sign     signFlags
	server   serverFlags
	file     string
	joins    string
	base     string
	saveBase string
}

func (a *app) proposeCommand() *cobra.Command {
	var f proposeFlags
	c := &cobra.Command{
		Use:   "propose ACTION key=value… | --file F",
		Short: "propose an action, after showing what it would do",
		Long: `propose shows the action in words, its effect as a diff, the rule and the twelve
words of the proposal, asks, signs and submits it.

With --out it writes the signed proposal to a file instead, and beside it a
summary for the governors who sign offline. A machine without network proposes
with --base FILE, which --save-base wrote on another one.

A value @FILE is read from that file: a public key file for council.change,
council.reseat, replica.add and replica.rekey, a join for node.admit and
node.rekey, a whole policy for policy.change.`,
		Example: `  quorate propose node.quarantine name=edge-7 reason="sends forged routes"
  quorate propose policy.change quota=4096 rules.node.admit.threshold=3
  quorate propose council.change add=@dave.pub remove=bob --out p.cose
  quorate propose node.admit --joins joins/ --memo "spring batch"`,
		Args: func(c *cobra.Command, args []string) error {
			if (len(args) == 0) == (f.file == "") {
				return usage("quorate propose ACTION key=value…, or quorate propose --file F", "give an action or a file")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return ledger.ActionsOf(ledger.Format), cobra.ShellCompDirectiveNoFileComp
			}
			var list []string
			for key := range arguments[args[0]] {
				list = append(list, key+"=")
			}
			return list, cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == ledger.TypeRecover {
				return a.proposeRecovery(c.Context(), args[1:], &f)
			}
			if len(a.servers(&f.server)) == 0 || f.base != "" {
				return a.proposeOffline(c.Context(), args, &f)
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error {
				return a.proposeOnline(ctx, l, args, &f)
			})
		},
	}
	f.sign.add(c.Flags())
	f.server.add(c.Flags())
	f.server.addReplay(c.Flags())
	c.Flags().StringVar(&f.file, "file", "", "read action, args and memo from this YAML or JSON file")
	c.Flags().StringVar(&f.joins, "joins", "", "for node.admit: a directory of join files")
	c.Flags().StringVar(&f.base, "base", "", "a summary that --save-base wrote, instead of a server")
	c.Flags().StringVar(&f.saveBase, "save-base", "", "only write the summary that an offline machine needs, unsigned")
	return c
}

// proposalFile is what --file holds.
type proposalFile struct {
	Action string         `yaml:"action"`
	Args   map[string]any `yaml:"args"`
	Memo   string         `yaml:"memo"`
}

// readRequest reads what is to be proposed, from the command line or a file.
func (f *proposeFlags) readRequest(args []string, policy func() (*ledger.Policy, error)) (*request, error) {
	var doc proposalFile
	dir := ""
	if f.file != "" {
		if err := readYAML(f.file, &doc); err != nil {
			return nil, err
		}
		dir = filepath.Dir(f.file)
	} else {
		given, err := keyValues(args[1:])
		if err != nil {
			return nil, err
		}
		doc = proposalFile{Action: args[0], Args: given}
	}
	if f.joins != "" {
		list, err := joinsIn(f.joins)
		if err != nil {
			return nil, err
		}
		if doc.Args == nil {
			doc.Args = map[string]any{}
		}
		doc.Args["joins"] = list
	}
	var r *request
	var err error
	if doc.Action == actionPolicyChange {
		r, err = policyRequest(doc.Args, dir, policy)
	} else {
		r, err = readArguments(doc.Action, doc.Args, dir)
	}
	if err != nil {
		return nil, err
	}
	r.Memo = orText(f.sign.memo, doc.Memo)
	return r, nil
}

// proposeOnline proposes with a server at hand.
func (a *app) proposeOnline(ctx context.Context, l *link, args []string, f *proposeFlags) error {
	r, err := f.readRequest(args, func() (*ledger.Policy, error) { return provenRecord[ledger.Policy](ctx, l, "policy") })
	if err != nil {
		return err
	}
	base, err := l.baseOf(ctx, r)
	if err != nil {
		return err
	}
	if base.Ledger != l.genesis.String() {
		return refused("compare --genesis and --server", "the server's ledger is %s, not %s", base.Ledger, l.genesis)
	}
	if f.saveBase != "" {
		return a.saveBase(ctx, l, r, base, f.saveBase)
	}
	at := spot{genesis: l.genesis, generation: base.Generation}
	signed, err := a.signProposal(ctx, l, f, r, at, base.Base, func(view *review, body *ledger.Propose) error {
		return view.online(ctx, l, body, r.Joins)
	})
	if err != nil || signed == nil {
		return err
	}
	if f.sign.out != "" {
		return a.keepProposal(ctx, l, signed, base, f.sign.out)
	}
	return a.submitVote(ctx, l, signed.view, signed.envelopes, f.sign.wait)
}

// baseOf asks for the versions of the tables that an action touches.
func (l *link) baseOf(ctx context.Context, r *request) (*client.Base, error) {
	action, args, err := baseQuestion(r)
	if err != nil {
		return nil, err
	}
	return l.Base(ctx, action, []byte(args), client.Read{})
}

// baseQuestion is what is asked for a proposal's tables. Only those of an action on
// one node's record depend on its arguments; a whole council's or fleet's would be
// more than a URL carries. A join that comes with a node.rekey is not on the ledger
// yet, so that no server knows whose it is: its node's record is asked for by name.
func baseQuestion(r *request) (action string, args canon.Raw, err error) {
	action, args = r.Action, r.Args
	switch {
	case action == "node.rekey" && len(r.Joins) == 1:
		st, err := ledger.ParseStatement(r.Joins[0])
		if err != nil {
			return "", nil, err
		}
		if args, err = canon.Marshal(map[string]string{"name": st.Payload.Author}); err != nil {
			return "", nil, fmt.Errorf("encode arguments: %w", err)
		}
		action = "node.remove" // whose only table is that record, too
	case action == "council.change":
		args = canon.Raw(`{}`)
	case action == "council.reseat":
		args = canon.Raw(`{"council":[]}`)
	case action == "node.admit":
		args = canon.Raw(`{"joins":[]}`)
	}
	return action, args, nil
}

// proposeOffline proposes with a summary in place of a server.
func (a *app) proposeOffline(ctx context.Context, args []string, f *proposeFlags) error {
	switch {
	case f.base == "":
		return usage("say --server URL, or offline --base FILE, which quorate propose … --save-base FILE writes where a server is reachable",
			"a proposal names the version of each table that it touches, and there is no server to ask")
	case f.sign.out == "":
		return usage("say --out p.cose, and later quorate submit p.cose where a server is reachable", "with --base nothing is submitted")
	case f.saveBase != "":
		return usage("say --server URL", "--save-base asks a server")
	}
	s, err := readSummary(f.base)
	if err != nil {
		return err
	}
	at, err := s.spot()
	if err != nil {
		return err
	}
	if trusted, err := a.readGenesis(f.server.genesis); err != nil {
		return err
	} else if trusted != nil && trusted.hash != at.genesis {
		return refused("take a summary of this ledger", "the summary is of ledger %s, not %s", at.genesis, trusted.hash)
	}
	r, err := f.readRequest(args, func() (*ledger.Policy, error) {
		return nil, usage("give the whole policy: policy=@FILE", "single fields of the policy cannot be changed offline")
	})
	if err != nil {
		return err
	}
	if !s.matches(&ledger.Propose{Action: r.Action, Args: r.Args}) {
		a.note("note: the summary was written for another action, so its base versions may not fit and there is no diff")
	}
	signed, err := a.signProposal(ctx, nil, f, r, at, s.Base, func(view *review, body *ledger.Propose) error {
		view.offline(s, body)
		return nil
	})
	if err != nil || signed == nil {
		return err
	}
	if err := writeStatements(f.sign.out, signed.envelopes); err != nil {
		return err
	}
	return a.printKept(signed.view, f.sign.out, "")
}

// signedProposal is a proposal with the joins that go with it.
type signedProposal struct {
	view      *review
	body      *ledger.Propose
	envelopes [][]byte // joins first: the proposal names them
}

// signProposal shows the request, asks and signs it; look fills in the review.
// Without a server l is nil. It returns nil if the governor says no.
func (a *app) signProposal(ctx context.Context, l *link, f *proposeFlags, r *request, at spot, base map[string]uint64, look func(*review, *ledger.Propose) error) (*signedProposal, error) {
	key, err := a.governor(ctx, &f.sign)
	if err != nil {
		return nil, err
	}
	defer key.close()
	if l != nil {
		if err := key.seated(ctx, l); err != nil {
			return nil, err
		}
	}
	payload := a.withNonce(at.payload(key.Name, ledger.TypePropose))
	body := ledger.Propose{Action: r.Action, Args: r.Args, Base: base, Memo: r.Memo}
	s, err := key.draft(payload, body)
	if err != nil {
		return nil, refused("make several proposals if it is too large", "%w", err)
	}
	view, parsed, err := newReview(s)
	if err != nil {
		return nil, err
	}
	joins, err := parseStatements(r.Joins)
	if err != nil {
		return nil, err
	}
	view.addJoins(joins)
	if err := look(view, parsed); err != nil {
		return nil, err
	}
	if ok, err := a.agree(view, "Sign and propose this?", f.sign.yes); err != nil || !ok {
		return nil, err
	}
	envelope, err := key.sign(ctx, payload, body, "propose "+r.Action, "words "+view.Words)
	if err != nil {
		return nil, err
	}
	return &signedProposal{view: view, body: parsed, envelopes: append(append([][]byte{}, r.Joins...), envelope)}, nil
}

func parseStatements(envelopes [][]byte) ([]*ledger.Statement, error) {
	var list []*ledger.Statement
	for _, e := range envelopes {
		s, err := ledger.ParseStatement(e)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// agree shows a review and asks.
func (a *app) agree(view *review, question string, yes bool) (bool, error) {
	return a.agreeTo(view.text, question, yes)
}

// agreeTo shows what is to be signed and asks.
func (a *app) agreeTo(show func(io.Writer), question string, yes bool) (bool, error) {
	if a.output != "json" {
		show(a.out)
	} else if !yes {
		show(a.err)
	}
	if yes {
		return true, nil
	}
	ok, err := a.confirm(question)
	if err == nil && !ok {
		err = refused("say y, or --yes in a script", "nothing was signed or sent")
	}
	return ok, err
}

// keepProposal writes the proposal and a summary beside it.
func (a *app) keepProposal(ctx context.Context, l *link, signed *signedProposal, base *client.Base, out string) error {
	if err := writeStatements(out, signed.envelopes); err != nil {
		return err
	}
	s, err := l.summarize(ctx, &request{Action: signed.body.Action, Args: signed.body.Args}, base)
	if err != nil {
		return err
	}
	s.Diff = signed.view.Effect.diff()
	if err := writeSummary(summaryPath(out), s); err != nil {
		return err
	}
	return a.printKept(signed.view, out, summaryPath(out))
}

func (a *app) saveBase(ctx context.Context, l *link, r *request, base *client.Base, path string) error {
	s, err := l.summarize(ctx, r, base)
	if err != nil {
		return err
	}
	e, err := l.simulate(ctx, &ledger.Propose{Action: r.Action, Args: r.Args}, "", r.Joins)
	if err != nil {
		return err
	}
	s.Diff = e.diff()
	if err := writeSummary(path, s); err != nil {
		return err
	}
	return a.print(map[string]any{"summary": path, "base": base.Base}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s; next, on the machine with the key: quorate propose … --base %s --out p.cose\n", path, path)
	})
}

// summarize collects what an offline machine needs.
func (l *link) summarize(ctx context.Context, r *request, base *client.Base) (*summary, error) {
	council, err := l.Council(ctx, client.Read{})
	if err != nil {
		return nil, err
	}
	policy, err := provenRecord[ledger.Policy](ctx, l, "policy")
	if err != nil {
		return nil, err
	}
	s := &summary{Ledger: l.genesis.String(), Generation: base.Generation, Size: council.Size, Signed: council.Signed,
		Action: r.Action, Args: []byte(r.Args), Base: base.Base, Council: council.Governors}
	if policy != nil && r.Action != actionReseat { // its holders are no part of a summary
		rule := ruleOf(policy, nil, r.Action)
		s.Rule = &rule
	}
	return s, nil
}

// kept is what --out prints.
type kept struct {
	*review
	Out     string `json:"out"`
	Summary string `json:"summary,omitempty"`
}

func (a *app) printKept(view *review, out, summary string) error {
	return a.print(kept{view, out, summary}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s%s\n", out, suffix(" and ", summary))
		fmt.Fprintf(w, "next: quorate approve %s --out a.cose where another governor's key is, then quorate submit %s a.cose\n", out, out)
	})
}

// governorCommands are what a governor uses.
func (a *app) governorCommands() []*cobra.Command {
	return []*cobra.Command{
		a.proposeCommand(),
		a.ballotCommand(ledger.TypeApprove, "approve", "approve a proposal, after showing what it would do"),
		a.ballotCommand(ledger.TypeReject, "reject", "reject a proposal"),
		a.ballotCommand(ledger.TypeWithdraw, "withdraw", "withdraw your own proposal"),
		a.ballotCommand(ledger.TypeVeto, "veto", "veto a decided proposal, as its rule allows"),
		a.submitCommand(), a.recordCommand(), a.endorseCommand(),
	}
}

func plural(n int, one string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %ss", n, strings.TrimSuffix(one, "s"))
}
