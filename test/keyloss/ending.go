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
	h.rotated()
	if len(h.known) > 0 {
		h.Says("agents", "rotated by themselves meanwhile: %d new keys", len(h.known))
	}
	if err := h.altered(ctx); err != nil {
		h.Fail("%v", err)
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
		if err := h.quorate(ctx, "export", "--out", out).failed(); err != nil {
			return err
		}
	}
	began := time.Now()
	verified := h.quorate(ctx, "verify", "export")
	if err := verified.failed(); err != nil {
		return err
	}
	if err := h.quorate(ctx, "verify", "export.tar.zst").failed(); err != nil {
		return err
	}
	for line := range strings.Lines(verified.out) {
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
	a := h.quorate(ctx, "verify", before, "--export", "export")
	h.Demand(a.code == 0, "a statement of before the key was revoked: verify exits with %d: %s", a.code, sentence(a.all()))
	a = h.quorate(ctx, "verify", after, "--export", "export")
	said := regexp.MustCompile(`signed in epoch \d+ under a key that is revoked from epoch \d+ on`).FindString(a.all())
	h.Demand(a.code == 1 && said != "", "the thief's statement: verify exits with %d: %s", a.code, sentence(a.all()))
	h.Says("caught", "of two statements under the stolen key, the one of before verifies; of the thief's, verify says: %s", said)
}

// bundles makes what an operator would send to somebody for help.
func (h *house) bundles(ctx context.Context) {
	for _, r := range h.up() {
		a := h.quorate(ctx, "operator", "debug-bundle", "--config", filepath.Join("ledger", r.name+".yaml"), "--out", "debug-"+r.name+".tar.zst")
		if err := a.failed(); err != nil {
			h.Fail("%v", err)
		}
	}
}

var namedEntry = regexp.MustCompile(`entry (\d+)`)

// altered changes one byte of the last statement of each type in the export, one
// after the other: verify must fail and name that entry.
func (h *house) altered(ctx context.Context) error {
	var bundles []string
	err := filepath.WalkDir(filepath.Join(h.Dir, "export", "tile", "entries"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			bundles = append(bundles, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	last, said := map[string]place{}, map[string]uint64{}
	for _, path := range bundles {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for at := 0; at+2 <= len(content); {
			size := int(content[at])<<8 | int(content[at+1])
			if at+2+size > len(content) {
				break
			}
			h.noteStatement(last, said, path, at+2, content[at+2:at+2+size])
			at += 2 + size
		}
	}
	if len(last) == 0 {
		return fmt.Errorf("no statement was found in the export's entries")
	}
	h.Demand(len(said) > 0, "no statement in the export has an epoch and a seq")
	h.Says("unique", "%d statements by agents and replicas: no key, epoch and seq is there twice", len(said))
	for _, kind := range slices.Sorted(maps.Keys(last)) {
		if err := h.alters(ctx, kind, last[kind]); err != nil {
			return err
		}
	}
	h.Says("altered", "one byte of the last statement of each kind, one at a time: %s; each time verify fails and names the entry", strings.Join(slices.Sorted(maps.Keys(last)), ", "))
	return h.quorate(ctx, "verify", "export").failed()
}

// place is where a statement stands in an export.
type place struct {
	path string
	at   int
	seq  uint64
}

// noteStatement keeps the newest statement of each type; proposals by their action. It
// demands that no key says anything twice under one epoch and seq, as one that was
// restored without its memory would.
func (h *house) noteStatement(last map[string]place, said map[string]uint64, path string, at int, raw []byte) {
	e, err := ledger.ParseEntry(raw)
	if err != nil || e.Kind != ledger.KindStatement {
		return
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return
	}
	kind := st.Payload.Type
	if body, err := ledger.DecodeBody[ledger.Propose](st); kind == ledger.TypePropose && err == nil {
		kind = body.Action
	}
	if p := st.Payload; p.Epoch != nil && p.Seq != nil {
		place := fmt.Sprintf("key %s, epoch %d, seq %d", st.KeyID, *p.Epoch, *p.Seq)
		earlier, twice := said[place]
		h.Demand(!twice || earlier == e.Seq, "%s of %s is in entries %d and %d", place, p.Author, earlier, e.Seq)
		said[place] = e.Seq
	}
	// In the middle of the envelope: of its signature or of its content.
	inside := bytes.Index(raw, e.Content)
	if old, ok := last[kind]; !ok || old.seq < e.Seq {
		last[kind] = place{path: path, at: at + inside + len(e.Content)/2, seq: e.Seq}
	}
}

// alters changes one byte, verifies, and puts it back.
func (h *house) alters(ctx context.Context, kind string, p place) error {
	content, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	changed := bytes.Clone(content)
	changed[p.at] ^= 1
	if err := os.WriteFile(p.path, changed, 0o600); err != nil {
		return err
	}
	a := h.quorate(ctx, "verify", "export")
	named := namedEntry.FindStringSubmatch(a.all())
	h.Demand(a.code == 1, "entry %d (%s) was altered, and verify exits with %d", p.seq, kind, a.code)
	h.Demand(named != nil && named[1] == fmt.Sprint(p.seq), "entry %d (%s) was altered, and verify says: %.200s", p.seq, kind, sentence(a.all()))
	return os.WriteFile(p.path, content, 0o600)
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
	// A passphrase that is not seen in its own file says that the search is blind.
	own := 0
	for _, secret := range h.secrets {
		if len(secret.Own) > 0 && slices.ContainsFunc(r.Own, func(f secretscan.Found) bool { return f.Secret == secret.Name }) {
			own++
		}
	}
	h.Demand(own > 0, "no secret was found even in its own file: the search is blind")
	h.Says("secrets", "%d, each in raw bytes, hexadecimal, base64 and decimals: searched in %d files and %d streams within them, %d MB: %d found outside their own files (and %d within)",
		len(h.secrets), r.Files, r.Unpacked, r.Bytes>>20, len(r.Found), own)
	return r, nil
}
