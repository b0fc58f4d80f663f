package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/stagehand"
)

// three are enough for what the council decides of the fleet; everybody consents
// where something of everybody is at stake.
var (
	three     = []string{"alice", "bob", "carol"}
	everybody = []string{"alice", "bob", "carol", "dave", "erin"}
)

// proposes has somebody propose, and gives the proposal's id.
func (h *house) proposes(ctx context.Context, who string, args ...string) (string, error) {
	return h.Proposes(ctx, append(args, "--key", filepath.Join("keys", who+".key"), "--passphrase-file", filepath.Join("keys", who+".pass"))...)
}

// approves has people approve, as long as it needs anybody's approval.
func (h *house) approves(ctx context.Context, id string, people ...string) error {
	for _, who := range people {
		if now, err := h.standing(ctx, id); err != nil || now != fsm.ProposalOpen {
			return err
		}
		if err := h.as(ctx, who, "approve", id, "--yes").Failed(); err != nil {
			return err
		}
	}
	return nil
}

// decides has the first of some people propose, the others approve, and the
// ledger execute it.
func (h *house) decides(ctx context.Context, people []string, args ...string) error {
	_, err := h.decided(ctx, people, args...)
	return err
}

// decided is decides, and gives the proposal's id.
func (h *house) decided(ctx context.Context, people []string, args ...string) (string, error) {
	id, err := h.proposes(ctx, people[0], args...)
	if err == nil {
		err = h.approves(ctx, id, people[1:]...)
	}
	if err == nil {
		err = h.stands(ctx, id, fsm.ProposalExecuted)
	}
	return id, err
}

// stands waits until a proposal stands so at the newest certified head.
func (h *house) stands(ctx context.Context, id, standing string) error {
	last := ""
	err := h.reads(ctx, "the proposal is "+standing, func(ctx context.Context, c *client.Client) bool {
		p, err := c.Proposal(ctx, id, client.Read{Consistency: client.Certified})
		if err == nil {
			last = p.Standing + " " + p.Reason
		}
		return err == nil && p.Standing == standing
	})
	if err != nil {
		return fmt.Errorf("%w: it is %s", err, last)
	}
	return nil
}

// standing is how a proposal stands now.
func (h *house) standing(ctx context.Context, id string) (string, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	p, err := c.Proposal(ctx, id, client.Read{Consistency: client.Linearizable})
	if err != nil {
		return "", err
	}
	return p.Standing, nil
}

// record has somebody say something on the ledger, and gives the code with which
// it was refused, or "ok".
func (h *house) record(ctx context.Context, key, text string) string {
	return codeOf(h.withKey(ctx, key, "record", "--text", text, "--output", "json"))
}

// recordBeside is record under the key of a node whose agent runs: that takes the same
// numbers, and whoever comes second with one is refused and says it again.
func (h *house) recordBeside(ctx context.Context, a *agent, text string) (code string) {
	for range besideTries {
		if code = h.record(ctx, filepath.Join(a.dir(), a.Name), text); code != "seq_used" {
			break
		}
	}
	return code
}

// codeOf is the code of a refusal, or "ok".
func codeOf(a *stagehand.Answer) string {
	if a.Code == 0 {
		return "ok"
	}
	text := a.All()
	if _, rest, ok := strings.Cut(text, "refused: "); ok {
		return strings.TrimRight(strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '\n' || r == '"' || r == ':' })[0], ".,:")
	}
	return fmt.Sprintf("exit %d: %.200s", a.Code, strings.TrimSpace(text))
}

// demandCode fails unless a command was refused with this code.
func (h *house) demandCode(what, got, want string) {
	h.Demand(got == want, "%s: %q, want %q", what, got, want)
	if got == want {
		h.Counts(want, 1)
	}
}

// keyOf is the id of the key in a public key file's record of the ledger.
func (h *house) keyOf(path string) (ledger.Hash, error) {
	file, err := h.open(path)
	if err != nil {
		return ledger.Hash{}, err
	}
	return ledger.Hash(file.Key.ID()), nil
}

// awaitHead waits until a head is certified that has everything of now.
func (h *house) awaitHead(ctx context.Context) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	var applied uint64
	return stagehand.Await(ctx, patience, "everything is certified", func() bool {
		status, err := c.Status(ctx)
		if err != nil {
			return false
		}
		if applied == 0 {
			applied = status.Applied
		}
		return status.Certified >= applied
	})
}
