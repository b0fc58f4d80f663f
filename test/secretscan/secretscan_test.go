package secretscan

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func seed(t *testing.T) []byte {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func scanned(t *testing.T, secrets []Secret, files map[string][]byte) *Report {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(secrets)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Folder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every way in which a secret may leak is planted and must be found: the encoders
// here are others than the scanner's, or the whole printing that a program would do.
func TestEachPlantedSecretIsFound(t *testing.T) {
	secret := seed(t)
	backwards := slices.Clone(secret)
	slices.Reverse(backwards)
	list := make([]int, len(secret))
	for i, b := range secret {
		list[i] = int(b)
	}
	asJSON, _ := json.Marshal(list)
	indented, _ := json.MarshalIndent(map[string]any{"seed": secret}, "", "  ")
	field, _ := json.Marshal(struct{ A, Seed []byte }{[]byte("x"), secret})
	ways := map[string][]byte{
		"raw":             secret,
		"reversed":        backwards,
		"hex":             []byte(hex.EncodeToString(secret)),
		"HEX":             fmt.Appendf(nil, "%X", secret),
		"hex spaced":      fmt.Appendf(nil, "% x", secret),
		"Go list":         fmt.Appendf(nil, "%v", secret),
		"Go syntax":       fmt.Appendf(nil, "%#v", secret),
		"JSON list":       asJSON,
		"JSON":            indented,
		"JSON, one field": field,
		"std":             []byte(base64.StdEncoding.EncodeToString(secret)),
		"url":             []byte(base64.RawURLEncoding.EncodeToString(secret)),
		"cut short":       []byte(hex.EncodeToString(secret[:20])),
		"the end alone":   []byte(hex.EncodeToString(secret[12:])),
	}
	for shift := range 7 {
		around := append(bytes.Repeat([]byte{0xa5}, shift), append(slices.Clone(secret), 1, 2, 3, 4, 5)...)
		ways[fmt.Sprintf("std within, %d", shift)] = []byte(base64.StdEncoding.EncodeToString(around))
		ways[fmt.Sprintf("url within, %d", shift)] = []byte(base64.URLEncoding.EncodeToString(around))
	}
	// A short secret has no second part that another alignment would show.
	short := secret[:minSecret]
	for shift := range 3 {
		around := append(bytes.Repeat([]byte{0xa5}, shift), append(slices.Clone(short), 1, 2, 3)...)
		r := scanned(t, []Secret{{Name: "short", Bytes: short}}, map[string][]byte{"f": []byte(base64.StdEncoding.EncodeToString(around))})
		if len(r.Found) != 1 {
			t.Errorf("a short one, shifted by %d: found %v", shift, r.Found)
		}
	}
	for name, planted := range ways {
		t.Run(name, func(t *testing.T) {
			text := append([]byte("time=now level=INFO key="), append(planted, "\nand so on\n"...)...)
			r := scanned(t, []Secret{{Name: "the seed", Bytes: secret}}, map[string][]byte{"logs/a.log": text, "b": []byte("nothing")})
			if len(r.Found) != 1 || r.Found[0].Secret != "the seed" || r.Found[0].Path != "logs/a.log" {
				t.Errorf("found %v", r.Found)
			}
			if r.Files != 2 {
				t.Errorf("%d files were read", r.Files)
			}
		})
	}
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write(b); err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func archived(t *testing.T, members map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, b := range members {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A bundle of bundles is unpacked to its end, and a cut or false one is looked at
// as the bytes that it is.
func TestWhatIsPackedIsUnpacked(t *testing.T) {
	secret := seed(t)
	text := append(bytes.Repeat([]byte("the same again "), 400), hex.EncodeToString(secret)...)
	bundle := compressed(t, archived(t, map[string][]byte{"journal": []byte("x"), "heap.pprof": zipped(t, text)}))
	for name, c := range map[string]struct {
		content []byte
		want    int
	}{
		"zstd":                {compressed(t, text), 1},
		"gzip":                {zipped(t, text), 1},
		"tar":                 {archived(t, map[string][]byte{"a": text}), 2}, // as a file, and as its member
		"debug.tar.zst":       {bundle, 1},
		"not zstd":            {append([]byte{0x28, 0xb5, 0x2f, 0xfd, 9, 9}, text...), 1},
		"bytes after a frame": {append(compressed(t, []byte("harmless")), text...), 1},
		"two frames":          {append(compressed(t, []byte("harmless")), compressed(t, text)...), 1},
		"clean":               {compressed(t, []byte("harmless")), 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := scanned(t, []Secret{{Name: "s", Bytes: secret}}, map[string][]byte{"f": c.content})
			if len(r.Found) != c.want {
				t.Errorf("found %v, want %d", r.Found, c.want)
			}
		})
	}
}

// A needle on the border of two windows is found, once, at its place.
func TestBordersHideNothing(t *testing.T) {
	secret := []byte("correct horse battery")
	s, err := New([]Secret{{Name: "p", Bytes: secret}})
	if err != nil {
		t.Fatal(err)
	}
	end := windowBytes // of the first window
	for _, place := range []int{0, end - s.longest, end - len(secret) - 1, end - len(secret), end - 8, end - 1, end, end + 1, 2*end - 8, 2 * end} {
		content := bytes.Repeat([]byte{'.'}, 3*windowBytes)
		copy(content[place:], secret)
		r := &Report{}
		// One byte at a time at the border: readers need not fill what they are given.
		if err := s.Stream(r, io.MultiReader(bytes.NewReader(content[:end-3]), bytes.NewReader(content[end-3:])), "f"); err != nil {
			t.Fatal(err)
		}
		if len(r.Found) != 1 || r.Found[0].At != int64(place) {
			t.Errorf("at %d: found %v", place, r.Found)
		}
		if r.Bytes != int64(len(content)) {
			t.Errorf("looked at %d bytes", r.Bytes)
		}
	}
}

// broken writes a text in lines of so many characters.
func broken(text string, width int, end string) []byte {
	var b strings.Builder
	for len(text) > width {
		b.WriteString(text[:width] + end)
		text = text[width:]
	}
	b.WriteString(text)
	return []byte(b.String())
}

// Breaks and indents hide nothing, wherever they fall: of a seed, and of an age file key,
// which is half as long.
func TestWhiteSpaceHidesNothing(t *testing.T) {
	for _, secret := range [][]byte{seed(t), seed(t)[:16]} {
		around := slices.Concat(bytes.Repeat([]byte("before"), 40), secret, bytes.Repeat([]byte("after"), 40))
		list := make([]int, len(secret))
		for i, b := range secret {
			list[i] = int(b)
		}
		indented, err := json.MarshalIndent(map[string]any{"seed": list}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		ways := map[string][]byte{"JSON, a number a line": indented}
		for width := 3; width < 80; width++ {
			ways[fmt.Sprintf("base64 within, %d", width)] = broken(base64.StdEncoding.EncodeToString(around), width, "\n")
			ways[fmt.Sprintf("base64url within, %d", width)] = broken(base64.URLEncoding.EncodeToString(around), width, "\r\n    ")
			ways[fmt.Sprintf("hex within, %d", width)] = broken(hex.EncodeToString(around), width, "\n\t")
		}
		r := scanned(t, []Secret{{Name: "it", Bytes: secret}}, ways)
		for name := range ways {
			if !slices.ContainsFunc(r.Found, func(f Found) bool { return f.Path == name }) {
				t.Errorf("%d bytes as %s: not found", len(secret), name)
			}
		}
	}
}

func TestCoreDumpsAreNamed(t *testing.T) {
	for name, want := range map[string]int{"core": 1, "core.1234": 1, "vgcore.77": 1, "agent.core": 1, "coredump": 1, "score": 0, "core.go": 0, "cores": 0} {
		r := scanned(t, []Secret{{Name: "s", Bytes: seed(t)}}, map[string][]byte{"d/" + name: []byte("x")})
		if len(r.Cores) != want {
			t.Errorf("%s: %v", name, r.Cores)
		}
	}
}

func TestASecretMayStandInItsOwnFile(t *testing.T) {
	pass := []byte("correct horse battery")
	r := scanned(t, []Secret{{Name: "p", Bytes: pass, Own: []string{"keys/a.pass"}}},
		map[string][]byte{"keys/a.pass": pass, "keys/b.pass": []byte("another")})
	if len(r.Found) != 0 || len(r.Own) != 1 {
		t.Errorf("found %v, in its own %v", r.Found, r.Own)
	}
	r = scanned(t, []Secret{{Name: "p", Bytes: pass, Own: []string{"keys/a.pass"}}}, map[string][]byte{"keys/b.pass": pass})
	if len(r.Found) != 1 || len(r.Own) != 0 {
		t.Errorf("elsewhere: found %v, in its own %v", r.Found, r.Own)
	}
}

func TestWhatIsNoSecretIsRefused(t *testing.T) {
	for _, list := range [][]Secret{nil, {{Name: "short", Bytes: []byte("12345678901")}}} {
		if _, err := New(list); err == nil {
			t.Errorf("%v was taken", list)
		}
	}
	s, err := New([]Secret{{Name: "s", Bytes: seed(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Folder(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("an empty folder: %v", err)
	}
}
