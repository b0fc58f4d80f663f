package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The short way of plain submissions must answer as the long one does, which
// the query makes them take: status, headers and body.
func TestPlainSubmissionsAreAnsweredAsAllOthers(t *testing.T) {
	f := newFake(t)
	f.hold = true
	server, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	good := f.world.record(t, "alice", "good")
	spoilt := bytes.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	stranger := f.world.record(t, "alice", "of another ledger")
	stranger = bytes.Replace(stranger, []byte(`"ledger":"`), []byte(`"ledger":"_`), 1)
	var plain int
	for _, one := range []struct {
		name   string
		body   []byte
		fail   error
		change func(*http.Request)
		long   bool // not plain by itself
		unread bool
		status int
	}{
		{name: "good", body: good, status: 200},
		{name: "bundle", body: slices.Concat(good, f.world.record(t, "bob", "b")), status: 200},
		{name: "spoilt signature", body: spoilt, status: 403},
		{name: "trailing bytes", body: append(bytes.Clone(good), 0), status: 400},
		{name: "no statement", body: []byte("hello"), status: 400},
		{name: "changed", body: stranger, status: 400},
		{name: "busy", body: good, fail: &BusyError{RetryAfter: 7 * time.Second}, status: 429},
		{name: "no leader", body: good, fail: ErrNoLeader, status: 503},
		{name: "disk full", body: good, fail: ErrDiskFull, status: 507},
		{name: "our own trouble", body: good, fail: errors.New("a bug"), status: 500},
		{name: "any answer", body: good, status: 200, change: func(r *http.Request) { r.Header.Set("Accept", "*/*") }},
		{name: "JSON", body: good, status: 200, change: func(r *http.Request) { r.Header.Set("Accept", "application/json") }},
		{name: "cut short", unread: true, body: good, status: 500, change: func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }},
		{name: "late", unread: true, body: good, status: 408, change: func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(late{})) }},
		{name: "no type", body: good, status: 415, long: true, change: func(r *http.Request) { r.Header.Del("Content-Type") }},
		{name: "wrong type", body: good, status: 415, long: true, change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		{name: "type in capitals", body: good, status: 200, long: true, change: func(r *http.Request) { r.Header.Set("Content-Type", "Application/COSE") }},
		{name: "nothing", status: 400, long: true},
		{name: "length unknown", body: good, status: 200, long: true, change: func(r *http.Request) { r.ContentLength = -1 }},
		{name: "large", body: bytes.Repeat([]byte{1}, plainBytes+1), status: 400, long: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			f.fail = one.fail
			defer func() { f.fail = nil }()
			ask := func(query string) *httptest.ResponseRecorder {
				r := httptest.NewRequest(http.MethodPost, "/v1/statements"+query, bytes.NewReader(one.body))
				r.Header.Set("Content-Type", mediaCOSE)
				if one.change != nil {
					one.change(r)
				}
				if query == "" && server.isPlain(r) == one.long {
					t.Errorf("plain: %v", !one.long)
				}
				w := httptest.NewRecorder()
				server.Handler().ServeHTTP(w, r)
				return w
			}
			if one.status == 200 {
				ask("?wait=committed") // then both are the same resubmission
			}
			long, short := ask("?wait=committed"), ask("")
			if short.Code != one.status || long.Code != short.Code {
				t.Errorf("status %d, the long way %d, want %d: %s", short.Code, long.Code, one.status, short.Body)
			}
			if one.unread { // huma's own refusals lack it
				long.Header().Set("Cache-Control", "no-store")
			}
			if !maps.EqualFunc(long.Header(), short.Header(), slices.Equal) {
				t.Errorf("headers %v, the long way %v", short.Header(), long.Header())
			}
			if long.Body.String() != short.Body.String() {
				t.Errorf("answer\n%sthe long way\n%s", short.Body, long.Body)
			}
			if !one.long {
				plain++
			}
		})
	}
	if plain < 10 {
		t.Fatalf("%d plain submissions", plain)
	}
}

type late struct{}

func (late) Error() string   { return "late" }
func (late) Timeout() bool   { return true }
func (late) Temporary() bool { return true }

// Plain submissions pass the same bounds, and are counted like the others.
func TestPlainSubmissionsAreBoundedAndCounted(t *testing.T) {
	f := newFake(t)
	f.block = make(chan struct{})
	registry := prometheus.NewRegistry()
	server, err := New(f, Config{Limits: Limits{Writes: 1}, Registerer: registry, Gatherer: registry})
	if err != nil {
		t.Fatal(err)
	}
	good := f.world.record(t, "alice", "good")
	ask := func() int {
		r := httptest.NewRequest(http.MethodPost, "/v1/statements", bytes.NewReader(good))
		r.Header.Set("Content-Type", mediaCOSE)
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		return w.Code
	}
	first := make(chan int)
	go func() { first <- ask() }()
	for end := time.Now().Add(10 * time.Second); server.gates.writes.now() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the first takes no place")
		}
	}
	if got := ask(); got != http.StatusTooManyRequests {
		t.Errorf("the second at once: %d, want 429", got)
	}
	close(f.block)
	if got := <-first; got != http.StatusOK {
		t.Errorf("the first: %d", got)
	}
	w := httptest.NewRecorder()
	server.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	for _, status := range []int{200, 429} {
		want := fmt.Sprintf(`quorate_api_requests_total{method="POST",route="/v1/statements",status="%d"} 1`, status)
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s:\n%s", want, text)
		}
	}
}
