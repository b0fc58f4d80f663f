package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// leftovers lists what a folder holds.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// lastBundle is the path of the bundle with the last entries.
func (h history) lastBundle() string {
	n := len(h.entries)
	return fmt.Sprintf("tile/entries/%03d.p/%d", n/256, n%256)
}

// An export that does not come to its end leaves nothing, wherever the source
// fails.
func TestFailedExportLeavesNothing(t *testing.T) {
	h := told(t)
	broken := errors.New("the connection broke")
	for _, at := range []string{"checkpoint", "authority/2", "tile/1/000.p/2", "tile/0/001", h.lastBundle()} {
		for _, name := range []string{"export", "export.tar.zst"} {
			t.Setenv("TMPDIR", t.TempDir())
			m := h.source(t)
			m.hook = func(path string) error {
				if path == at {
					return broken
				}
				return nil
			}
			dir := t.TempDir()
			if len(m.files[at]) == 0 {
				t.Fatalf("the source has no %s", at)
			}
			_, err := Export(t.Context(), m, filepath.Join(dir, name), ExportOptions{Genesis: h.genesis})
			if !errors.Is(err, broken) || errors.As(err, new(*BadError)) {
				t.Errorf("%s fails: %v", at, err)
			}
			if left := append(leftovers(t, dir), leftovers(t, os.Getenv("TMPDIR"))...); len(left) > 0 {
				t.Errorf("%s fails and leaves %v", at, left)
			}
			delete(m.files, at)
			m.hook = nil
			if at == "authority/2" {
				continue // the chain ends there, and the head is not certified by it
			}
			var bad *BadError
			if _, err = Export(t.Context(), m, filepath.Join(dir, name), ExportOptions{Genesis: h.genesis}); !errors.As(err, &bad) || bad.File != at {
				t.Errorf("%s is missing: %v", at, err)
			}
		}
	}
}

func TestExportEndsWithItsContext(t *testing.T) {
	h := told(t)
	m := h.source(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.hook = func(path string) error {
		if path == "tile/entries/001" {
			cancel()
		}
		return nil
	}
	dir := t.TempDir()
	if _, err := Export(ctx, m, filepath.Join(dir, "export"), ExportOptions{Genesis: h.genesis}); !errors.Is(err, context.Canceled) {
		t.Errorf("export: %v", err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	path, _ := exported(t)
	ctx, cancel = context.WithCancel(t.Context())
	_, err := Verify(ctx, path, Options{Genesis: h.genesis, Progress: func(done, total uint64) { cancel() }})
	if !errors.Is(err, context.Canceled) || errors.As(err, new(*BadError)) {
		t.Errorf("verify: %v", err)
	}
}

func TestExportRefusesWhatExists(t *testing.T) {
	h := told(t)
	m := h.source(t)
	m.hook = func(string) error { return errors.New("the source was asked") }
	dir := t.TempDir()
	for name, put := range map[string]func(path string) error{
		"folder":       func(path string) error { return os.Mkdir(path, 0o755) },
		"file.tar.zst": func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"link":         func(path string) error { return os.Symlink("nowhere", path) },
	} {
		path := filepath.Join(dir, name)
		must(t, put(path))
		for _, path := range []string{path, path + "/"} {
			if _, err := Export(t.Context(), m, path, ExportOptions{Genesis: h.genesis}); !errors.Is(err, errExists) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// What appears while the export runs is not replaced either.
	path := filepath.Join(dir, "late")
	m.hook = func(p string) error {
		if p == "tile/entries/000" {
			return os.WriteFile(path, []byte("mine"), 0o644)
		}
		return nil
	}
	if _, err := Export(t.Context(), m, path, ExportOptions{Genesis: h.genesis}); !errors.Is(err, errExists) {
		t.Errorf("a file that came late: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("it holds %q: %v", data, err)
	}
	if left := leftovers(t, dir); len(left) != 4 {
		t.Errorf("left are %v", left)
	}
}

// A writer that fails, as a client that hangs up does, gets no whole archive.
func TestBrokenStreamIsNoExport(t *testing.T) {
	h := told(t)
	m := h.source(t)
	var whole bytes.Buffer
	_, err := WritePacked(t.Context(), m, &whole, ExportOptions{Genesis: h.genesis})
	must(t, err)
	m.hook = func(path string) error {
		if path == h.lastBundle() {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	var cut bytes.Buffer
	if _, err := WritePacked(t.Context(), m, &cut, ExportOptions{Genesis: h.genesis}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v", err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"source failed": cut.Bytes(), "cut": whole.Bytes()[:whole.Len()*3/4], "cut at the end": whole.Bytes()[:whole.Len()-4], "empty": nil} {
		path := filepath.Join(dir, "x.tar.zst")
		must(t, os.WriteFile(path, data, 0o644))
		verifyBad(t, path, h.genesis)
		must(t, os.Remove(path))
		_ = name
	}
}

// growing serves a real archive of a ledger that goes on while it is exported.
type growing struct {
	t       *testing.T
	h       history
	archive *archive.Archive
	size    uint64
}

func (g *growing) Get(_ context.Context, path string) ([]byte, error) {
	h := g.h.until(g.t, g.size)
	if path == "checkpoint" {
		note := h.source(g.t).files[path]
		for ; g.size < uint64(len(g.h.entries)); g.size++ { // and a moment later all has happened
			if err := g.archive.Append(g.size, g.h.entries[g.size]); err != nil {
				return nil, err
			}
		}
		return note, nil
	}
	if n, ok := strings.CutPrefix(path, "authority/"); ok {
		if i, err := strconv.Atoi(n); err == nil && i <= len(h.handovers) {
			return h.source(g.t).files[path], nil
		}
		return nil, os.ErrNotExist
	}
	level, n, width, err := archive.ParseTilePath(path)
	if err != nil {
		return nil, os.ErrNotExist
	}
	if level < 0 {
		return g.archive.Bundle(n, width)
	}
	return g.archive.Tile(level, n, width)
}

func TestHandoverWhileExporting(t *testing.T) {
	h := told(t)
	for _, handover := range []int{0, 2} {
		start := h.handovers[handover].seal + 1
		a, err := archive.Open(t.TempDir(), archive.Options{})
		must(t, err)
		for seq, e := range h.entries[:start] {
			must(t, a.Append(uint64(seq), e))
		}
		dir := filepath.Join(t.TempDir(), "export")
		report, err := Export(t.Context(), &growing{t: t, h: h, archive: a, size: start}, dir, ExportOptions{Genesis: h.genesis})
		must(t, err)
		if report.Size != start || report.Links != handover+2 {
			t.Errorf("exported %+v, want size %d", report, start)
		}
		if found, err := Verify(t.Context(), dir, Options{Genesis: h.genesis}); err != nil || found.Size != start {
			t.Errorf("verify: %v", err)
		}
		must(t, a.Close())
	}
}

// One entry is a ledger too, and so is a tree without a partial bundle.
func TestSizes(t *testing.T) {
	w := newWorld(t)
	w.record("alice", "one")
	w.seal()
	for len(w.entries) != 511 {
		if len(w.entries)%200 == 199 {
			w.seal()
			continue
		}
		w.now += 10_000 // ticks pass, so that nonces lapse
		w.submit(w.sign("r1", ledger.TypeRecord, ledger.Record{Text: "x"}))
	}
	w.seal()
	h := w.history()
	for _, size := range []uint64{3, 512} {
		h := h.until(t, size)
		dir := filepath.Join(t.TempDir(), "export.tar.zst")
		_, err := Export(t.Context(), h.source(t), dir, ExportOptions{Genesis: h.genesis, Decisions: true})
		must(t, err)
		if report, err := Verify(t.Context(), dir, Options{Genesis: h.genesis}); err != nil || report.Size != size {
			t.Errorf("size %d: %v", size, err)
		}
	}
}
