package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// FuzzCursor: what parses encodes to the same cursor, so that a page has one.
func FuzzCursor(f *testing.F) {
	f.Add("nodes", encodeCursor("nodes", "edge-7"))
	f.Add("joins", encodeCursor("joins", strings.Repeat("0", 64)))
	f.Add("nodes", encodeCursor("joins", "x"))
	f.Add("nodes", "")
	f.Add("nodes", "!")
	f.Add("nodes", encodeCursor("nodes", "a b"))
	f.Fuzz(func(t *testing.T, list, cursor string) {
		last, err := parseCursor(list, cursor)
		if err != nil {
			var p *Problem
			if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if cursor != "" && encodeCursor(list, last) != cursor {
			t.Errorf("%q parses to %q, which encodes to %q", cursor, last, encodeCursor(list, last))
		}
		if _, err := cursorSeq(list, cursor, 100); err == nil && last != "" {
			if seq, _ := cursorSeq(list, cursor, 100); uitoa(seq) != last {
				t.Errorf("%q gives seq %d", last, seq)
			}
		}
	})
}

// FuzzTilePath: whatever path is asked, the answer lies within the certified
// size, and is of the length that the path says.
func FuzzTilePath(f *testing.F) {
	for _, seed := range []string{
		archive.TilePath(0, 0, 1), archive.TilePath(0, 0, 256), archive.TilePath(1, 0, 1), archive.TilePath(0, 1<<20, 3),
		archive.BundlePath(0, 2), archive.BundlePath(5, 256), "tile/0/000.p/0", "tile/0/../000", "tile/63/000", "tile/entries/x000/000",
	} {
		f.Add(seed, uint64(2))
		f.Add(seed, uint64(1)<<52)
	}
	f.Fuzz(func(t *testing.T, path string, size uint64) {
		level, n, width, err := archive.ParseTilePath(path)
		if err != nil {
			return
		}
		if covered(size, level, n, width) {
			// The last entry under the tile is below size, without overflow.
			shift := 8 * max(level, 0)
			end := n*archive.TileWidth + uint64(width)
			if shift >= 64 || end > size>>shift || end<<shift>>shift != end {
				t.Errorf("%s is served of %d entries", path, size)
			}
		}
	})
}

// FuzzWatchQuery: any query gives options within their bounds, or a problem.
func FuzzWatchQuery(f *testing.F) {
	f.Add("from=3&kinds=seal,effect&types=decision&consistency=stale", "")
	f.Add("", "17")
	f.Add("from=-1", "x")
	f.Add("kinds=,", "9007199254740992")
	f.Add("types="+strings.Repeat("a,", 40), "")
	s := &Server{backend: emptyBackend{}, limits: DefaultLimits()}
	f.Fuzz(func(t *testing.T, query, last string) {
		r := httptest.NewRequest("GET", "/v1/watch", nil)
		r.URL.RawQuery = query
		r.Header.Set("Last-Event-ID", last)
		o, err := s.watchOptions(r)
		if err != nil {
			var p *Problem
			if !errors.As(err, &p) && !errors.Is(err, ErrNotReady) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if o.from >= 1<<53 || len(o.filter.types) > maxFilterTypes || o.consistency != client.Certified && o.consistency != client.Stale {
			t.Errorf("%q gives %+v", query, o)
		}
	})
}

// emptyBackend has no state yet.
type emptyBackend struct{ Backend }

func (emptyBackend) View(context.Context, string) (*View, error) { return nil, ErrNotReady }

// FuzzReadQuery: wait and If-None-Match never make an answer longer than the
// bound, nor match by accident.
func FuzzReadQuery(f *testing.F) {
	f.Add("30s", `"abc"`)
	f.Add("-1s", `W/"abc", "d"`)
	f.Add("1e9h", "*")
	f.Add("soon", "")
	s := &Server{limits: DefaultLimits()}
	f.Fuzz(func(t *testing.T, wait, tag string) {
		d, err := s.patience(wait)
		if err == nil && (d < 0 || d > s.limits.Wait) {
			t.Errorf("%q waits %s", wait, d)
		}
		if matches(tag, `"abc"`) && !strings.Contains(tag, "abc") && !strings.Contains(tag, "*") {
			t.Errorf("%q matches", tag)
		}
	})
}

// FuzzStatements: any body gives statements that are its bytes, or a problem
// of the caller's kind.
func FuzzStatements(f *testing.F) {
	k := seeded("alice")
	good, err := ledger.Sign(k, ledger.Payload{
		Author: "alice", Type: ledger.TypeRecord, Nonce: make([]byte, 16), Expires: uint64(time.Now().UnixMilli()),
	}, ledger.Record{Text: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(append([]byte{}, good...), good...))
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Add([]byte{0xd2, 0x84})
	f.Fuzz(func(t *testing.T, body []byte) {
		statements, err := parseStatements(body)
		if err != nil {
			var p *Problem
			if !errors.As(err, &p) || p.Status < 400 || p.Status > 422 || p.Code == "" || p.Detail == "" {
				t.Errorf("refused with %v", err)
			}
			return
		}
		size := 0
		for _, st := range statements {
			size += len(st.Envelope)
		}
		if size != len(body) {
			t.Errorf("%d statements of %d bytes from %d bytes", len(statements), size, len(body))
		}
	})
}
