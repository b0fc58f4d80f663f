package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roundTrips is a network in memory: a function by host.
type roundTrips map[string]func(q *http.Request) (int, http.Header, string)

func (r roundTrips) RoundTrip(q *http.Request) (*http.Response, error) {
	f := r[q.URL.Host]
	if f == nil {
		return nil, errors.New("connection refused")
	}
	status, header, body := f(q)
	rec := httptest.NewRecorder()
	for k, v := range header {
		rec.Header()[k] = v
	}
	rec.WriteHeader(status)
	rec.WriteString(body)
	return rec.Result(), nil
}

func testClient(t *testing.T, net roundTrips, servers ...string) *Client {
	t.Helper()
	c, err := New(Options{Servers: servers, HTTPClient: &http.Client{Transport: net}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answering(status int, code, retry string) func(*http.Request) (int, http.Header, string) {
	return func(*http.Request) (int, http.Header, string) {
		h := http.Header{"Content-Type": {"application/problem+json"}}
		if retry != "" {
			h.Set("Retry-After", retry)
		}
		return status, h, `{"code":"` + code + `","detail":"d"}`
	}
}

// TestFailOver: what another server may answer better is asked of it, what it
// can't is not.
func TestFailOver(t *testing.T) {
	good := func(*http.Request) (int, http.Header, string) { return 200, nil, `{"governors":[]}` }
	for _, row := range []struct {
		name   string
		first  func(*http.Request) (int, http.Header, string)
		code   string // of the problem; "" when the second server answers
		second int32  // requests that it got
	}{
		{"dead", nil, "", 1},
		{"no leader", answering(503, "no_leader", "1"), "", 1},
		{"busy", answering(429, "busy", "1"), "", 1},
		{"its disk is full", answering(507, "disk_full", "1"), "", 1},
		{"its disk is damaged", answering(500, "damaged", ""), "", 1},
		{"a rule's limit", answering(429, "too_many_nonces", ""), "too_many_nonces", 0},
		{"forbidden", answering(403, "bad_signature", ""), "bad_signature", 0},
		{"not found", answering(404, "not_found", ""), "not_found", 0},
		{"moved", func(*http.Request) (int, http.Header, string) {
			return 302, http.Header{"Location": {"http://elsewhere/"}}, ""
		}, "http_302", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			var second atomic.Int32
			c := testClient(t, roundTrips{"a": row.first, "b": func(q *http.Request) (int, http.Header, string) {
				second.Add(1)
				return good(q)
			}, "elsewhere": good}, "http://a", "http://b")
			if row.first == nil {
				delete(c.http.Transport.(roundTrips), "a")
			}
			_, err := c.Council(context.Background(), Read{})
			var p *Problem
			if row.code == "" && err != nil || row.code != "" && (!errors.As(err, &p) || p.Code != row.code) {
				t.Errorf("got %v, want %q", err, row.code)
			}
			if second.Load() != row.second {
				t.Errorf("the second server got %d requests, want %d", second.Load(), row.second)
			}
			// The one that answered is asked first from now on.
			if row.code == "" {
				if _, err := c.Council(context.Background(), Read{}); err != nil || second.Load() != row.second+1 {
					t.Errorf("again: %v, %d requests", err, second.Load())
				}
			}
		})
	}
}

// TestRetriesWait: a client waits longer from round to round, heeds
// Retry-After, and gives up, in virtual time.
func TestRetriesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := testClient(t, roundTrips{"a": func(q *http.Request) (int, http.Header, string) {
			at = append(at, time.Now())
			return answering(503, "unknown_outcome", "1")(q)
		}}, "http://a")
		_, err := c.Submit(context.Background(), [][]byte{{1}}, WaitCommitted)
		var p *Problem
		if !errors.As(err, &p) || p.Code != "unknown_outcome" || p.RetryAfter != time.Second {
			t.Errorf("got %v", err)
		}
		if len(at) != attemptsPerCall {
			t.Errorf("%d tries, want %d", len(at), attemptsPerCall)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < time.Second || gap > retryMost*3/2 {
				t.Errorf("try %d came %s after the one before", i, gap)
			}
		}
	})
}

// TestSubmitResendsIdenticalBytes: over all tries, byte for byte.
func TestSubmitResendsIdenticalBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		tries := 0
		c := testClient(t, roundTrips{"a": func(q *http.Request) (int, http.Header, string) {
			var b strings.Builder
			if _, err := copyAll(&b, q); err != nil {
				t.Error(err)
			}
			bodies = append(bodies, b.String())
			if tries++; tries < 3 {
				return answering(503, "unknown_outcome", "1")(q)
			}
			if q.URL.Query().Get("wait") != "committed" || q.Header.Get("Content-Type") != "application/cose" {
				t.Errorf("asked %s of type %s", q.URL, q.Header.Get("Content-Type"))
			}
			return 200, nil, `{"level":"committed","statements":[{"seq":5,"verdict":"ok"},{"seq":6,"verdict":"ok"}]}`
		}}, "http://a")
		answer, err := c.Submit(context.Background(), [][]byte{[]byte("one"), []byte("two")}, "")
		if err != nil || answer.Statements[1].Seq != 6 || answer.Verified {
			t.Errorf("got %+v, %v", answer, err)
		}
		for _, b := range bodies {
			if b != "onetwo" {
				t.Errorf("sent %q", b)
			}
		}
	})
}

func copyAll(b *strings.Builder, q *http.Request) (int64, error) {
	buf := make([]byte, 1<<16)
	var n int64
	for {
		m, err := q.Body.Read(buf)
		b.Write(buf[:m])
		n += int64(m)
		if err != nil {
			if err.Error() == "EOF" {
				err = nil
			}
			return n, err
		}
	}
}

// TestWatchNoticesSilence: a server that sends nothing, not even heartbeats,
// is left for another.
func TestWatchNoticesSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		ctx, cancel := context.WithCancel(context.Background())
		c, err := New(Options{Servers: []string{"http://silent", "http://b"}, HTTPClient: &http.Client{Transport: transportFunc(func(q *http.Request) (*http.Response, error) {
			asked[q.URL.Host]++
			if asked["b"] > 0 {
				cancel()
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: &silentBody{ctx: q.Context()}, Request: q}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := c.Watch(ctx, WatchOptions{}, func(*Entry) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if asked["silent"] != 1 || asked["b"] != 1 {
			t.Errorf("asked %v", asked)
		}
		if took := time.Since(begin); took < watchSilence || took > watchSilence+retryMost {
			t.Errorf("left after %s", took)
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// silentBody never says anything, until its request ends.
type silentBody struct{ ctx context.Context }

func (s *silentBody) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s *silentBody) Close() error { return nil }

// TestAnswersAreBounded: a server can't make the client hold more than it may.
func TestAnswersAreBounded(t *testing.T) {
	c := testClient(t, roundTrips{"a": func(*http.Request) (int, http.Header, string) {
		return 200, nil, strings.Repeat("x", ledger.MaxCheckpointBytes+1)
	}}, "http://a")
	if _, err := c.do(context.Background(), "http://a", call{method: "GET", path: "/checkpoint", limit: ledger.MaxCheckpointBytes}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestServersAreChecked(t *testing.T) {
	for _, bad := range [][]string{nil, {""}, {"r1:7443"}, {"ftp://r1"}, {"http://r1?x=y"}, {"http://user@r1"}, make([]string, maxServers+1)} {
		if _, err := New(Options{Servers: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	c, err := New(Options{Servers: []string{"https://r1:7443/", " http://127.0.0.1:80"}})
	if err != nil || c.Servers()[0] != "https://r1:7443" || c.Servers()[1] != "http://127.0.0.1:80" {
		t.Errorf("got %v, %v", c, err)
	}
}

// TestNothingIsVerifiedWithoutGenesis: no genesis hash, no trust.
func TestNothingIsVerifiedWithoutGenesis(t *testing.T) {
	c := testClient(t, roundTrips{}, "http://a")
	ctx := context.Background()
	_, sync := c.Sync(ctx)
	_, entry := c.Entry(ctx, 0)
	_, entries := c.Entries(ctx, 0, 1)
	_, record := c.Record(ctx, "policy")
	for _, err := range []error{sync, entry, entries, record} {
		if !errors.Is(err, ErrNoGenesis) {
			t.Errorf("got %v", err)
		}
	}
}

// TestReplaceFile: the file is whole, and nothing is left beside it.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"one", "two, longer"} {
		if err := replaceFile(dir+"/head", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(dir + "/head"); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if err := replaceFile(dir+"/none/head", nil); err == nil {
		t.Error("wrote into a folder that is not")
	}
}

// sealAt is an entry that follows prev.
func sealAt(t *testing.T, seq uint64, prev ledger.Hash) []byte {
	t.Helper()
	content, err := canon.Marshal(ledger.Seal{Reason: ledger.SealRoutine})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := (&ledger.Entry{Seq: seq, Prev: prev, Kind: ledger.KindSeal, Content: content}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestWatchRefusesForeignEntries: without a filter, an entry that does not
// follow the one before is not given to the caller, whoever sends it.
func TestWatchRefusesForeignEntries(t *testing.T) {
	zero := sealAt(t, 0, ledger.Hash{})
	one := sealAt(t, 1, ledger.LeafHash(zero))
	event := func(id int, raw []byte) string {
		data, err := json.Marshal(Entry{Entry: raw})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("id: %d\nevent: entry\ndata: %s\n\n", id, data)
	}
	for name, bad := range map[string]string{
		"another chain":  event(2, sealAt(t, 1, ledger.Hash{1})),
		"a gap":          event(3, sealAt(t, 2, ledger.LeafHash(one))),
		"another id":     event(5, one),
		"the same again": event(1, zero),
		"no entry":       event(2, []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				liar := func(*http.Request) (int, http.Header, string) { return 200, nil, event(1, zero) + bad }
				honest := func(q *http.Request) (int, http.Header, string) {
					if q.URL.Query().Get("from") != "1" {
						t.Errorf("resumed with %s", q.URL.RawQuery)
					}
					return 200, nil, event(2, one)
				}
				c := testClient(t, roundTrips{"liar": liar, "honest": honest}, "http://liar", "http://honest")
				var got []string
				enough := errors.New("enough")
				err := c.Watch(context.Background(), WatchOptions{}, func(e *Entry) error {
					if got = append(got, e.Hash); len(got) == 2 {
						return enough
					}
					return nil
				})
				if !errors.Is(err, enough) || got[1] != ledger.LeafHash(one).String() {
					t.Errorf("got %v, %v", got, err)
				}
			})
		})
	}
}
