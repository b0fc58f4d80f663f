package archive

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestPaths compares paths with those of the C2SP text.
func TestPaths(t *testing.T) {
	for _, c := range []struct {
		level int
		n     uint64
		width int
		path  string
	}{
		{0, 0, 256, "tile/0/000"},
		{1, 0, 1, "tile/1/000.p/1"},
		{0, 1234067, 256, "tile/0/x001/x234/067"},
		{63, 999, 255, "tile/63/999.p/255"},
		{-1, 1000, 256, "tile/entries/x001/000"},
		{-1, 5, 12, "tile/entries/005.p/12"},
		{0, 1<<64 - 1, 256, "tile/0/x018/x446/x744/x073/x709/x551/615"},
	} {
		got := BundlePath(c.n, c.width)
		if c.level >= 0 {
			got = TilePath(c.level, c.n, c.width)
		}
		if got != c.path {
			t.Errorf("%+v: %s", c, got)
		}
		level, n, width, err := ParseTilePath(c.path)
		if err != nil || level != c.level || n != c.n || width != c.width {
			t.Errorf("%s: %d %d %d, %v", c.path, level, n, width, err)
		}
		if c.level >= 0 && c.n < 1<<40 {
			ref := tlog.Tile{H: 8, L: c.level, N: int64(c.n), W: c.width}
			if want := strings.Replace(ref.Path(), "tile/8/", "tile/", 1); want != c.path {
				t.Errorf("%+v: sumdb/tlog says %s", c, want)
			}
		}
	}
	for _, bad := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000",
		"tile/-1/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/x000/000", "tile/0/001/000",
		"tile/0/x1/000", "tile/0/x001/x002", "/tile/0/000", "tile/0/000/", "tile/Entries/000", "tile/0/00a", "tile/0/x018/x446/x744/x073/x709/x551/616",
		"tile/0/../000", "tile/0/000.p/1.p/1", "tile/0/x000/x000/001",
	} {
		if level, n, width, err := ParseTilePath(bad); err == nil {
			t.Errorf("%q was read as %d %d %d", bad, level, n, width)
		}
	}
}

func TestBundleShape(t *testing.T) {
	full := bytes.Repeat([]byte{0, 1, 'x'}, 256)
	if entries, err := ParseBundle(full); err != nil || len(entries) != 256 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "one byte": {0}, "empty entry": {0, 0}, "cut": {0, 2, 'x'}, "trailing": {0, 1, 'x', 0},
		"257 entries": append(slices.Clone(full), 0, 1, 'x'),
	} {
		if entries, err := ParseBundle(bad); err == nil {
			t.Errorf("%s: %d entries", name, len(entries))
		}
	}
}

func Example() {
	fmt.Println(TilePath(0, 1234067, TileWidth), BundlePath(3, 7))
	// Output: tile/0/x001/x234/067 tile/entries/003.p/7
}
