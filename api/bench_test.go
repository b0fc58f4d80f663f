package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// BenchmarkWatch is the cost of one entry for one more watcher, from the
// archive and from the events that are kept.
func BenchmarkWatch(b *testing.B) {
	for _, entries := range []uint64{watchFrames / 2, 2 * watchFrames} {
		b.Run(fmt.Sprint(entries, " entries"), func(b *testing.B) {
			f := benchFake(b, entries)
			s, err := New(f, Config{})
			if err != nil {
				b.Fatal(err)
			}
			w := &discard{header: http.Header{}}
			stream := &eventStream{w: w, control: http.NewResponseController(w), timeout: time.Minute}
			for b.Loop() {
				if _, err := s.sendEntries(stream, filter{}, 0, entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(entries), "ns/entry")
		})
	}
}

// BenchmarkRead is a small read over the whole chain of handlers, without the
// network.
func BenchmarkRead(b *testing.B) {
	s, err := New(benchFake(b, 10), Config{Limits: Limits{RatePerSecond: 1e9, RateBurst: 1 << 30}})
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range []string{"/v1/council", "/v1/proofs/state?key=policy", "/v1/entries/3", "/tile/0/000.p/5"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

func benchFake(b *testing.B, entries uint64) *fake {
	f := newFake(b)
	f.hold = true
	for f.archive.Size() < entries {
		// An author has at most 256 live nonces.
		author := []string{"alice", "bob", "carol"}[f.archive.Size()%3]
		f.submit(f.world.record(b, author, fmt.Sprint("entry ", f.archive.Size())))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seal()
	return f
}

// discard is a ResponseWriter to nowhere.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header              { return d.header }
func (d *discard) Write(p []byte) (int, error)      { return len(p), nil }
func (d *discard) WriteHeader(int)                  {}
func (d *discard) Flush()                           {}
func (d *discard) SetWriteDeadline(time.Time) error { return nil }

// accepts is a backend that commits whatever comes, for nothing.
type accepts struct{ Backend }

func (accepts) Submit(_ context.Context, statements []*ledger.Statement, _ client.Wait) (*Receipt, error) {
	return &Receipt{Verdicts: []fsm.Verdict{{Seq: 7, ID: statements[0].ID}}, First: 7, Last: 7, Stamp: 1, Level: client.WaitCommitted}, nil
}

// BenchmarkSubmit is what the API adds to a submission, without the network: the
// short way of plain ones, and the long one.
func BenchmarkSubmit(b *testing.B) {
	f := newFake(b)
	s, err := New(accepts{f}, Config{Limits: Limits{RatePerSecond: 1e9, RateBurst: 1 << 30}})
	if err != nil {
		b.Fatal(err)
	}
	body := f.world.record(b, "alice", strings.Repeat("x", 3072))
	for _, query := range []string{"", "?wait=committed"} {
		b.Run("query "+query, func(b *testing.B) {
			b.ReportAllocs()
			w := &discard{header: http.Header{}}
			for b.Loop() {
				r := httptest.NewRequest("POST", "/v1/statements"+query, bytes.NewReader(body))
				r.Header.Set("Content-Type", mediaCOSE)
				clear(w.header)
				s.Handler().ServeHTTP(w, r)
			}
		})
	}
}
