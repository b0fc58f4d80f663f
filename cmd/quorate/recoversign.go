package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// How governors sign a recovery: offline, with the plan in the place of a server.

// verified checks the plan by itself: its head is certified under the authority
// chain from genesis on. It gives what is to be decided, and who decides.
func (p *planFile) verified() (*ledger.Recover, ledger.Authority, error) {
	bad := func(err error) (*ledger.Recover, ledger.Authority, error) {
		return nil, ledger.Authority{}, refused("do not sign it; ask for a plan that verifies", "the plan: %w", err)
	}
	genesis, err := ledger.ParseHash(p.Ledger)
	if err != nil {
		return bad(err)
	}
	var links []*ledger.Link
	for _, raw := range p.Links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return bad(err)
		}
		links = append(links, link)
	}
	chain, err := ledger.WalkChain(genesis, links)
	if err != nil {
		return bad(err)
	}
	checkpoint, err := chain.VerifyCheckpoint([]byte(p.Checkpoint))
	if err != nil {
		return bad(err)
	}
	if handover, ok := chain.HandoverHead(chain.Len() - 1); ok && handover.Size > checkpoint.Head.Size {
		return bad(fmt.Errorf("its head is of size %d, and a handover of size %d is certified", checkpoint.Head.Size, handover.Size))
	}
	body := &ledger.Recover{}
	if err := canon.Unmarshal(p.Body, body); err != nil {
		return bad(err)
	}
	if err := body.Validate(); err != nil {
		return bad(err)
	}
	if body.Head.Size != checkpoint.Head.Size || body.Head.Root != checkpoint.Head.Root {
		return bad(fmt.Errorf("it names the head of size %d, the certified one is of size %d", body.Head.Size, checkpoint.Head.Size))
	}
	if body.Generation != chain.Latest.Generation+1 {
		return bad(fmt.Errorf("it opens generation %d after %d", body.Generation, chain.Latest.Generation))
	}
	return body, chain.Latest, nil
}

// proposeRecovery signs the recover statement of a plan.
func (a *app) proposeRecovery(ctx context.Context, args []string, f *proposeFlags) error {
	path, ok := "", false
	if len(args) == 1 {
		path, ok = strings.CutPrefix(args[0], "plan=")
	}
	if !ok || f.sign.out == "" {
		return usage("quorate propose recover plan=plan.json --key FILE --out recover.cose", "a recovery is proposed offline, by its plan")
	}
	plan, err := readPlan(path)
	if err != nil {
		return err
	}
	body, authority, err := plan.verified()
	if err != nil {
		return err
	}
	if now := uint64(a.now().UnixMilli()); body.Until <= now {
		return refused("make a new plan", "the plan could be applied until %s", moment(body.Until))
	}
	if f.sign.memo != "" {
		return usage("quorate operator recover plan --memo", "the memo of a recovery is in its plan")
	}
	key, err := a.governor(ctx, &f.sign)
	if err != nil {
		return err
	}
	defer key.close()
	at := spot{genesis: authority.Ledger, generation: authority.Generation}
	payload := at.payload(key.Name, ledger.TypeRecover)
	s, err := key.draft(payload, body)
	if err != nil {
		return refused("plan with fewer new replicas; more join later by replica.add", "%w", err)
	}
	view, _, err := newReview(s)
	if err != nil {
		return err
	}
	if err := a.compareLedger(view, &f.server); err != nil {
		return err
	}
	view.Rule = recoverRule(authority, key.Name)
	if ok, err := a.agree(view, "Sign this recovery as "+key.Name+"?", f.sign.yes); err != nil || !ok {
		return err
	}
	envelope, err := key.sign(ctx, payload, body, "recover the ledger as generation "+strconv.FormatUint(body.Generation, 10), "words "+view.Words)
	if err != nil {
		return err
	}
	if err := writeStatements(f.sign.out, [][]byte{envelope}); err != nil {
		return err
	}
	return a.print(kept{view, f.sign.out, ""}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s\nnext, by governors of other operators: quorate approve %s --out NAME.cose\n", f.sign.out, f.sign.out)
	})
}

func recoverRule(authority ledger.Authority, author string) *ruleView {
	rules := &ruleSource{source: fmt.Sprintf("proven by the plan, as of authority %d", authority.Index),
		policy: ledger.Policy{Rules: map[string]ledger.Rule{ledger.TypeRecover: {Threshold: authority.RecoverThreshold()}}}}
	for _, m := range authority.Council {
		rules.council = append(rules.council, seat{name: m.Name, operator: m.Operator, key: keyIDOf(m.Public)})
	}
	return rules.view(ledger.TypeRecover, author, nil)
}

// reviewRecovery begins a review of a recover statement from its signed bytes
// alone.
func reviewRecovery(s *ledger.Statement) (*review, *ledger.Propose, error) {
	body, err := ledger.DecodeBody[ledger.Recover](s)
	if err != nil {
		return nil, nil, err
	}
	words := []string{
		fmt.Sprintf("go on from the certified head of size %d as generation %d, with other replicas", body.Head.Size, body.Generation),
		"its root " + body.Head.Root.String(),
		"stay     " + strings.Join(body.Keep, ", "),
	}
	for _, r := range body.New {
		words = append(words, fmt.Sprintf("joins    %s of %s at %s, key %s", r.Name, r.Operator, r.Peer, wordsOf(r.KeyID())))
	}
	words = append(words, "every other replica is removed for good, and what was committed beyond that head is lost",
		"planned  "+moment(body.At))
	return &review{
		ID: s.ID.String(), Words: wordsOf(s.ID), Ledger: s.Payload.Ledger.String(), Generation: s.Payload.Generation,
		Author: s.Payload.Author, Key: s.KeyID.String(), Action: ledger.TypeRecover, InWords: words, Memo: body.Memo, Expires: body.Until,
	}, &ledger.Propose{Action: ledger.TypeRecover, Args: s.Payload.Body, Memo: body.Memo}, nil
}

// recoveryFile says whether an argument is a file with a recover statement.
func recoveryFile(arg string) bool {
	if !isFile(arg) {
		return false
	}
	list, err := readStatements(arg)
	return err == nil && list[0].Payload.Type == ledger.TypeRecover
}
