package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/stagehand"
)

// councilLost is the ledger of the story in which the council is lost. Proposals
// are short-lived, so that one that nobody can decide is seen to end.
// Nodes' keys are so short-lived that one which nobody can help ends meanwhile.
var councilLost = plan{nodes: 2, policy: fmt.Sprintf(`{epoch_millis: 4000, tick_millis: 1000, max_skew_millis: 3000, proposal_lifetime_millis: 25000, key_epochs: 10,
 keys: {rotate_epochs: 6, late_epochs: 3}, rules: {council.reseat: {delay_millis: %d}}}`, reseatWait.Milliseconds())}

// councilReseated: three of five governors are without keys. The two others decide
// nothing; two recovery holders seat a new council, after the wait; and that is
// all that recovery holders can do.
func councilReseated(ctx context.Context, h *house) error {
	for _, name := range []string{"carol", "dave", "erin"} {
		for _, end := range []string{".key", ".pub"} {
			if err := os.Rename(filepath.Join(h.Dir, "keys", name+end), filepath.Join(h.Dir, "keys", "lost-"+name+end)); err != nil {
				return err
			}
		}
	}
	// New keys for those who lost theirs, made now, so that either way can be tried.
	for i, name := range []string{"carol", "dave", "erin"} {
		if err := h.keygen(ctx, "fresh", "governor", name, governors[2+i].operator); err != nil {
			return err
		}
	}
	// n2's machine stops too: its key will end, and there is no council to help.
	helpless := h.agent("n2")
	h.stopAgent(helpless, syscall.SIGKILL)
	stuck, err := h.proposes(ctx, "alice", "council.change", "remove=carol", "add=@fresh/carol.pub")
	if err != nil {
		return err
	}
	if err := h.approves(ctx, stuck, "bob"); err != nil {
		return err
	}
	if err := h.vetoed(ctx); err != nil {
		return err
	}
	if err := h.warns(ctx, fsm.AlarmRotationLate, helpless.Name); err != nil {
		return err
	}
	rita, err := h.open("keys/rita")
	if err != nil {
		return err
	}
	if err := h.nothingElse(ctx, rita); err != nil {
		return err
	}
	if err := h.stands(ctx, stuck, fsm.ProposalExpired); err != nil {
		return err
	}
	h.Says("council", "alice and bob sign a council.change: two operators of the three that it takes, so it expires")
	if err := h.warns(ctx, fsm.AlarmKeyExpired, helpless.Name); err != nil {
		return err
	}
	if err := h.reseat(ctx); err != nil {
		return err
	}
	return h.helps(ctx, helpless)
}

// helps has the new council give a node whose key ended another.
func (h *house) helps(ctx context.Context, a *agent) error {
	if err := h.movesFolder(a.dir(), "ended-"+a.Name); err != nil {
		return err
	}
	if err := h.makeNode(ctx, a); err != nil {
		return err
	}
	if err := h.newCouncilDecides(ctx, "node.rekey", "join=@"+filepath.Join(a.dir(), a.Name+".join.cose")); err != nil {
		return err
	}
	if err := h.startAgent(a); err != nil {
		return err
	}
	if err := h.follows(ctx, a); err != nil {
		return err
	}
	h.Says("the node", "%s, whose key ended while nobody could help, is re-keyed by the new council and follows", a.Name)
	if err := h.calms(ctx, fsm.AlarmKeyExpired, a.Name); err != nil {
		return err
	}
	return h.calms(ctx, fsm.AlarmRotationLate, a.Name)
}

// newCouncilDecides has alice propose, and bob and carol's new key approve.
func (h *house) newCouncilDecides(ctx context.Context, args ...string) error {
	id, err := h.proposes(ctx, "alice", args...)
	if err != nil {
		return err
	}
	for _, path := range []string{"keys/bob", "fresh/carol"} {
		if now, err := h.standing(ctx, id); err != nil || now != fsm.ProposalOpen {
			break // it takes no more, or stands will say
		}
		if err := h.withKey(ctx, path, "approve", id, "--yes").Failed(); err != nil {
			return err
		}
	}
	return h.stands(ctx, id, fsm.ProposalExecuted)
}

var newCouncil = []string{"council=@keys/alice.pub,@keys/bob.pub,@fresh/carol.pub,@fresh/dave.pub,@fresh/erin.pub"}

// vetoed has recovery holders seize power while three governors are there: their
// veto ends it.
func (h *house) vetoed(ctx context.Context) error {
	// The story of two governors is the true one; a third finds the key once more.
	id, err := h.proposes(ctx, "rita", append([]string{"council.reseat"}, newCouncil...)...)
	if err == nil {
		err = h.approves(ctx, id, "ruth")
	}
	if err == nil {
		err = h.stands(ctx, id, fsm.ProposalDecided)
	}
	if err != nil {
		return err
	}
	if err := h.warns(ctx, fsm.AlarmReseatPending, id); err != nil {
		return err
	}
	if err := h.as(ctx, "alice", "veto", id, "--yes").Failed(); err != nil {
		return err
	}
	if err := h.as(ctx, "bob", "veto", id, "--yes").Failed(); err != nil {
		return err
	}
	now, err := h.standing(ctx, id)
	if err != nil {
		return err
	}
	h.Demand(now == fsm.ProposalDecided, "two vetoes of the three that it takes made it %s", now)
	if err := h.asLost(ctx, "carol", "veto", id, "--yes").Failed(); err != nil {
		return err
	}
	if err := h.stands(ctx, id, fsm.ProposalVetoed); err != nil {
		return err
	}
	h.Says("veto", "a reseat that two holders decided stands against two governors' vetoes, and ends with the third's")
	return h.calms(ctx, fsm.AlarmReseatPending, id)
}

// asLost signs with a key that its holder has lost.
func (h *house) asLost(ctx context.Context, who string, args ...string) *stagehand.Answer {
	return h.Command(ctx, append(args, "--key", filepath.Join("keys", "lost-"+who+".key"), "--passphrase-file", filepath.Join("keys", who+".pass"))...)
}

// nothingElse has a recovery holder sign a proposal of every other action, and a
// statement of every type that the ledger knows: all are refused.
func (h *house) nothingElse(ctx context.Context, holder *keys.File) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	open, err := h.proposes(ctx, "alice", "epoch.advance")
	if err != nil {
		return err
	}
	proposal, err := ledger.ParseHash(open)
	if err != nil {
		return err
	}
	refused := map[string]int{}
	try := func(what string, p ledger.Payload, body any, want ...string) error {
		envelope, err := ledger.Sign(holder.Key, p, body)
		if err != nil {
			return fmt.Errorf("sign %s: %w", what, err)
		}
		_, err = c.Submit(ctx, [][]byte{envelope}, client.WaitCommitted)
		code := problemOf(err)
		h.Demand(slices.Contains(want, code), "%s by %s, a recovery holder: %q, want %v", what, holder.Name, code, want)
		refused[code]++
		return nil
	}
	actions := 0
	for _, action := range ledger.ActionsOf(ledger.Format) {
		if action == "council.reseat" {
			continue
		}
		actions++
		if err := try("proposing "+action, h.says(holder.Name, ledger.TypePropose), ledger.Propose{Action: action, Args: canon.Raw("{}"), Base: map[string]uint64{}}, "wrong_role"); err != nil {
			return err
		}
	}
	types := 0
	for _, typ := range statementTypes {
		types++
		// A ballot needs no nonce; what a holder can't say at all has no form for it.
		p := h.says(holder.Name, typ)
		if form, _ := ledger.ReplayForm(typ); form == ledger.ReplayNone {
			p.Nonce, p.Expires = nil, 0
		} else if form == ledger.ReplayEpochSeq {
			zero := uint64(0)
			p.Nonce, p.Expires, p.Epoch, p.Seq = nil, 0, &zero, &zero
		}
		want := "wrong_role"
		switch typ {
		case ledger.TypeWithdraw:
			want = "not_author" // a holder may withdraw its own
		case ledger.TypeEvidence:
			want = "bad_field" // it has no exhibits to show
		}
		if err := try("saying "+typ, p, h.body(typ, proposal, holder), want); err != nil {
			return err
		}
	}
	h.Says("rita", "signs a proposal of each of the %d other actions and a statement of each of %d types: refused, %v", actions, types, maps.Collect(maps.All(refused)))
	return h.as(ctx, "alice", "withdraw", open, "--yes").Failed()
}

// statementTypes are those that the ledger takes of others.
var statementTypes = []string{
	ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto, ledger.TypeRecord, ledger.TypeReady,
	ledger.TypeObserve, ledger.TypeAttest, ledger.TypeEvidence, ledger.TypeRotate, ledger.TypeBackup, ledger.TypeRestoreTest, ledger.TypeDestroy,
}

// body is one in the shape of a type.
func (h *house) body(typ string, proposal ledger.Hash, holder *keys.File) any {
	switch typ {
	case ledger.TypeRecord:
		return ledger.Record{Text: "I rule"}
	case ledger.TypeReady:
		return ledger.Ready{}
	case ledger.TypeObserve:
		return ledger.Observe{Kind: ledger.NodeDown, Subject: "n1"}
	case ledger.TypeAttest:
		return ledger.Attest{}
	case ledger.TypeRotate:
		return ledger.Rotate{}
	case ledger.TypeBackup:
		return h.backupBody(ledger.Hash(holder.Key.ID()))
	case ledger.TypeRestoreTest:
		return ledger.RestoreTest{Ciphertext: ledger.Hash{1}, Key: ledger.Hash(holder.Key.ID()), Holders: []string{"alice", "bob"}, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}
	case ledger.TypeDestroy:
		return ledger.Destroy{Key: ledger.Hash(holder.Key.ID())}
	case ledger.TypeEvidence:
		return ledger.Evidence{Kind: ledger.EvidenceEquivocation}
	}
	return ledger.Ballot{Proposal: proposal}
}

// backupBody is the record of a backup that nobody made.
func (h *house) backupBody(of ledger.Hash) ledger.Backup {
	b := ledger.Backup{Ciphertext: ledger.Hash{1}, Key: of, Set: make([]byte, 16), Threshold: 2}
	for i, who := range three {
		b.Shares = append(b.Shares, ledger.BackupShare{Holder: who, Recipient: ledger.Hash{2}, Share: ledger.Hash{byte(i)}})
	}
	return b
}

// says begins a statement with a nonce.
func (h *house) says(author, typ string) ledger.Payload {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	return ledger.Payload{Author: author, Ledger: h.Genesis, Type: typ, Nonce: nonce, Expires: uint64(time.Now().Add(time.Hour).UnixMilli())}
}

// problemOf is the code of a refusal, "ok" for none.
func problemOf(err error) string {
	if err == nil {
		return "ok"
	}
	var p *client.Problem
	if !errors.As(err, &p) {
		return err.Error()
	}
	for _, s := range p.Statements {
		if s.Verdict != "ok" && s.Verdict != "bundle_rejected" {
			return s.Verdict
		}
	}
	return p.Code
}

// reseat is the way back: two holders, the wait, a new council that decides.
func (h *house) reseat(ctx context.Context) error {
	authority, err := h.authority(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	id, err := h.proposes(ctx, "rita", append([]string{"council.reseat"}, newCouncil...)...)
	if err == nil {
		err = h.approves(ctx, id, "rosa")
	}
	if err == nil {
		err = h.stands(ctx, id, fsm.ProposalDecided)
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"alice", "bob"} {
		if err := h.as(ctx, name, "veto", id, "--yes").Failed(); err != nil {
			return err
		}
	}
	early, err := h.standing(ctx, id)
	if err != nil {
		return err
	}
	if err := h.stands(ctx, id, fsm.ProposalExecuted); err != nil {
		return err
	}
	took := time.Since(began)
	h.Demand(early == fsm.ProposalDecided, "right after the decision it was %s", early)
	if err := h.waited(ctx, id); err != nil {
		return err
	}
	if err := h.handedOver(ctx, authority); err != nil {
		return err
	}
	h.Says("recovery", "rita and rosa reseat the council against two vetoes: decided, executed %.1f s after the proposal, the wait is %s", took.Seconds(), reseatWait)
	if err := h.calms(ctx, fsm.AlarmReseatPending, id); err != nil {
		return err
	}
	if got := codeOf(h.asLost(ctx, "dave", "record", "--text", "still dave")); got != "revoked_key" {
		h.Fail("a record under a lost key: %q, want revoked_key", got)
	}
	// alice and bob kept their keys, so both are in the new council; with one of the new ones they decide.
	if err := h.newCouncilDecides(ctx, "operator.add", "name=fjord", "sponsor=aurora"); err != nil {
		return err
	}
	h.Says("new council", "alice, bob and carol's new key decide; the lost keys are refused: revoked_key")
	return h.agentsFollow(ctx)
}

// waited demands, from the ledger's own stamps, that a reseat was not executed
// before its wait was over.
func (h *house) waited(ctx context.Context, id string) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := c.Proposal(ctx, id, client.Read{Consistency: client.Certified})
	if err != nil {
		return err
	}
	h.Demand(p.Decided > 0 && p.Closed >= p.Decided+uint64(reseatWait.Milliseconds()), "it was decided at %d and executed at %d", p.Decided, p.Closed)
	return nil
}

// agentsFollow waits until every agent is at a head that the present authority
// certifies.
func (h *house) agentsFollow(ctx context.Context) error {
	size, err := h.size(ctx)
	if err != nil {
		return err
	}
	running := slices.DeleteFunc(slices.Clone(h.agents), func(a *agent) bool { return a.Process == nil })
	for _, a := range running {
		if err := a.Awaits(ctx, patience, "follows on", func(s *stagehand.AgentStatus) bool { return s.Size >= size && !s.Stale && !s.Alarm }); err != nil {
			return err
		}
	}
	h.Says("agents", "%d follow on to size %d and more, without an alarm", len(running), size)
	return nil
}

// sentence is a text without line breaks.
func sentence(text string) string { return strings.Join(strings.Fields(text), " ") }
