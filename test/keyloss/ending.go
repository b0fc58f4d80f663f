package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/secretscan"
	"github.com/quorate/quorate/test/stagehand"
)

// ending exports the ledger, verifies it without any server, alters one statement
// of each type in turn, and searches everything that was written for secrets.
func (t *total) ending(ctx context.Context, w io.Writer, h *house) bool {
	h.Report = stagehand.NewReport()
	if err := h.exported(ctx); err != nil {
		h.Fail("%v", err)
	}
	h.caught(ctx)
	h.bundles(ctx)
	h.close()
	h.notesSecrets()
	if len(h.known) > 0 {
		h.Says("agents", "rotated by themselves meanwhile: %d new keys", len(h.known))
	}
	if err := h.altered(ctx); err != nil {
		h.Fail("%v", err)
	}
	if backups, answers, err := h.sealedIn(); err != nil {
		h.Fail("open what is sealed: %v", err)
	} else {
		h.Says("sealed", "%d backups and %d answers opened with everybody's identities: their shares' values and file keys are looked for too", backups, answers)
	}
	if r, err := h.searched(); err != nil {
		h.Fail("search for secrets: %v", err)
	} else {
		t.secrets, t.files, t.bytes, t.found = t.secrets+len(h.secrets), t.files+r.Files, t.bytes+r.Bytes, t.found+len(r.Found)
	}
	return h.Print(w, "the export verifies, is altered in vain, and no secret is anywhere", "the end", "every process is stopped")
}

// exported writes the export in both forms, and verifies it.
func (h *house) exported(ctx context.Context) error {
	if err := h.awaitHead(ctx); err != nil {
		return err
	}
	for _, out := range []string{"export", "export.tar.zst"} {
		if err := h.Command(ctx, "export", "--out", out).Failed(); err != nil {
			return err
		}
	}
	began := time.Now()
	verified := h.Command(ctx, "verify", "export")
	if err := verified.Failed(); err != nil {
		return err
	}
	if err := h.Command(ctx, "verify", "export.tar.zst").Failed(); err != nil {
		return err
	}
	for line := range strings.Lines(verified.Out) {
		for _, begin := range []string{"verified", "statements", "effects", "disputed", "complete"} {
			if strings.HasPrefix(line, begin) {
				h.Says("verify", "%s", sentence(line))
			}
		}
	}
	h.Says("verify", "both forms, without any server, in %.1f s", time.Since(began).Seconds())
	return nil
}

// caught judges two statements under the stolen key by the export, if that story was
// played: what was signed before the revocation's epoch is its holder's word.
func (h *house) caught(ctx context.Context) {
	before, after := filepath.Join(h.Dir, "before.cose"), filepath.Join(h.Dir, "after.cose")
	if _, err := os.Stat(after); err != nil {
		return
	}
	a := h.Command(ctx, "verify", before, "--export", "export")
	h.Demand(a.Code == 0, "a statement of before the key was revoked: verify exits with %d: %s", a.Code, sentence(a.All()))
	a = h.Command(ctx, "verify", after, "--export", "export")
	said := regexp.MustCompile(`signed in epoch \d+ under a key that is revoked from epoch \d+ on`).FindString(a.All())
	h.Demand(a.Code == 1 && said != "", "the thief's statement: verify exits with %d: %s", a.Code, sentence(a.All()))
	h.Says("caught", "of two statements under the stolen key, the one of before verifies; of the thief's, verify says: %s", said)
}

// bundles makes what an operator would send to somebody for help.
func (h *house) bundles(ctx context.Context) {
	for _, r := range h.up() {
		a := h.Command(ctx, "operator", "debug-bundle", "--config", filepath.Join("ledger", r.Name+".yaml"), "--out", "debug-"+r.Name+".tar.zst")
		if err := a.Failed(); err != nil {
			h.Fail("%v", err)
		}
	}
}

var namedEntry = regexp.MustCompile(`entry (\d+)`)

// altered changes one byte of the last statement of each type in the export, one
// after the other: verify must fail and name that entry.
func (h *house) altered(ctx context.Context) error {
	entries, err := stagehand.Exports(filepath.Join(h.Dir, "export"))
	if err != nil {
		return err
	}
	last, said := map[string]stagehand.Exported{}, map[string]uint64{}
	for _, e := range entries {
		h.noteStatement(last, said, e)
	}
	h.Demand(len(said) > 0, "no statement in the export has an epoch and a seq")
	h.Says("unique", "%d statements by agents and replicas: no key, epoch and seq is there twice", len(said))
	for _, kind := range slices.Sorted(maps.Keys(last)) {
		if err := h.alters(ctx, kind, last[kind]); err != nil {
			return err
		}
	}
	h.Says("altered", "one byte of the last statement of each kind, one at a time: %s; each time verify fails and names the entry", strings.Join(slices.Sorted(maps.Keys(last)), ", "))
	return h.Command(ctx, "verify", "export").Failed()
}

// noteStatement keeps the newest statement of each type; proposals by their action. It
// demands that no key says anything twice under one epoch and seq, as one that was
// restored without its memory would.
func (h *house) noteStatement(last map[string]stagehand.Exported, said map[string]uint64, e stagehand.Exported) {
	if e.Entry.Kind != ledger.KindStatement {
		return
	}
	st, err := ledger.ParseStatement(e.Entry.Content)
	if err != nil {
		h.Fail("entry %d of the export: %v", e.Entry.Seq, err)
		return
	}
	kind := st.Payload.Type
	if body, err := ledger.DecodeBody[ledger.Propose](st); kind == ledger.TypePropose && err == nil {
		kind = body.Action
	}
	if p := st.Payload; p.Epoch != nil && p.Seq != nil {
		place := fmt.Sprintf("key %s, epoch %d, seq %d", st.KeyID, *p.Epoch, *p.Seq)
		earlier, twice := said[place]
		h.Demand(!twice, "%s of %s is in entries %d and %d", place, p.Author, earlier, e.Entry.Seq)
		said[place] = e.Entry.Seq
	}
	last[kind] = e // entries come in their order
}

// alters changes one byte, verifies, and puts it back.
func (h *house) alters(ctx context.Context, kind string, e stagehand.Exported) error {
	content, err := os.ReadFile(e.Path)
	if err != nil {
		return err
	}
	// In the middle of the envelope: of its signature or of its content.
	changed, seq := bytes.Clone(content), e.Entry.Seq
	changed[e.At+bytes.Index(e.Raw, e.Entry.Content)+len(e.Entry.Content)/2] ^= 1
	if err := os.WriteFile(e.Path, changed, 0o600); err != nil {
		return err
	}
	a := h.Command(ctx, "verify", "export")
	named := namedEntry.FindStringSubmatch(a.All())
	h.Demand(a.Code == 1, "entry %d (%s) was altered, and verify exits with %d", seq, kind, a.Code)
	h.Demand(named != nil && named[1] == fmt.Sprint(seq), "entry %d (%s) was altered, and verify says: %.200s", seq, kind, sentence(a.All()))
	return os.WriteFile(e.Path, content, 0o600)
}

// searched looks for every secret in everything that was written.
func (h *house) searched() (*secretscan.Report, error) {
	s, err := secretscan.New(h.secrets)
	if err != nil {
		return nil, err
	}
	r, err := s.Folder(h.Dir)
	if err != nil {
		return nil, err
	}
	for _, f := range r.Found {
		h.Fail("%s", f)
	}
	for _, path := range r.Cores {
		h.Fail("%s is what a process had in memory", path)
	}
	// A passphrase that is not seen in its own file says that the search is blind.
	own := 0
	for _, secret := range h.secrets {
		if len(secret.Own) > 0 && slices.ContainsFunc(r.Own, func(f secretscan.Found) bool { return f.Secret == secret.Name }) {
			own++
		}
	}
	h.Demand(own > 0, "no secret was found even in its own file: the search is blind")
	h.Says("secrets", "%d (%s), each in raw bytes, hexadecimal, base64 and decimals, with or without breaks: searched in %d files and %d streams within them, %d MB: %d found outside their own files (and %d within); no core dump",
		len(h.secrets), h.kinds(), r.Files, r.Unpacked, r.Bytes>>20, len(r.Found), own)
	return r, nil
}
