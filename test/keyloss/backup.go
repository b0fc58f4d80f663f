package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/stagehand"
)

// governorOf is who governs for an operator.
func governorOf(operator string) string {
	for _, g := range governors {
		if g.operator == operator {
			return g.name
		}
	}
	panic("no operator " + operator)
}

// backup is where a node's backup is, as its operator's governor made it.
func (a *agent) backup() string { return filepath.Join("backups", a.Name+".backup") }

// backsUp makes a backup of a node's key of now, which any three of the five
// governors open, and gives the key.
func (h *house) backsUp(ctx context.Context, a *agent) (ledger.Hash, error) {
	if err := os.MkdirAll(filepath.Join(h.Dir, "backups"), 0o700); err != nil {
		return ledger.Hash{}, err
	}
	by := filepath.Join("keys", governorOf(a.Operator))
	for {
		path, key, err := h.activeKey(ctx, a)
		if err != nil {
			return key, err
		}
		// The agent makes one of its own, which would take this one's place if it came later.
		if err := h.reads(ctx, a.Name+" has backed its key up itself", func(ctx context.Context, c *client.Client) bool {
			record, err := c.VerifiedBackup(ctx, key)
			return err == nil && record != nil
		}); err != nil {
			return key, err
		}
		made := h.Command(ctx, "key", "backup", "--key", path, "--passphrase-file", filepath.Join(a.dir(), a.Name+".pass"),
			"--sign", by+".key", "--sign-passphrase-file", by+".pass", "--threshold", "3", "--holders", strings.Join(everybody, ","),
			"--out", a.backup(), "--wait", "certified")
		if codeOf(made) != "unknown_key" || ctx.Err() != nil {
			return key, made.Failed()
		}
		// It was rotated out in that moment; what is certified shows it a little later.
	}
}

// activeKey is the file of the key that the ledger has in force for a node.
func (h *house) activeKey(ctx context.Context, a *agent) (string, ledger.Hash, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return "", ledger.Hash{}, err
	}
	defer c.Close()
	record, _, err := c.VerifiedNode(ctx, a.Name)
	if err != nil {
		return "", ledger.Hash{}, err
	}
	for _, path := range h.keyFiles(a) {
		file, err := h.openWith(path, filepath.Join(a.dir(), a.Name+".pass"))
		if err == nil && ledger.Hash(file.Key.ID()) == record.Key {
			return path, record.Key, nil
		}
	}
	return "", record.Key, fmt.Errorf("the key %s of %s is in no file", record.Key, a.Name)
}

// asksShares is the first step of a restoring: requests to all five governors.
func (h *house) asksShares(ctx context.Context, who, backup, dir, passphrase string) *stagehand.Answer {
	return h.asks(ctx, keys.RestorePurpose, who, backup, dir, passphrase)
}

// asks makes the requests for shares, for a purpose, and takes note of the identity to
// which the answers will be sealed.
func (h *house) asks(ctx context.Context, purpose, who, backup, dir, passphrase string) *stagehand.Answer {
	a := h.Command(ctx, "key", "restore", backup, "--purpose", purpose, "--out", dir, "--sign", "keys/"+who+".key", "--sign-passphrase-file", "keys/"+who+".pass",
		"--passphrase-file", passphrase, "--work-factor", workFactor)
	if a.Code == 0 {
		if err := h.secretsIn(filepath.Join(dir, "restore.key"), passphrase); err != nil {
			a.Code, a.Err = -1, err.Error()
		}
	}
	return a
}

// answers has a governor answer a request, on a machine without any server.
func (h *house) answers(ctx context.Context, who, dir, out string) error {
	h.offline = true
	defer func() { h.offline = false }()
	return h.as(ctx, who, "key", "share", filepath.Join(dir, who+".request.cose"), "--out", out, "--yes").Failed()
}

// restores is the second step.
func (h *house) restores(ctx context.Context, who, backup, dir, passphrase string, answers ...string) *stagehand.Answer {
	return h.Command(ctx, "key", "restore", backup, "--out", dir, "--answers", strings.Join(answers, ","), "--sign", "keys/"+who+".key",
		"--sign-passphrase-file", "keys/"+who+".pass", "--passphrase-file", passphrase, "--work-factor", workFactor)
}

// listing is the names and hashes of all below a folder.
func (h *house) listing(folder string) string {
	var b strings.Builder
	root := filepath.Join(h.Dir, folder)
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			return nil
		}
		content, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(content))
		return nil
	})
	return b.String()
}

// refuses demands that a command exits with 1, says something, and changes nothing
// in a folder.
func (h *house) refuses(what, folder, says string, run func() *stagehand.Answer) {
	before := h.listing(folder)
	a := run()
	h.Demand(a.Code == 1, "%s: exit code %d: %.300s", what, a.Code, sentence(a.All()))
	h.Demand(strings.Contains(a.All(), says), "%s: it says %.400s, want %q", what, sentence(a.All()), says)
	h.Demand(h.listing(folder) == before, "%s: the folder %s was changed", what, folder)
	if a.Code == 1 {
		h.Says("refused", "%s: %.180s", what, sentence(strings.TrimPrefix(firstLine(a.Err), "quorate: ")))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// nodeRestored: a node has lost its key, and there is a backup: three of five
// governors answer, each on a machine of their own.
func nodeRestored(ctx context.Context, h *house) error {
	a, other := h.agent("n3"), h.agent("n6")
	key, err := h.backsUp(ctx, a)
	if err != nil {
		return err
	}
	if _, err := h.backsUp(ctx, other); err != nil {
		return err
	}
	h.stopAgent(a, syscall.SIGKILL)
	if err := h.loses(filepath.Join(a.dir(), a.Name+".key")); err != nil {
		return err
	}
	if err := h.loses(filepath.Join(a.dir(), a.Name+".state")); err != nil {
		return err
	}
	began := time.Now()
	const dir = "new"
	passphrase := filepath.Join(a.dir(), a.Name+".pass")
	if err := h.asksShares(ctx, "carol", a.backup(), dir, passphrase).Failed(); err != nil {
		return err
	}
	if err := h.asksShares(ctx, "alice", other.backup(), "foreign", passphrase).Failed(); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(h.Dir, "answers"), 0o700); err != nil {
		return err
	}
	share := func(who string) string { return filepath.Join("answers", who+".share.age") }
	for _, who := range []string{"bob", "carol", "dave"} {
		if err := h.answers(ctx, who, dir, share(who)); err != nil {
			return err
		}
	}
	if err := h.answers(ctx, "erin", "foreign", share("erin")); err != nil {
		return err
	}
	if err := h.tampers(share("dave"), share("tampered")); err != nil {
		return err
	}
	try := func(list ...string) func() *stagehand.Answer {
		return func() *stagehand.Answer { return h.restores(ctx, "carol", a.backup(), dir, passphrase, list...) }
	}
	h.refuses("two shares of the three", dir, "missing", try(share("bob"), share("carol")))
	h.refuses("a share that was changed", dir, "tampered.share.age", try(share("bob"), share("carol"), share("tampered")))
	h.refuses("a share of another backup", dir, "erin.share.age", try(share("bob"), share("carol"), share("erin")))
	h.refuses("a share twice", dir, "named twice", try(share("bob"), share("carol"), share("carol")))
	done := try(share("bob"), share("carol"), share("dave"))()
	if err := done.Failed(); err != nil {
		return err
	}
	h.Demand(!strings.Contains(done.All(), "not on the ledger"), "the restoring is not on the ledger: %s", sentence(done.All()))
	h.Says("governors", "bob, carol and dave answer without a server; carol restores the key: %.1f s in all", time.Since(began).Seconds())
	restored := filepath.Join(h.Dir, a.dir(), a.Name+".key")
	if err := os.Rename(filepath.Join(h.Dir, dir, a.Name+".key"), restored); err != nil {
		return err
	}
	if now, err := h.keyOf(filepath.Join(a.dir(), a.Name)); err != nil || now != key {
		return fmt.Errorf("the restored key is %s, want %s (%w)", now, key, err)
	}
	if err := h.startAgent(a); err != nil {
		return err
	}
	if err := h.follows(ctx, a); err != nil {
		return err
	}
	h.Says("the node", "%s follows again with the key %.12s…, %.1f s after the loss; it signs nothing of its own for two epochs", a.Name, key, time.Since(began).Seconds())
	return h.testedOnLedger(ctx, key)
}

// tampers copies a file with one byte changed.
func (h *house) tampers(from, to string) error {
	b, err := os.ReadFile(filepath.Join(h.Dir, from))
	if err != nil {
		return err
	}
	h.changed = append(h.changed, to)
	b[len(b)/2] ^= 1
	return h.Writes(to, b)
}

// testedOnLedger waits until the ledger says that a key's backup was opened.
func (h *house) testedOnLedger(ctx context.Context, key ledger.Hash) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	return stagehand.Await(ctx, patience, "the ledger says that the backup was opened", func() bool {
		page, err := c.ListEntries(ctx, 0, "statement", ledger.TypeRestoreTest, client.Read{})
		return err == nil && len(page.Entries) > 0
	})
}

// staleCopies: backups that must not be restored: of a key that was rotated out or
// revoked, of another ledger, and one that was changed.
func staleCopies(ctx context.Context, h *house) error {
	candidates := []*agent{h.agent("n6"), h.agent("n7"), h.agent("n8")}
	backedUp := map[*agent]ledger.Hash{}
	for _, a := range candidates {
		if err := h.loses(a.backup()); err != nil {
			return err
		}
		key, err := h.backsUp(ctx, a)
		if err == nil {
			err = h.copiesState(a)
		}
		if err != nil {
			return err
		}
		backedUp[a] = key
	}
	const dir = "stale" // nobody makes it
	if err := h.edits(candidates[0].backup(), "altered.backup", func(b []byte) []byte {
		at := bytes.Index(b, []byte(`"ciphertext":"`)) + 400
		if b[at] == 'A' {
			b[at] = 'B'
		} else {
			b[at] = 'A'
		}
		return b
	}); err != nil {
		return err
	}
	h.refuses("a backup of which one character was changed", dir, "altered", func() *stagehand.Answer { return h.asksShares(ctx, "alice", "altered.backup", dir, "keys/alice.pass") })
	var stale *agent
	began := time.Now()
	if err := stagehand.Await(ctx, rotationLimit, "one of three agents has rotated its key", func() bool {
		for a, key := range backedUp {
			if _, now, err := h.activeKey(ctx, a); err == nil && now != key && !h.had(a, now) {
				stale = a
				return true
			}
		}
		return false
	}); err != nil {
		return err
	}
	h.Says("agents", "%s rotated its key by itself %.1f s after the backup", stale.Name, time.Since(began).Seconds())
	h.refuses("a backup of the key before the last rotation", dir, "rotated", func() *stagehand.Answer { return h.asksShares(ctx, "alice", stale.backup(), dir, "keys/alice.pass") })
	if err := h.staleState(ctx, stale); err != nil {
		return err
	}
	fresh := candidates[0]
	if fresh == stale {
		fresh = candidates[1]
	}
	if err := h.revokedBackup(ctx, dir); err != nil {
		return err
	}
	h.refuses("a backup of another ledger than the one that is named", dir, "is of ledger", func() *stagehand.Answer {
		return h.Command(ctx, "key", "restore", fresh.backup(), "--out", dir, "--sign", "keys/alice.key", "--sign-passphrase-file", "keys/alice.pass",
			"--genesis", strings.Repeat("00", 32))
	})
	return nil
}

// revokedBackup has a node's key revoked, and its backup refused.
func (h *house) revokedBackup(ctx context.Context, dir string) error {
	a := h.agent("n2")
	key, err := h.backsUp(ctx, a)
	if err != nil {
		return err
	}
	now, err := h.epoch(ctx)
	if err != nil {
		return err
	}
	if err := h.decides(ctx, three, "key.revoke", "key="+key.String(), fmt.Sprintf("from=%d", now), "reason=stolen"); err != nil {
		return err
	}
	h.refuses("a backup of a revoked key", dir, "revoked", func() *stagehand.Answer { return h.asksShares(ctx, "alice", a.backup(), dir, "keys/alice.pass") })
	h.stopAgent(a, syscall.SIGTERM)
	return h.bringsBack(ctx, a)
}

// edits copies a file, changed.
func (h *house) edits(from, to string, change func([]byte) []byte) error {
	b, err := os.ReadFile(filepath.Join(h.Dir, from))
	if err != nil {
		return err
	}
	h.changed = append(h.changed, to)
	return h.Writes(to, change(b))
}
