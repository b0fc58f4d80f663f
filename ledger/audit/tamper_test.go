package audit

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// verifyBad verifies what must be found bad, and gives what is blamed.
func verifyBad(t *testing.T, path string, genesis ledger.Hash) *BadError {
	t.Helper()
	report, err := Verify(t.Context(), path, Options{Genesis: genesis})
	var bad *BadError
	if !errors.As(err, &bad) {
		t.Fatalf("verification gave %v, want a *BadError", err)
	}
	if report == nil || report.OK || report.Bad == nil || report.Bad.File != bad.File || bad.File == "" || bad.Step == "" {
		t.Fatalf("report %+v of %v", report, bad)
	}
	if text := report.Text(); !strings.Contains(text, "BAD at step "+bad.Step+": "+bad.File) || strings.Contains(text, "complete to") {
		t.Fatalf("text of %v:\n%s", bad, text)
	}
	return bad
}

// change rewrites a file for the duration of fn.
func change(t *testing.T, dir, file string, to func([]byte) []byte, fn func()) {
	t.Helper()
	name := filepath.Join(dir, filepath.FromSlash(file))
	before, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, to(bytes.Clone(before)), 0o644))
	fn()
	must(t, os.WriteFile(name, before, 0o644))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 30 {
		t.Fatalf("the export has only %v", files)
	}
	return files
}

// A byte of any file that changes is found, and the file is named, or the
// entry. Of a checkpoint only what is signed and the signatures that count: a
// line of a key that nobody knows counts for nothing, whatever it says.
func TestEveryFileIsChecked(t *testing.T) {
	dir, h := exported(t)
	proofs := 0
	for _, file := range filesOf(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		places := []int{0, len(data) / 5, len(data) / 2, len(data) - 1}
		if strings.HasPrefix(file, "proofs/") {
			if proofs++; proofs > 6 {
				continue
			}
			places = places[1:3]
		}
		for _, at := range places {
			if file == "checkpoint" {
				at = placeInCheckpoint(t, data, at)
			}
			change(t, dir, file, flip(at), func() {
				if bad := verifyBad(t, dir, h.genesis); bad.File != file {
					t.Errorf("byte %d of %s changed, blamed is %v", at, file, bad)
				}
			})
		}
		if file != "checkpoint" {
			must(t, os.Rename(filepath.Join(dir, file), filepath.Join(dir, "aside")))
			moved := filepath.Join(t.TempDir(), "aside")
			must(t, os.Rename(filepath.Join(dir, "aside"), moved))
			if !strings.HasPrefix(file, "proofs/") && file != "authority/4.json" {
				if bad := verifyBad(t, dir, h.genesis); bad.File != file {
					t.Errorf("%s is missing, blamed is %v", file, bad)
				}
			}
			must(t, os.Rename(moved, filepath.Join(dir, file)))
		}
	}
	report, err := Verify(t.Context(), dir, Options{Genesis: h.genesis})
	if err != nil || !report.OK {
		t.Errorf("put together again, it does not verify: %v", err)
	}
}

// placeInCheckpoint moves a place to one that matters: the text, or the first
// signature of r1's ML-DSA-65 key.
func placeInCheckpoint(t *testing.T, note []byte, at int) int {
	t.Helper()
	text := bytes.Index(note, []byte("\n\n"))
	if at < text {
		return at
	}
	line := bytes.LastIndex(note, []byte("/replica/r1 "))
	if line < 0 {
		t.Fatal("r1 did not cosign")
	}
	return line + len("/replica/r1 ") + 40 + at%4000
}

// Whatever byte of an entry changes, the entry is named.
func TestEveryEntryIsNamed(t *testing.T) {
	dir, h := exported(t)
	size := uint64(len(h.entries))
	sampled := 0
	for seq := uint64(0); seq < size; seq += 97 {
		n := seq / archive.TileWidth
		file := archive.BundlePath(n, bundleWidth(n, size))
		at := 0
		for _, e := range h.entries[n*archive.TileWidth : seq] {
			at += 2 + len(e)
		}
		length := len(h.entries[seq])
		for _, place := range []int{at, at + 1, at + 2, at + 3, at + 4, at + 2 + 12, at + 2 + 30, at + 2 + length/2, at + 1 + length} {
			sampled++
			change(t, dir, file, flip(place), func() {
				if bad := verifyBad(t, dir, h.genesis); !bad.HasSeq || bad.Seq != seq || bad.File != file {
					t.Errorf("byte %d of entry %d (%d bytes) changed, blamed is %v", place-at-2, seq, length, bad)
				}
			})
		}
	}
	if sampled < 60 {
		t.Errorf("only %d places were tried", sampled)
	}
}

// A bundle whose entries come, go or change places without the tree.
func TestBundlesAreWhole(t *testing.T) {
	dir, h := exported(t)
	const file = "tile/entries/001"
	bundle := func(change func([][]byte) [][]byte) func([]byte) []byte {
		return func(b []byte) []byte {
			entries, err := archive.ParseBundle(b)
			must(t, err)
			return bundleOf(change(entries))
		}
	}
	for _, c := range []struct {
		name string
		to   func([]byte) []byte
		seq  uint64
	}{
		{"an entry dropped", bundle(func(e [][]byte) [][]byte { return append(e[:10:10], e[11:]...) }), 266},
		{"two swapped", bundle(func(e [][]byte) [][]byte { e[3], e[4] = e[4], e[3]; return e }), 259},
		{"one twice", bundle(func(e [][]byte) [][]byte { return append(e[:5:5], e[4:255]...) }), 261},
		{"the last missing", bundle(func(e [][]byte) [][]byte { return e[:255] }), 511},
		{"cut within an entry", func(b []byte) []byte { return b[:len(b)-5] }, 511},
		{"emptied", func([]byte) []byte { return nil }, 256},
	} {
		change(t, dir, file, c.to, func() {
			if bad := verifyBad(t, dir, h.genesis); bad.File != file || !bad.HasSeq || bad.Seq != c.seq || bad.Step != StepTree {
				t.Errorf("%s: %v, want entry %d", c.name, bad, c.seq)
			}
		})
	}
	change(t, dir, file, func(b []byte) []byte { return append(b, 0, 1, 7) }, func() {
		if bad := verifyBad(t, dir, h.genesis); bad.File != file {
			t.Errorf("a byte more: %v", bad)
		}
	})
}

// entries.jsonl is a view, and it is the view of these entries.
func TestViewIsCompared(t *testing.T) {
	dir, h := exported(t)
	size := uint64(len(h.entries))
	lines := func(change func([][]byte) [][]byte) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Join(change(bytes.SplitAfter(b, []byte("\n"))), nil) }
	}
	for _, c := range []struct {
		name string
		to   func([]byte) []byte
		seq  uint64 // size: none
	}{
		{"a line dropped", lines(func(l [][]byte) [][]byte { return append(l[:300:300], l[301:]...) }), 300},
		{"two swapped", lines(func(l [][]byte) [][]byte { l[7], l[8] = l[8], l[7]; return l }), 7},
		{"one twice", lines(func(l [][]byte) [][]byte { return append(l[:9:9], l[8:]...) }), 9},
		{"the last missing", lines(func(l [][]byte) [][]byte { return l[:size-1] }), size - 1},
		{"no line feed at the end", func(b []byte) []byte { return b[:len(b)-1] }, size - 1},
		{"one line more", lines(func(l [][]byte) [][]byte { return append(l, l[0]) }), size},
		{"a byte more", func(b []byte) []byte { return append(b, '\n') }, size},
		{"a line that never ends", func(b []byte) []byte { return append(bytes.Repeat([]byte("x"), maxLineBytes+1), b...) }, size},
		{"emptied", func([]byte) []byte { return nil }, 0},
	} {
		change(t, dir, viewName, c.to, func() {
			bad := verifyBad(t, dir, h.genesis)
			if bad.Step != StepView || bad.File != viewName || bad.HasSeq != (c.seq < size) || bad.HasSeq && bad.Seq != c.seq {
				t.Errorf("%s: %v, want line of entry %d", c.name, bad, c.seq)
			}
		})
	}
}

// What does not belong in an export is refused, because nobody verified it.
func TestOddFilesAreRefused(t *testing.T) {
	dir, h := exported(t)
	add := func(name string, make func(path string) error) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, make(path))
		if bad := verifyBad(t, dir, h.genesis); bad.File != name || bad.Step != StepFiles && !strings.HasPrefix(name, "authority/") {
			t.Errorf("%s: %v", name, bad)
		}
		must(t, os.Remove(path))
	}
	plain := func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) }
	for _, name := range []string{
		"README", "checkpoint.old", "authority/5.json", "authority/01.json", "authority/1", "tile/0/003", "tile/0/000.p/7",
		"tile/7/000", "tile/entries/003", "tile/x", "proofs/100000.cose", "proofs/1.txt", "genesis.cbor~", "sub/checkpoint",
	} {
		add(name, plain)
	}
	add("proofs/3.link", func(path string) error { return os.Symlink("../checkpoint", path) })
	add("folder", func(path string) error { return os.Symlink("authority", path) })
	add("proofs/2.cose", mkfifo)
	for _, file := range []string{"checkpoint", "authority/0.json", "genesis.cbor", "tile/0/000", "tile/entries/000", viewName, "log.vkey"} {
		path := filepath.Join(dir, file)
		for name, put := range map[string]func() error{
			"symbolic link": func() error { return os.Symlink(filepath.Base(file)+".aside", path) },
			"pipe":          func() error { return mkfifo(path) },
			"folder":        func() error { return os.Mkdir(path, 0o755) },
		} {
			must(t, os.Rename(path, path+".aside"))
			must(t, put())
			if bad := verifyBad(t, dir, h.genesis); !strings.HasPrefix(bad.File, file) {
				t.Errorf("%s is a %s: %v", file, name, bad)
			}
			must(t, os.Remove(path))
			must(t, os.Rename(path+".aside", path))
		}
	}
	change(t, dir, "policy", func([]byte) []byte { return make([]byte, maxPolicyBytes+1) }, func() {
		if bad := verifyBad(t, dir, h.genesis); bad.File != "policy" || !errors.Is(bad, errTooLarge) {
			t.Errorf("a large policy: %v", bad)
		}
	})
}
