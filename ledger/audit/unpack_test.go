package audit

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

type tarMember struct {
	header tar.Header
	body   []byte
}

func regular(name string, body []byte) tarMember {
	return tarMember{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body}
}

func packed(t testing.TB, members ...tarMember) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	w := tar.NewWriter(z)
	for _, m := range members {
		must(t, w.WriteHeader(&m.header))
		_, err := w.Write(m.body)
		must(t, err)
	}
	must(t, w.Close())
	must(t, z.Close())
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	must(t, err)
	return z.EncodeAll(data, nil)
}

func special(flag byte, name, link string) tarMember {
	return tarMember{header: tar.Header{Typeflag: flag, Name: name, Linkname: link, Mode: 0o644}}
}

// An archive by someone who means harm writes nothing outside its folder, fills
// no disk and leaves nothing behind.
func TestHostileArchives(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	t.Setenv("TMPDIR", t.TempDir())
	zeros := make([]byte, 32<<20)
	whole := packed(t, regular("checkpoint", []byte("x")))
	for _, c := range []struct {
		name string
		data []byte
		file string // blamed; "" for the archive itself
		why  string
	}{
		{"not zstd", []byte("PK\x03\x04 a zip"), "", ""},
		{"empty", nil, "", ""},
		{"not tar", zipped(t, bytes.Repeat([]byte("no tar "), 200)), "", "read member"},
		{"absolute", packed(t, regular(outside, []byte("x"))), "", "does not belong"},
		{"up", packed(t, regular("../outside", []byte("x"))), "", "does not belong"},
		{"up from within", packed(t, regular("tile/../../outside", []byte("x"))), "", "does not belong"},
		{"up with a dot", packed(t, regular("./../checkpoint", []byte("x"))), "", "does not belong"},
		{"a folder above", packed(t, special(tar.TypeDir, "../x/", "")), "", "does not belong"},
		{"symbolic link", packed(t, special(tar.TypeSymlink, "checkpoint", outside)), "", "does not belong"},
		{"hard link", packed(t, special(tar.TypeLink, "checkpoint", "/etc/passwd")), "", "does not belong"},
		{"device", packed(t, special(tar.TypeChar, "checkpoint", "")), "", "does not belong"},
		{"pipe", packed(t, special(tar.TypeFifo, "checkpoint", "")), "", "does not belong"},
		{"other name", packed(t, regular("run.sh", []byte("x"))), "", "does not belong"},
		{"odd tile", packed(t, regular("tile/0/x000/001", []byte("x"))), "", "does not belong"},
		{"twice", packed(t, regular("checkpoint", []byte("x")), regular("./checkpoint", []byte("y"))), "checkpoint", "twice"},
		{"too large", packed(t, regular("log.vkey", zeros[:maxVKeyBytes+1])), "log.vkey", "too large"},
		{"bomb of one file", packed(t, regular(viewName, zeros)), viewName, "times its size"},
		{"bomb of many files", packed(t, manyBundles(zeros[:1<<20])...), "tile/entries/016", "times its size"},
		{"a file below a file", packed(t, regular("tile/0/000", []byte("x")), regular("tile/0/000.p/3", []byte("y")), regular("tile/0/x001/000", []byte("x"))), "", ""},
		{"bytes after the end", append(bytes.Clone(whole), zipped(t, []byte("more"))...), "", "bytes follow"},
		{"cut", whole[:len(whole)-6], "", ""},
	} {
		path := filepath.Join(t.TempDir(), "hostile.tar.zst")
		must(t, os.WriteFile(path, c.data, 0o644))
		var genesis [32]byte
		report, err := Verify(t.Context(), path, Options{Genesis: genesis})
		var bad *BadError
		if !errors.As(err, &bad) || report == nil || report.OK {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.file == "" && c.why != "" {
			c.file = "hostile.tar.zst"
		}
		if c.file != "" && bad.File != c.file || bad.Step != StepFiles || !strings.Contains(bad.Error(), c.why) {
			t.Errorf("%s: %v, want %s: %s", c.name, bad, c.file, c.why)
		}
		if left := leftovers(t, os.Getenv("TMPDIR")); len(left) > 0 {
			t.Errorf("%s leaves %v", c.name, left)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Fatalf("%s wrote outside", c.name)
		}
	}
}

func manyBundles(body []byte) []tarMember {
	var members []tarMember
	for n := range 40 {
		members = append(members, regular("tile/entries/0"+string(rune('0'+n/10))+string(rune('0'+n%10)), body))
	}
	return members
}

// What tar makes of an exported folder verifies as the folder does.
func TestArchivesOfOtherTools(t *testing.T) {
	dir, h := exported(t)
	var members []tarMember
	members = append(members, special(tar.TypeDir, "./", ""), special(tar.TypeDir, "./tile/", ""))
	for _, file := range filesOf(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		members = append(members, regular("./"+file, data))
	}
	path := filepath.Join(t.TempDir(), "export.tar.zst")
	must(t, os.WriteFile(path, packed(t, members...), 0o644))
	report, err := Verify(t.Context(), path, Options{Genesis: h.genesis})
	if err != nil || !report.OK || report.Proofs != 12 {
		t.Errorf("%v", err)
	}
	// The same wrong byte gets the same verdict in both forms.
	for _, file := range []string{"tile/entries/001", "authority/3.json", viewName, "proofs/11.tlog-proof"} {
		change(t, dir, file, func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, func() {
			one := verifyBad(t, dir, h.genesis)
			for i := range members {
				if members[i].header.Name == "./"+file {
					data, err := os.ReadFile(filepath.Join(dir, file))
					must(t, err)
					before := members[i].body
					members[i].body = data
					must(t, os.WriteFile(path, packed(t, members...), 0o644))
					members[i].body = before
				}
			}
			if other := verifyBad(t, path, h.genesis); other.Error() != one.Error() {
				t.Errorf("%s: folder %v, archive %v", file, one, other)
			}
		})
	}
}
