package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

type ballotFlags struct {
	sign    signFlags
	server  serverFlags
	summary string
}

// ballotCommand is approve, reject, withdraw or veto.
func (a *app) ballotCommand(typ, verb, short string) *cobra.Command {
	var f ballotFlags
	c := &cobra.Command{
		Use:   verb + " ID | FILE",
		Short: short,
		Long: fmt.Sprintf(`%s takes the id of a proposal on the ledger, or a file that quorate propose
wrote. It shows the action in words, its effect, the rule, who has signed and who
is missing, and the twelve words of the id to compare aloud; then it asks.

With --out it writes the signed statement to a file and needs no server; what it
then shows comes from the proposal itself and the summary beside it, if any.`, verb),
		Example: fmt.Sprintf("  quorate %s 9f0c… --key bob.key\n  quorate %s p.cose --key bob.key --out a.cose", verb, verb),
		Args:    exactArgs("ID|FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(a.servers(&f.server)) == 0 || recoveryFile(args[0]) {
				return a.ballotOffline(c.Context(), typ, args[0], &f)
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error {
				return a.ballotOnline(ctx, l, typ, args[0], &f)
			})
		},
	}
	f.sign.add(c.Flags())
	f.server.add(c.Flags())
	f.server.addReplay(c.Flags())
	c.Flags().StringVar(&f.summary, "summary", "", "the summary to show with a file (default: the one beside it)")
	return c
}

// subject is the proposal that a ballot or inspect is about, with the
// statements that came with it in a file.
type subject struct {
	statement *ledger.Statement
	rest      []*ledger.Statement
}

// readSubject takes the proposal out of a file.
func readSubject(path string) (*subject, error) {
	list, err := readStatements(path)
	if err != nil {
		return nil, err
	}
	s := &subject{}
	for _, st := range list {
		if (st.Payload.Type == ledger.TypePropose || st.Payload.Type == ledger.TypeRecover) && s.statement == nil {
			s.statement = st
			continue
		}
		s.rest = append(s.rest, st)
	}
	if s.statement == nil {
		return nil, refused("give the file that quorate propose --out wrote", "%s holds no proposal, but a %s", path, list[0].Payload.Type)
	}
	return s, nil
}

func (s *subject) joins() []*ledger.Statement {
	return slices.DeleteFunc(slices.Clone(s.rest), func(st *ledger.Statement) bool { return st.Payload.Type != ledger.TypeJoin })
}

func envelopesOf(list []*ledger.Statement) [][]byte {
	var envelopes [][]byte
	for _, s := range list {
		envelopes = append(envelopes, s.Envelope)
	}
	return envelopes
}

// fetchSubject takes the proposal from the ledger: its own signed bytes, whose
// hash is the id, so that a server can't show another one.
func (l *link) fetchSubject(ctx context.Context, text string) (*subject, error) {
	id, err := parseID(text)
	if err != nil {
		return nil, err
	}
	p, err := l.Proposal(ctx, id.String(), client.Read{Consistency: client.Linearizable})
	if err != nil {
		return nil, err
	}
	if err := l.reach(ctx, p.Seq); err != nil {
		return nil, err
	}
	entry, err := l.Entry(ctx, p.Seq)
	if err != nil {
		return nil, err
	}
	e, err := ledger.ParseEntry(entry.Entry)
	if err != nil {
		return nil, err
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return nil, err
	}
	if st.ID != id || st.Payload.Type != ledger.TypePropose {
		return nil, refused("ask another server", "the server showed another statement than %s", id)
	}
	return &subject{statement: st}, nil
}

// reach waits until a certified head covers seq.
func (l *link) reach(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		head, err := l.synced(ctx)
		if err != nil {
			return err
		}
		if head.Size > seq {
			return nil
		}
		// A seal is due within a second of its entry.
		select {
		case <-ctx.Done():
			return refused("quorate status shows why nothing is certified", "entry %d is not certified yet", seq)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *app) ballotOffline(ctx context.Context, typ, arg string, f *ballotFlags) error {
	if !isFile(arg) {
		return usage("say --server URL or set QUORATE_SERVER", "a proposal named by its id is on the ledger, and no server is named")
	}
	if f.sign.out == "" {
		return usage("say --out a.cose, and later quorate submit; or --server URL", "without a server nothing can be submitted")
	}
	s, err := readSubject(arg)
	if err != nil {
		return err
	}
	view, body, err := newReview(s.statement)
	if err != nil {
		return err
	}
	if err := a.compareLedger(view, &f.server); err != nil {
		return err
	}
	view.addJoins(s.joins())
	known, err := summaryBeside(arg, f.summary)
	if err != nil {
		return err
	}
	view.offline(known, body)
	envelope, err := a.signBallot(ctx, nil, typ, s.statement, view, &f.sign)
	if err != nil || envelope == nil {
		return err
	}
	if err := writeStatements(f.sign.out, [][]byte{envelope}); err != nil {
		return err
	}
	return a.print(kept{view, f.sign.out, ""}, func(w io.Writer) {
		if s.statement.Payload.Type == ledger.TypeRecover {
			fmt.Fprintf(w, "wrote %s\nnext, on each replica that stays: quorate operator recover apply --config FILE --plan plan.json %s %s\n", f.sign.out, arg, f.sign.out)
			return
		}
		fmt.Fprintf(w, "wrote %s\nnext: quorate submit %s %s where a server is reachable\n", f.sign.out, arg, f.sign.out)
	})
}

// compareLedger checks the ledger of an offline proposal against --genesis.
func (a *app) compareLedger(view *review, f *serverFlags) error {
	trusted, err := a.readGenesis(f.genesis)
	if err != nil {
		return err
	}
	if trusted == nil {
		hash, err := ledger.ParseHash(view.Ledger)
		if err != nil {
			return err
		}
		a.note("note: no --genesis was given; compare the ledger's words yourself: %s", wordsOf(hash))
		return nil
	}
	if trusted.hash.String() != view.Ledger {
		return refused("do not sign it for this ledger", "the proposal is for ledger %s, not %s", view.Ledger, trusted.hash)
	}
	return nil
}

func (a *app) ballotOnline(ctx context.Context, l *link, typ, arg string, f *ballotFlags) error {
	var s *subject
	var err error
	if isFile(arg) {
		if s, err = readSubject(arg); err == nil && s.statement.Payload.Ledger != l.genesis {
			err = refused("do not sign it for this ledger", "the proposal is for ledger %s, not %s", s.statement.Payload.Ledger, l.genesis)
		}
	} else {
		s, err = l.fetchSubject(ctx, arg)
	}
	if err != nil {
		return err
	}
	view, body, err := newReview(s.statement)
	if err != nil {
		return err
	}
	view.addJoins(s.joins())
	if err := view.online(ctx, l, body, envelopesOf(s.joins())); err != nil {
		return err
	}
	if err := votable(typ, view); err != nil {
		return err
	}
	envelope, err := a.signBallot(ctx, l, typ, s.statement, view, &f.sign)
	if err != nil || envelope == nil {
		return err
	}
	if f.sign.out != "" {
		if err := writeStatements(f.sign.out, [][]byte{envelope}); err != nil {
			return err
		}
		return a.print(kept{view, f.sign.out, ""}, func(w io.Writer) { fmt.Fprintf(w, "wrote %s\n", f.sign.out) })
	}
	// A proposal that came in a file goes along: what the ledger has already
	// is accepted again as a duplicate.
	var envelopes [][]byte
	if isFile(arg) {
		envelopes = append(envelopesOf(s.joins()), s.statement.Envelope)
	}
	return a.submitVote(ctx, l, view, append(envelopes, envelope), f.sign.wait)
}

// votable refuses a vote that the ledger would refuse, before a key is asked
// for. What is certified may be behind, so only final standings count.
func votable(typ string, view *review) error {
	switch view.Standing {
	case "", fsm.ProposalOpen:
		return nil
	case fsm.ProposalDecided:
		if typ == ledger.TypeWithdraw || typ == ledger.TypeVeto {
			return nil
		}
		return &failure{exit: exitRefused, code: "already_decided", next: nextStep("already_decided"),
			cause: fmt.Errorf("the proposal is decided, and due at %s", moment(view.DueAt))}
	}
	return &failure{exit: exitRefused, code: "proposal_closed", next: nextStep("proposal_closed"),
		cause: fmt.Errorf("the proposal is closed: it is %s%s", view.Standing, suffix(", ", view.Reason))}
}

// signBallot shows the review, asks and signs. Without a server l is nil.
func (a *app) signBallot(ctx context.Context, l *link, typ string, s *ledger.Statement, view *review, f *signFlags) ([]byte, error) {
	key, err := a.governor(ctx, f)
	if err != nil {
		return nil, err
	}
	defer key.close()
	if l != nil {
		if err := key.seated(ctx, l); err != nil {
			return nil, err
		}
	}
	if ok, err := a.agree(view, "Sign this "+typ+" as "+key.Name+"?", f.yes); err != nil || !ok {
		return nil, err
	}
	at := spot{genesis: s.Payload.Ledger, generation: s.Payload.Generation}
	return key.sign(ctx, at.payload(key.Name, typ), ledger.Ballot{Memo: f.memo, Proposal: s.ID}, typ+" proposal "+s.ID.String()+" "+view.Action)
}

// voted is what proposing or voting prints.
type voted struct {
	ID       string          `json:"id"`
	Words    string          `json:"words"`
	Action   string          `json:"action"`
	Standing string          `json:"standing,omitempty"`
	Answer   json.RawMessage `json:"answer"`
}

// nextVoter says whose approval an open proposal waits for.
func nextVoter(rule *client.Rule) string {
	if rule == nil {
		return "a governor of another operator"
	}
	if rule.Recovery {
		return "another recovery holder"
	}
	var consents []string
	for _, c := range rule.Consents {
		if !c.Given && !slices.Contains(consents, c.By) {
			consents = append(consents, c.By)
		}
	}
	if len(consents) > 0 {
		return "a governor of " + strings.Join(consents, ", and of ") + ", who must consent"
	}
	return "a governor of another operator"
}

// submitVote submits statements about a proposal and says how it stands.
func (a *app) submitVote(ctx context.Context, l *link, view *review, envelopes [][]byte, wait string) error {
	answer, err := a.submitAll(ctx, l, envelopes, wait)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	result := voted{ID: view.ID, Words: view.Words, Action: view.Action, Answer: raw}
	p, err := l.Proposal(ctx, view.ID, client.Read{Consistency: client.Linearizable})
	if err == nil {
		result.Standing = p.Standing
	}
	return a.print(result, func(w io.Writer) {
		answer.text(w)
		if p == nil {
			return
		}
		fmt.Fprintf(w, "the proposal is now %s%s\n", p.Standing, suffix(": ", clean(p.Reason)))
		if p.Standing == fsm.ProposalOpen {
			fmt.Fprintf(w, "next: quorate approve %s, by %s\n", view.ID, nextVoter(p.Rule))
		}
	})
}
