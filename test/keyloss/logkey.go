package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/test/stagehand"
)

// logRotated is the ledger of the story in which the log's keys change: replicas'
// keys live so briefly that one is seen to be rotated.
var logRotated = plan{nodes: 2, overlap: logOverlap,
	policy: `{epoch_millis: 2000, tick_millis: 1000, max_skew_millis: 3000, keys: {replica_key_epochs: 48}}`}

// stranger is a third party's verifier: Go's own reader of signed notes, with
// verifier keys that somebody once wrote down.
type stranger struct {
	name  string
	vkeys []string
}

// opens says how a stranger takes the newest head: "verified", "unknown" (it bears
// no line under a key that the stranger knows) or "bad".
func (s *stranger) opens(head []byte) (string, error) {
	var list []note.Verifier
	for _, k := range s.vkeys {
		v, err := note.NewVerifier(k)
		if err != nil {
			return "", err
		}
		list = append(list, v)
	}
	_, err := note.Open(head, note.VerifierList(list...))
	var unverified *note.UnverifiedNoteError
	switch {
	case err == nil:
		return "verified", nil
	case errors.As(err, &unverified):
		return "unknown", nil
	}
	return "bad: " + err.Error(), nil
}

// vkeys reads the published history of the log's keys.
func (h *house) vkeys(ctx context.Context) ([][]string, error) {
	text, err := h.file(ctx, "log.vkeys")
	if err != nil {
		return nil, err
	}
	var list [][]string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("log.vkeys has the line %.100q", line)
		}
		list = append(list, fields)
	}
	return list, nil
}

// file reads a file of the log, as anybody does.
func (h *house) file(ctx context.Context, path string) ([]byte, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Get(ctx, path)
}

// logKeyChanged: the log's own keys are changed by decision. Whoever knows only the
// old one goes on for the overlap and finds the new one published; whoever knows
// both notices nothing.
func logKeyChanged(ctx context.Context, h *house) error {
	before, err := h.vkeys(ctx)
	if err != nil {
		return err
	}
	oldest := &stranger{name: "the old key", vkeys: before[len(before)-1][1:2]}
	if err := h.strangers(ctx, map[*stranger]string{oldest: "verified"}); err != nil {
		return err
	}
	began := time.Now()
	if err := h.rekeysLog(ctx, h.replicas[0]); err != nil {
		return err
	}
	after, err := h.vkeys(ctx)
	if err != nil {
		return err
	}
	h.Demand(len(after) == len(before)+1 && after[0][1] == before[0][1], "log.vkeys has %d lines, and had %d", len(after), len(before))
	newest := &stranger{name: "the new key", vkeys: after[len(after)-1][1:2]}
	both := &stranger{name: "both", vkeys: append(oldest.vkeys, newest.vkeys...)}
	if err := h.strangers(ctx, map[*stranger]string{oldest: "verified", newest: "verified", both: "verified"}); err != nil {
		return err
	}
	h.Says("strangers", "with the old key, the new one, and both: all three verify the same head; log.vkeys publishes the new key from size %s on", after[len(after)-1][0])
	if err := h.fsck(ctx, "during", oldest.vkeys[0], newest.vkeys[0]); err != nil {
		return err
	}
	if err := stagehand.Await(ctx, patience, "the old key's time is over", func() bool {
		head, err := h.file(ctx, "checkpoint")
		if err != nil {
			return false
		}
		got, err := oldest.opens(head)
		return err == nil && got == "unknown"
	}); err != nil {
		return err
	}
	took := time.Since(began)
	if err := h.strangers(ctx, map[*stranger]string{newest: "verified", both: "verified", oldest: "unknown"}); err != nil {
		return err
	}
	h.Says("strangers", "%.1f s after the change (overlap %s): the old key alone finds no line that it knows, and none that is wrong; the new one and both go on", took.Seconds(), logOverlap)
	return h.replicaRotates(ctx)
}

// strangers demands how each takes the newest head.
func (h *house) strangers(ctx context.Context, want map[*stranger]string) error {
	head, err := h.file(ctx, "checkpoint")
	if err != nil {
		return err
	}
	for s, verdict := range want {
		got, err := s.opens(head)
		if err != nil {
			return err
		}
		h.Demand(got == verdict, "whoever knows %s finds the head %s, want %s", s.name, got, verdict)
	}
	return nil
}

// fsck has tessera's own checker read an export with each verifier key, where it
// is installed.
func (h *house) fsck(ctx context.Context, when string, vkeys ...string) error {
	program := filepath.Join(h.Bin, "fsck")
	if _, err := os.Stat(program); err != nil {
		h.Says("fsck", "is not in %s (make tools): not asked", filepath.Base(h.Bin))
		return nil
	}
	out := "export-" + when
	if err := h.Command(ctx, "export", "--out", out).Failed(); err != nil {
		return err
	}
	for i, vkey := range vkeys {
		file := filepath.Join(h.Dir, fmt.Sprintf("%s-%d.vkey", when, i))
		if err := os.WriteFile(file, []byte(vkey+"\n"), 0o600); err != nil {
			return err
		}
		c := exec.CommandContext(ctx, program, "--storage_url=file://"+filepath.Join(h.Dir, out), "--public_key="+file, "--ui=false", "--N=64")
		c.Env = h.Environment()
		text, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(text), "Successfully fsck'd") {
			return fmt.Errorf("fsck with the %d. key: %w: %.200s", i+1, err, sentence(string(text)))
		}
	}
	h.Says("fsck", "tessera's checker agrees with the export under each of %d keys", len(vkeys))
	return nil
}

// replicaRotates waits until a replica has rotated its own keys, and looks at who
// had trusted it before.
func (h *house) replicaRotates(ctx context.Context) error {
	old, err := h.client(filepath.Join(h.Dir, "old-client"), h.up()...)
	if err != nil {
		return err
	}
	defer old.Close()
	if _, err := old.Sync(ctx); err != nil {
		return err
	}
	began := time.Now()
	var rotated []client.Entry
	if err := stagehand.Await(ctx, rotationLimit, "a replica has rotated its keys", func() bool {
		page, err := old.ListEntries(ctx, 0, "effect", "replica.rotated", client.Read{})
		if err == nil {
			rotated = page.Entries
		}
		return err == nil && len(rotated) > 0
	}); err != nil {
		return err
	}
	at, size := rotated[0].Seq, uint64(0)
	if err := stagehand.Await(ctx, patience, "an old client follows the rotation", func() bool {
		head, err := old.Sync(ctx)
		if err == nil {
			size = head.Size
		}
		return err == nil && head.Size > at
	}); err != nil {
		_, why := old.Sync(ctx)
		return fmt.Errorf("%w: %v", err, why)
	}
	h.Says("replicas", "one rotated its own keys after %.1f s (entry %d): a client of before follows the handover to size %d, and agents do", time.Since(began).Seconds(), at, size)
	if err := h.ready(ctx, h.replicas...); err != nil {
		return err
	}
	return h.agentsFollow(ctx)
}
