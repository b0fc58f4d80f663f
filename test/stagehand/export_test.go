package stagehand

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// entry is a bundled entry: whatever its content, it has a seq.
func entry(t *testing.T, seq uint64, what string) []byte {
	t.Helper()
	raw, err := (&ledger.Entry{Seq: seq, Stamp: 1_700_000_000_000 + seq, Kind: ledger.KindStatement, Content: []byte(what)}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...)
}

func bundle(t *testing.T, seqs ...uint64) (b []byte) {
	for _, seq := range seqs {
		b = append(b, entry(t, seq, "said")...)
	}
	return b
}

func TestExports(t *testing.T) {
	whole := bundle(t, 0, 1, 2)
	for name, c := range map[string]struct {
		bundles [][]byte
		entries int
		says    string
	}{
		"whole":                   {[][]byte{whole, bundle(t, 3, 4)}, 5, ""},
		"in another order":        {[][]byte{bundle(t, 3, 4), whole}, 5, ""},
		"the same entry twice":    {[][]byte{whole, bundle(t, 2, 3)}, 4, ""},
		"the first is missing":    {[][]byte{bundle(t, 1, 2)}, 0, "no entry 0"},
		"one is missing":          {[][]byte{bundle(t, 0, 1, 3)}, 0, "no entry 2"},
		"a bundle is missing":     {[][]byte{whole, bundle(t, 6, 7)}, 0, "no entry 3"},
		"two of one seq":          {[][]byte{whole, entry(t, 1, "unsaid")}, 0, "two entries 1"},
		"two of one seq together": {[][]byte{append(bytes.Clone(whole), entry(t, 2, "unsaid")...)}, 0, "two entries 2"},
		"the end cut off":         {[][]byte{whole[:len(whole)-1]}, 0, "not whole"},
		"half a length":           {[][]byte{append(bytes.Clone(whole), 1)}, 0, "not whole"},
		"no entry at all":         {[][]byte{nil}, 0, "no entries"},
		"bytes that are none":     {[][]byte{append(bytes.Clone(whole), 0, 3, 1, 2, 3)}, 0, "byte"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i, b := range c.bundles {
				path := filepath.Join(dir, "tile", "entries", fmt.Sprintf("x%03d", i), "000")
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			list, err := Exports(dir)
			if len(list) != c.entries || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%d entries, %v; want %d, %q", len(list), err, c.entries, c.says)
			}
			for i, e := range list {
				if e.Entry.Seq != uint64(i) {
					t.Errorf("the %dth has seq %d", i, e.Entry.Seq)
				}
				b, err := os.ReadFile(e.Path)
				if err != nil || !bytes.Equal(b[e.At:e.At+len(e.Raw)], e.Raw) {
					t.Errorf("entry %d does not stand where it is said to (%v)", i, err)
				}
			}
		})
	}
	if _, err := Exports(t.TempDir()); err == nil {
		t.Error("a folder that is no export was read")
	}
}
