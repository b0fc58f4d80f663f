package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
)

func (a *app) inspectCommand() *cobra.Command {
	var server serverFlags
	var summaryFile string
	c := &cobra.Command{
		Use:   "inspect FILE | ID",
		Short: "show what a proposal or a statement file says, and what it would do",
		Long: `inspect shows what a governor sees before signing, without signing. With a
server it also shows the effect, the rule and who has signed; a file alone shows
what it says by itself, and what the summary beside it says.

Of genesis.cbor it shows the words to compare aloud, worked out from its bytes, and
who and what it names.`,
		Example: "  quorate inspect p.cose\n  quorate inspect genesis.cbor\n  quorate inspect 9f0c… --server http://127.0.0.1:7400",
		Args:    exactArgs("FILE|ID"),
		RunE: func(c *cobra.Command, args []string) error {
			online := len(a.servers(&server)) > 0
			if !isFile(args[0]) {
				if !online {
					return usage("say --server URL or set QUORATE_SERVER", "a proposal named by its id is on the ledger, and no server is named")
				}
				return a.withServer(c, &server, func(ctx context.Context, l *link) error {
					s, err := l.fetchSubject(ctx, args[0])
					if err != nil {
						return err
					}
					return a.inspectOnline(ctx, l, s)
				})
			}
			if data, err := readBounded(args[0], maxGenesisBytes); err == nil {
				if g, hash, err := ledger.ParseGenesis(data); err == nil {
					made := foundedBy(g, hash)
					return a.print(made, func(w io.Writer) { fmt.Fprint(w, made.record) })
				}
			}
			list, err := readStatements(args[0])
			if err != nil {
				return err
			}
			if !holdsProposal(list) {
				return a.printStatements(list)
			}
			s, err := readSubject(args[0])
			if err != nil {
				return err
			}
			if online {
				return a.withServer(c, &server, func(ctx context.Context, l *link) error { return a.inspectOnline(ctx, l, s) })
			}
			return a.inspectFile(args[0], s, summaryFile, &server)
		},
	}
	server.add(c.Flags())
	server.addReplay(c.Flags())
	c.Flags().StringVar(&summaryFile, "summary", "", "the summary to show with a file (default: the one beside it)")
	return c
}

func holdsProposal(list []*ledger.Statement) bool {
	for _, s := range list {
		if s.Payload.Type == ledger.TypePropose || s.Payload.Type == ledger.TypeRecover {
			return true
		}
	}
	return false
}

func (a *app) inspectOnline(ctx context.Context, l *link, s *subject) error {
	view, body, err := newReview(s.statement)
	if err != nil {
		return err
	}
	if s.statement.Payload.Ledger != l.genesis {
		return refused("compare --genesis", "the proposal is for ledger %s, not %s", s.statement.Payload.Ledger, l.genesis)
	}
	view.addJoins(s.joins())
	if err := view.online(ctx, l, body, envelopesOf(s.joins())); err != nil {
		return err
	}
	return a.print(view, view.text)
}

func (a *app) inspectFile(path string, s *subject, summaryFile string, f *serverFlags) error {
	view, body, err := newReview(s.statement)
	if err != nil {
		return err
	}
	if err := a.compareLedger(view, f); err != nil {
		return err
	}
	view.addJoins(s.joins())
	known, err := summaryBeside(path, summaryFile)
	if err != nil {
		return err
	}
	view.offline(known, body)
	return a.print(view, view.text)
}

// statementView is a statement as inspect shows it.
type statementView struct {
	ID     string   `json:"id"`
	Words  string   `json:"words"`
	Type   string   `json:"type"`
	Author string   `json:"author"`
	Key    string   `json:"key"`
	Ledger string   `json:"ledger"`
	About  []string `json:"about"`
}

func (a *app) printStatements(list []*ledger.Statement) error {
	var views []statementView
	for _, s := range list {
		views = append(views, statementView{ID: s.ID.String(), Words: wordsOf(s.ID), Type: s.Payload.Type, Author: s.Payload.Author,
			Key: s.KeyID.String(), Ledger: s.Payload.Ledger.String(), About: aboutStatement(s)})
	}
	return a.print(views, func(w io.Writer) {
		for _, v := range views {
			fmt.Fprintf(w, "%s by %s, key %s…\n  id       %s\n  words    %s\n  ledger   %s\n", v.Type, v.Author, v.Key[:16], v.ID, v.Words, v.Ledger)
			for _, line := range v.About {
				fmt.Fprintf(w, "  %s\n", clean(line))
			}
		}
	})
}

// aboutStatement says in words what a statement that is no proposal says.
func aboutStatement(s *ledger.Statement) []string {
	switch s.Payload.Type {
	case ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto:
		if b, err := ledger.DecodeBody[ledger.Ballot](s); err == nil {
			return append([]string{"proposal " + b.Proposal.String(), "words    " + wordsOf(b.Proposal)}, memoLine(b.Memo)...)
		}
	case ledger.TypeJoin:
		if b, err := ledger.DecodeBody[ledger.Join](s); err == nil {
			return []string{fmt.Sprintf("the node %s of %s asks to be admitted", b.Name, b.Operator), "its key  " + wordsOf(s.KeyID)}
		}
	case ledger.TypeRecord:
		if b, err := ledger.DecodeBody[ledger.Record](s); err == nil {
			if len(b.Digest) > 0 {
				return []string{strings.TrimSpace("SHA-256 " + hexOf(b.Digest) + " " + b.Name)}
			}
			return []string{b.Text}
		}
	case ledger.TypeReady:
		if b, err := ledger.DecodeBody[ledger.Ready](s); err == nil {
			return []string{fmt.Sprintf("its history is whole to %d entries", b.Size)}
		}
	}
	return []string{string(s.Payload.Body)}
}

func memoLine(memo string) []string {
	if memo == "" {
		return nil
	}
	return []string{"memo     " + memo}
}
