package archive

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// FuzzParseBundle: whatever parses encodes to the same bytes.
func FuzzParseBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'x'})
	f.Add([]byte{0, 1, 'x', 0, 2, 'y', 'z'})
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 'x'})
	f.Add(testTwin(256).bundle(0, 256))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := ParseBundle(b)
		if err != nil {
			return
		}
		if len(entries) == 0 || len(entries) > TileWidth || !bytes.Equal(encodeBundle(entries), b) {
			t.Fatalf("%d entries of %x", len(entries), b)
		}
	})
}

// FuzzParseTilePath: whatever parses has that one spelling.
func FuzzParseTilePath(f *testing.F) {
	for _, path := range []string{
		"tile/0/000", "tile/1/000.p/1", "tile/63/x001/x234/067", "tile/entries/x018/x446/x744/x073/x709/x551/615.p/255",
		"tile/0/x000/001", "tile/0/000.p/256", "tile/entries/", "tile/0/000.p/1/000",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		level, n, width, err := ParseTilePath(path)
		if err != nil {
			return
		}
		again := BundlePath(n, width)
		if level >= 0 {
			again = TilePath(level, n, width)
		}
		if again != path || width < 1 || width > 256 || level > 63 {
			t.Fatalf("%q was read as %d %d %d, which is %q", path, level, n, width, again)
		}
	})
}

// FuzzParseTail: a tail never panics; what parses can be pushed to, and written and parsed again.
func FuzzParseTail(f *testing.F) {
	w := testTwin(1100)
	for _, c := range []struct {
		first, size uint64
	}{{0, 0}, {0, 3}, {0, 300}, {257, 257}, {257, 300}, {257, 600}, {777, 1040}} {
		c := chainOfTwin(w, c.first, c.size)
		f.Add(encodeTail(&c, 0, 7), uint16(0), byte(0))
		f.Add(encodeTail(&c, 0, 7), uint16(40), byte(1))
	}
	f.Add(appendRecord(encodeTail(&chain{}, 0, 7), 0, 0, []byte("x"), 7), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		if len(data) > 0 { // so that the fuzzer gets past the checksums with one changed byte
			data = bytes.Clone(data)
			data[int(at)%len(data)] ^= flip
		}
		tail, err := parseTail("tail", data)
		if err != nil {
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Offset < 0 || damage.Offset > int64(len(data)) {
				t.Fatalf("%v", err)
			}
			return
		}
		c := tail.chain
		for range 260 {
			c.push([]byte("more"), [32]byte{1})
		}
		if _, err := c.newestFrontier(); err != nil {
			t.Fatal(err)
		}
		c.dropTo(c.fullBundles())
		again, err := parseTail("tail", encodeTail(&c, 0, 9))
		if err != nil || again.torn || again.chain.size != c.size || again.chain.base != c.base || len(again.chain.head) != len(c.head) {
			t.Fatalf("written again: %v", err)
		}
	})
}

// chainOfTwin is the chain of the entries [first, size), as it is when all full bundles are written.
func chainOfTwin(w *twin, first, size uint64) chain {
	c := newChain(w.frontier(first))
	for seq := first; seq < size; seq++ {
		c.push(w.entries[seq], tlog.RecordHash(w.entries[seq]))
	}
	c.dropTo(c.fullBundles())
	return c
}
