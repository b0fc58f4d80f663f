package audit

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/quorate/quorate/ledger"
)

// FuzzUnpack: no archive writes but regular files with the names of an export,
// below its folder and within the budget, or leaves anything after an error.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, regular("checkpoint", []byte("x")), regular("./tile/0/000.p/3", make([]byte, 96))))
	f.Add(packed(f, special(tar.TypeDir, "tile/", ""), special(tar.TypeSymlink, "policy", "/etc")))
	f.Add(packed(f, regular("proofs/7.cose", []byte{0xd2, 0x84}), regular("authority/0.json", []byte("{}"))))
	f.Add(packed(f, regular("../up", nil)))
	f.Add(packed(f))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, data []byte) {
		temp := t.TempDir()
		t.Setenv("TMPDIR", temp)
		path := filepath.Join(t.TempDir(), "x.tar.zst")
		must(t, os.WriteFile(path, data, 0o644))
		root, err := unpack(t.Context(), path)
		if err != nil {
			if !errors.As(err, new(*BadError)) {
				t.Fatalf("it is not the archive that is blamed: %v", err)
			}
			if left := leftovers(t, temp); len(left) > 0 {
				t.Fatalf("left are %v", left)
			}
			return
		}
		total := int64(0)
		must(t, fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			must(t, err)
			if total += info.Size(); !info.Mode().IsRegular() || limitOf(path) == 0 || info.Size() > limitOf(path) {
				t.Errorf("unpacked %s, %v of %d bytes", path, info.Mode(), info.Size())
			}
			return nil
		}))
		if total > int64(len(data))*maxUnpackRatio+unpackAllowance+maxUnpackedProofs {
			t.Errorf("unpacked %d bytes from %d", total, len(data))
		}
	})
}

// formerLine is a line as programs wrote it that repeated the entry in it.
func formerLine(line, raw []byte) []byte {
	_, rest, _ := bytes.Cut(line, []byte(","))
	return append([]byte(`{"entry":"`+base64.RawURLEncoding.EncodeToString(raw)+`",`), rest...)
}

// FuzzLines: lines are found equal exactly if they are, and a difference is
// blamed on the first line that has one.
func FuzzLines(f *testing.F) {
	for _, former := range []bool{false, true} {
		f.Add([]byte("a\nb\n"), uint16(0), byte(0), uint16(0), former)
		f.Add([]byte("a longer one\nb\n"), uint16(30), byte(1), uint16(0), former)
		f.Add([]byte("a\nb\n"), uint16(0), byte(0), uint16(1), former)
		f.Add([]byte("some bytes of an entry\nb\n\n"), uint16(200), byte(0x20), uint16(60), former)
		f.Add([]byte("a\nb\n"), uint16(2), byte('b'^'e'), uint16(0), former)
	}
	f.Fuzz(func(t *testing.T, contents []byte, at uint16, flip byte, cut uint16, former bool) {
		var entries []checked
		var lines [][]byte
		for i, raw := range bytes.SplitAfter(contents, []byte("\n")) {
			c := checked{raw: raw, leaf: ledger.LeafHash(raw), entry: &ledger.Entry{Seq: uint64(i), Kind: ledger.KindSeal, Content: []byte("{}")}}
			entries = append(entries, c)
			line := appendView(nil, &c)
			if former {
				line = formerLine(line, raw)
			}
			lines = append(lines, line)
		}
		whole := bytes.Join(lines, nil)
		got := bytes.Clone(whole)
		got[int(at)%len(got)] ^= flip
		got = got[:len(got)-int(cut)%len(got)]
		reader, c := newLineReader(iotest.OneByteReader(bytes.NewReader(got))), lineComparer{}
		for left := len(lines); left > 0; left -= 2 {
			part, err := reader.read(nil, min(left, 2))
			if c.rest = append(c.rest, part...); err != nil {
				break
			}
		}
		ended := reader.ended()
		for i := range entries {
			c.entry(&entries[i])
		}
		if (c.bad == nil && ended) != bytes.Equal(whole, got) {
			t.Fatalf("%q and %q: %v, ended %t", whole, got, c.bad, ended)
		}
		if c.bad == nil {
			return
		}
		same := 0
		for rest := got; bytes.HasPrefix(rest, lines[same]); same++ {
			rest = rest[len(lines[same]):]
		}
		if c.bad.Seq != uint64(same) {
			t.Errorf("%q and %q differ at line %d: %v", whole, got, same, c.bad)
		}
	})
}

// FuzzNames: a name that belongs in an export has one spelling and stays
// within its folder.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"checkpoint", "tile/0/x001/067.p/8", "tile/entries/000", "authority/12.json", "proofs/0.tlog-proof", "proofs/7.cose",
		"../checkpoint", "authority/007.json", "tile/8/000", "tile//0/000", "proofs/../checkpoint", "authority/+1.json",
	} {
		f.Add(name, uint64(600), 3)
	}
	f.Fuzz(func(t *testing.T, name string, size uint64, links int) {
		if limitOf(name) > 0 && (!fs.ValidPath(name) || !filepath.IsLocal(name) || filepath.Clean(name) != name) {
			t.Errorf("%q belongs in an export", name)
		}
		if belongs(name, size>>11, links) && limitOf(name) == 0 {
			t.Errorf("%q belongs and has no limit", name)
		}
		if seq, kind, ok := parseProofName(name); ok && proofName(seq, kind) != name {
			t.Errorf("%q is proof %d%s", name, seq, kind)
		}
	})
}
