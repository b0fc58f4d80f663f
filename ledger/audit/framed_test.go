package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// spoiler is a packedSink that changes one file on its way.
type spoiler struct {
	*packedSink
	path   string
	change func([]byte) []byte
	after  []byte // written behind it, as the sink does
}

func (s *spoiler) add(path string, data []byte) error {
	if path != s.path {
		return s.packedSink.add(path, data)
	}
	if err := s.packedSink.add(path, s.change(bytes.Clone(data))); err != nil {
		return err
	}
	return s.extra()
}

func (s *spoiler) extra() error {
	if s.after == nil {
		return nil
	}
	if err := s.tar.Flush(); err != nil {
		return err
	}
	_, err := s.zip.Write(s.after)
	return err
}

func (s *spoiler) addPieces(path string, sizes []int64, r io.Reader) error {
	if path != s.path {
		return s.packedSink.addPieces(path, sizes, r)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.packedSink.addPieces(path, sizes, bytes.NewReader(s.change(data)))
}

func writeSpoiled(t *testing.T, h history, path string, s spoiler) string {
	t.Helper()
	var b bytes.Buffer
	p, err := newPackedSink(&b)
	must(t, err)
	s.packedSink, s.path = p, path
	if s.change == nil {
		s.change = func(b []byte) []byte { return b }
	}
	_, err = export(t.Context(), h.source(t), &s, ExportOptions{Genesis: h.genesis, Decisions: true})
	must(t, err)
	must(t, p.close())
	name := filepath.Join(t.TempDir(), "export"+PackedSuffix)
	must(t, os.WriteFile(name, b.Bytes(), 0o644))
	return name
}

// framedHistory fills more than two bundles.
func framedHistory(t *testing.T) history {
	w := newWorld(t)
	w.admit("edge-1")
	for i := range 300 {
		w.now += 60_000
		w.decide([]string{"node.quarantine", "node.release"}[i%2], map[string]any{"name": "edge-1", "reason": "it lied, or not"}, "alice", "bob")
		if len(w.history().entries) > 600 {
			break
		}
	}
	w.seal()
	return w.history()
}

// What Export writes is verified where it lies.
func TestArchivesAreNotUnpacked(t *testing.T) {
	h := framedHistory(t)
	path := writeSpoiled(t, h, "", spoiler{})
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	v := newVerifier(Options{Genesis: h.genesis, Workers: 2})
	must(t, v.archive(t.Context(), path))
	if v.framed.bundles() < 3 || v.report.Entries != uint64(len(h.entries)) || !v.report.View || v.report.Proofs == 0 {
		t.Errorf("%d bundles, report %+v", v.framed.bundles(), v.report)
	}
	report, err := Verify(t.Context(), path, Options{Genesis: h.genesis})
	if err != nil || !report.OK {
		t.Errorf("%v", err)
	}
}

// A framed archive gets the verdict that it gets unpacked.
func TestSpoiledFramesAreRefused(t *testing.T) {
	h := framedHistory(t)
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	zeros := make([]byte, tarEndBytes)
	for _, c := range []struct {
		name, path string
		spoiler
		file string
	}{
		{"an entry", "tile/entries/001", spoiler{change: flip}, "tile/entries/001"},
		{"a tile", "tile/0/000", spoiler{change: flip}, "tile/0/000"},
		{"a line", viewName, spoiler{change: flip}, viewName},
		{"an upper tile", "tile/1/000.p/2", spoiler{change: flip}, ""},
		{"the checkpoint", "checkpoint", spoiler{change: flip}, ""},
		{"a bundle cut", "tile/entries/000", spoiler{change: func(b []byte) []byte { return b[:len(b)-1] }}, "tile/entries/000"},
		{"the tar's end inside", "tile/entries/000", spoiler{after: zeros}, ""},
		{"the tar's end after the head", "tile/1/000.p/2", spoiler{after: zeros}, ""},
		{"two lines in each other's place", viewName, spoiler{change: func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			lines[3], lines[4] = lines[4], lines[3]
			return bytes.Join(lines, nil)
		}}, viewName},
	} {
		path := writeSpoiled(t, h, c.path, c.spoiler)
		if err := newVerifier(Options{Genesis: h.genesis, Workers: 2}).archive(t.Context(), path); !notFramed(err) {
			t.Errorf("%s: verified in frames: %v", c.name, err)
		}
		_, err := Verify(t.Context(), path, Options{Genesis: h.genesis})
		var bad *BadError
		if !errors.As(err, &bad) || c.file != "" && bad.File != c.file {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// An archive that ends after any of its frames is refused, though each is whole.
func TestArchivesCutBetweenFrames(t *testing.T) {
	h := framedHistory(t)
	data, err := os.ReadFile(writeSpoiled(t, h, "", spoiler{}))
	must(t, err)
	whole := filepath.Join(t.TempDir(), "whole"+PackedSuffix)
	must(t, os.WriteFile(whole, data, 0o644))
	d, err := openFramed(t.Context(), whole)
	must(t, err)
	spans := d.in.at
	must(t, d.Close())
	for n, s := range spans[1:] {
		path := filepath.Join(t.TempDir(), "cut"+PackedSuffix)
		must(t, os.WriteFile(path, data[:s.offset], 0o644))
		report, err := Verify(t.Context(), path, Options{Genesis: h.genesis})
		var bad *BadError
		if !errors.As(err, &bad) || report.OK {
			t.Errorf("cut before frame %d: %v", n+1, err)
		}
	}
}

// The same tar in other frames is verified by unpacking it.
func TestOtherFramesAreUnpacked(t *testing.T) {
	h := framedHistory(t)
	data, err := os.ReadFile(writeSpoiled(t, h, "", spoiler{}))
	must(t, err)
	z, err := zstd.NewReader(bytes.NewReader(data))
	must(t, err)
	defer z.Close()
	tar, err := io.ReadAll(z)
	must(t, err)
	var pieces []byte
	for begin := 0; begin < len(tar); begin += 100_000 {
		pieces = append(pieces, zipped(t, tar[begin:min(begin+100_000, len(tar))])...)
	}
	skip := []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00free")
	for name, data := range map[string][]byte{
		"one frame": zipped(t, tar), "pieces": pieces, "a skippable frame": append(bytes.Clone(skip), data...),
	} {
		path := filepath.Join(t.TempDir(), strings.ReplaceAll(name, " ", "-")+PackedSuffix)
		must(t, os.WriteFile(path, data, 0o644))
		if err := newVerifier(Options{Genesis: h.genesis, Workers: 2}).archive(t.Context(), path); !errors.Is(err, errNotFramed) {
			t.Errorf("%s: %v", name, err)
		}
		if report, err := Verify(t.Context(), path, Options{Genesis: h.genesis}); err != nil || !report.OK {
			t.Errorf("%s: %v", name, err)
		}
	}
}
