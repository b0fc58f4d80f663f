package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

func newServer(t *testing.T, b Backend, config Config) *httptest.Server {
	t.Helper()
	s, err := New(b, config)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s.Handler())
	t.Cleanup(ts.Close)
	return ts
}

type reply struct {
	status  int
	header  http.Header
	body    []byte
	problem client.Problem
}

func do(t *testing.T, method, url, media string, body []byte) reply {
	t.Helper()
	q, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if media != "" {
		q.Header.Set("Content-Type", media)
	}
	return send(t, q)
}

func send(t *testing.T, q *http.Request) reply {
	t.Helper()
	answer, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	r := reply{status: answer.StatusCode, header: answer.Header}
	if r.body, err = io.ReadAll(answer.Body); err != nil {
		t.Fatal(err)
	}
	if r.status >= 400 {
		if got := answer.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: status %d with Content-Type %q, want a problem document", q.Method, q.URL.Path, r.status, got)
		}
		if err := json.Unmarshal(r.body, &r.problem); err != nil {
			t.Errorf("%s %s: problem: %v: %s", q.Method, q.URL.Path, err, r.body)
		}
		if r.problem.Status != r.status || r.problem.Code == "" || r.problem.Title == "" || r.problem.Detail == "" {
			t.Errorf("%s %s: an incomplete problem: %s", q.Method, q.URL.Path, r.body)
		}
	}
	return r
}

// swap replaces old by new in the payload and signs anew, so that only the
// payload's form is wrong.
func swap(t *testing.T, k *keys.PrivateKey, envelope []byte, old, new string) []byte {
	t.Helper()
	e, err := keys.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(e.Payload), old) {
		t.Fatalf("payload %s has no %q", e.Payload, old)
	}
	return keys.SignEnvelope(k, e.Type, []byte(strings.Replace(string(e.Payload), old, new, 1)))
}

// TestBadInput is the table "Bad input, and what it gets": each row in its
// variants. Nothing of it is on the ledger afterwards.
func TestBadInput(t *testing.T) {
	f := newFake(t)
	w := f.world
	ts := newServer(t, f, Config{Limits: Limits{BodyBytes: 200 << 10}})

	alice := w.governors["alice"]
	good := w.record(t, "alice", "a note")
	withdrawn := f.propose("alice", "ledger.freeze", map[string]any{"reason": "test"})
	f.submit(withdrawn)
	f.submit(w.ballot(t, "alice", ledger.TypeWithdraw, withdrawn))
	open := f.propose("alice", "policy.change", map[string]any{"policy": changedPolicy()})
	f.submit(open)
	replayed := w.record(t, "bob", "first")
	f.submit(replayed)
	reuse := w.payload("bob", ledger.TypeRecord)

	head, tail := splitEnvelope(t, good)
	unprotected := slices.Concat(head, []byte{0xa1, 0x04, 0x41, 0x00}, tail)
	wrongAlg := bytes.Replace(slices.Clone(good), []byte{0x01, 0x38, 0x30}, []byte{0x01, 0x38, 0x31}, 1)
	badSignature := slices.Clone(good)
	badSignature[len(badSignature)-1] ^= 1
	foreign := w.payload("alice", ledger.TypeRecord)
	foreign.Ledger[0] ^= 1
	generation := w.payload("alice", ledger.TypeRecord)
	generation.Generation = 7
	expired := w.payload("alice", ledger.TypeRecord)
	expired.Expires = uint64(time.Now().Add(-time.Hour).UnixMilli())
	stranger := w.payload("mallory", ledger.TypeRecord)

	for _, row := range []struct {
		name   string
		body   []byte
		media  string
		path   string // "" for /v1/statements
		status int
		code   string
		field  string // what path names; "" for any
	}{
		{name: "empty body", body: nil, status: 400, code: "bad_request"},
		{name: "not COSE", body: []byte("hello"), status: 400, code: "not_cose"},
		{name: "JSON", body: []byte(`{"a":1}`), status: 400, code: "not_cose"},
		{name: "another media type", body: good, media: "application/json", status: 415, code: "unsupported_media"},
		{name: "no media type", body: good, media: "-", status: 415, code: "unsupported_media"},
		{name: "wrong alg", body: wrongAlg, status: 400, code: "wrong_alg"},
		{name: "wrong typ", body: keys.SignEnvelope(alice, "quorate/veto.v1", payloadOf(t, good)), status: 400, code: "wrong_typ"},
		{name: "unknown typ", body: swap(t, alice, good, `"type":"record"`, `"type":"rekord"`), status: 400, code: "wrong_typ"},
		{name: "unprotected header", body: unprotected, status: 400, code: "unprotected_header"},
		{name: "trailing bytes", body: append(slices.Clone(good), 0), status: 400, code: "trailing_bytes"},
		{name: "trailing garbage after a bundle", body: append(append(slices.Clone(good), good...), 1, 2, 3), status: 400, code: "trailing_bytes"},
		{name: "payload too large", body: oversized(t, good), status: 413, code: "too_large"},
		{name: "body too large", body: bytes.Repeat(good, 60), status: 413, code: "too_large"},

		{name: "not canonical: white space", body: swap(t, alice, good, `{"author":`, `{ "author":`), status: 422, code: "not_canonical"},
		{name: "not canonical: unsorted", body: swap(t, alice, good, `"body":{"text":"a note"}`, `"body":{"text":"a note","name":"n"}`), status: 422, code: "not_canonical", field: "body.name"},
		{name: "unknown field", body: swap(t, alice, good, `"body":{`, `"body":{"colour":"red",`), status: 422, code: "unknown_field", field: "body.colour"},
		{name: "duplicate field", body: swap(t, alice, good, `"text":"a note"`, `"text":"a note","text":"b"`), status: 422, code: "duplicate_field", field: "body.text"},
		{name: "float", body: swap(t, alice, good, `"generation":0`, `"generation":0.5`), status: 422, code: "float", field: "generation"},
		{name: "null", body: swap(t, alice, good, `"text":"a note"`, `"text":null`), status: 422, code: "null", field: "body.text"},
		{name: "number over 2^53-1", body: swap(t, alice, good, `"generation":0`, `"generation":9007199254740992`), status: 422, code: "number_range", field: "generation"},
		{name: "in a bundle", body: append(slices.Clone(good), swap(t, alice, good, `"generation":0`, `"generation":0.5`)...), status: 422, code: "float", field: "statements[1].generation"},

		{name: "unknown author", body: w.sayAs(t, seeded("mallory"), stranger, ledger.Record{Text: "x"}), status: 403, code: "unknown_author"},
		{name: "another's key", body: w.sayAs(t, seeded("mallory"), w.payload("alice", ledger.TypeRecord), ledger.Record{Text: "x"}), status: 403, code: "wrong_key"},
		{name: "wrong role", body: w.sayAs(t, w.replicas["r1"], w.payload("r1", ledger.TypePropose), ledger.Propose{Action: "ledger.freeze", Args: []byte(`{"reason":"x"}`), Base: map[string]uint64{"freeze": 0}}), status: 403, code: "wrong_role"},
		{name: "bad signature", body: badSignature, status: 403, code: "bad_signature"},

		{name: "replay under the same nonce", body: w.sayAs(t, w.governors["bob"], withNonce(reuse, replayed, t), ledger.Record{Text: "second"}), status: 409, code: "nonce_used"},
		{name: "other ledger", body: w.sayAs(t, alice, foreign, ledger.Record{Text: "x"}), status: 409, code: "wrong_ledger"},
		{name: "other generation", body: w.sayAs(t, alice, generation, ledger.Record{Text: "x"}), status: 409, code: "wrong_generation"},
		{name: "expired", body: w.sayAs(t, alice, expired, ledger.Record{Text: "x"}), status: 422, code: "expired"},

		{name: "approval of a closed proposal", body: w.ballot(t, "bob", ledger.TypeApprove, withdrawn), status: 409, code: "proposal_closed"},
		{name: "second approval by the same operator", body: w.ballot(t, "alice", ledger.TypeApprove, open), status: 409, code: "already_voted"},
		{name: "the second of a bundle", body: slices.Concat(good, w.ballot(t, "bob", ledger.TypeApprove, withdrawn)), status: 409, code: "proposal_closed", field: "statements[1].body.proposal"},
		{name: "approval of an unknown proposal", body: w.ballot(t, "bob", ledger.TypeApprove, good), status: 404, code: "unknown_proposal"},

		{name: "a record to the route for proposals", body: good, path: "/v1/proposals", status: 422, code: "wrong_statement", field: "statements[0]"},
		{name: "a record to the route for votes", body: good, path: "/v1/proposals/" + idOf(t, open).String() + "/approvals", status: 422, code: "wrong_statement"},
		{name: "a vote on another proposal", body: w.ballot(t, "bob", ledger.TypeApprove, withdrawn), path: "/v1/proposals/" + idOf(t, open).String() + "/approvals", status: 422, code: "wrong_statement"},
		{name: "a proposal id that is none", body: good, path: "/v1/proposals/xyz/approvals", status: 422, code: "bad_parameter", field: "path.id"},
		{name: "an unknown wait", body: good, path: "/v1/statements?wait=forever", status: 422, code: "bad_parameter", field: "query.wait"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := f.archive.Size()
			path, media := row.path, row.media
			if path == "" {
				path = "/v1/statements"
			}
			if media == "" {
				media = "application/cose"
			}
			if media == "-" {
				media = ""
			}
			r := do(t, "POST", ts.URL+path, media, row.body)
			if r.status != row.status || r.problem.Code != row.code {
				t.Errorf("got %d %s, want %d %s: %s", r.status, r.problem.Code, row.status, row.code, r.body)
			}
			if row.field != "" && r.problem.Path != row.field {
				t.Errorf("path %q, want %q: %s", r.problem.Path, row.field, r.body)
			}
			if after := f.archive.Size(); after != before {
				t.Errorf("the ledger grew from %d to %d", before, after)
			}
		})
	}
}

// splitEnvelope gives what stands before and after the empty unprotected
// header.
func splitEnvelope(t *testing.T, envelope []byte) (head, tail []byte) {
	t.Helper()
	payload := payloadOf(t, envelope)
	i := bytes.Index(envelope, payload)
	for envelope[i] != 0xa0 {
		i--
	}
	return envelope[:i], envelope[i+1:]
}

// oversized is an envelope whose payload is one byte too long.
func oversized(t *testing.T, envelope []byte) []byte {
	t.Helper()
	head, _ := splitEnvelope(t, envelope)
	size := keys.MaxPayload + 1
	signature := envelope[len(envelope)-keys.SignatureSize-3:]
	return slices.Concat(head, []byte{0xa0, 0x59, byte(size >> 8), byte(size)}, bytes.Repeat([]byte("1"), size), signature)
}

func payloadOf(t *testing.T, envelope []byte) []byte {
	t.Helper()
	e, err := keys.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return e.Payload
}

func withNonce(p ledger.Payload, other []byte, t *testing.T) ledger.Payload {
	t.Helper()
	st, err := ledger.ParseStatement(other)
	if err != nil {
		t.Fatal(err)
	}
	p.Nonce = st.Payload.Nonce
	return p
}

func changedPolicy() ledger.Policy {
	p := ledger.DefaultPolicy(3)
	p.Quota = 1000
	return p
}

// TestResubmission: an identical resubmission gets the first result.
func TestResubmission(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	body := f.world.record(t, "alice", "once")
	var answers [2]client.SubmitAnswer
	for i := range answers {
		r := do(t, "POST", ts.URL+"/v1/statements?wait=certified", "application/cose", body)
		if r.status != 200 {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
		if err := json.Unmarshal(r.body, &answers[i]); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.hold = true
		f.mu.Unlock()
	}
	first, second := answers[0].Statements[0], answers[1].Statements[0]
	if first.Duplicate || !second.Duplicate || first.Seq != second.Seq || first.ID != second.ID {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if answers[0].Level != "certified" || answers[0].Checkpoint <= first.Seq {
		t.Errorf("level %s at %d, want certified above %d", answers[0].Level, answers[0].Checkpoint, first.Seq)
	}
}

// TestBackendFailures are the rows about the replica's own troubles.
func TestBackendFailures(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	body := f.world.record(t, "alice", "x")
	for _, row := range []struct {
		fail   error
		status int
		code   string
		retry  bool
	}{
		{ErrNoLeader, 503, "no_leader", true},
		{fmt.Errorf("submit: %w", ErrNoLeader), 503, "no_leader", true},
		{ErrNotLeader, 409, "not_leader", false},
		{ErrUnknownOutcome, 503, "unknown_outcome", true},
		{ErrStopped, 503, "stopping", true},
		{ErrHalted, 503, "halted", true},
		{ErrNotReady, 503, "not_ready", true},
		{&BusyError{RetryAfter: 3 * time.Second}, 429, "busy", true},
		{ErrDiskFull, 507, "disk_full", true},
		{fmt.Errorf("append: %w", archive.ErrFailed), 507, "disk_full", true},
		{&archive.DamageError{File: "tile/0/000", Offset: 64, Reason: "x"}, 500, "damaged", false},
		{&archive.GapError{From: 3, To: 9}, 503, "gap", true},
		{fmt.Errorf("secret detail"), 500, "internal", false},
	} {
		t.Run(row.code, func(t *testing.T) {
			f.mu.Lock()
			f.fail = row.fail
			f.mu.Unlock()
			r := do(t, "POST", ts.URL+"/v1/statements", "application/cose", body)
			if r.status != row.status || r.problem.Code != row.code {
				t.Errorf("got %d %s, want %d %s", r.status, r.problem.Code, row.status, row.code)
			}
			if (r.header.Get("Retry-After") != "") != row.retry {
				t.Errorf("Retry-After %q, want one: %v", r.header.Get("Retry-After"), row.retry)
			}
			if strings.Contains(string(r.body), "secret") {
				t.Errorf("the answer tells the internal error: %s", r.body)
			}
			// Reads go on, whatever happens to writes.
			if r := do(t, "GET", ts.URL+"/v1/council", "", nil); r.status != 200 {
				t.Errorf("a read gave %d", r.status)
			}
		})
	}
	if row := do(t, "POST", ts.URL+"/v1/statements", "application/cose", body); row.problem.Detail == "secret detail" {
		t.Error("the answer tells the internal error")
	}
}

// TestDamageIsNotServed: a byte flipped on the disk gives the file and offset.
func TestDamageIsNotServed(t *testing.T) {
	p := problemOf(fmt.Errorf("read: %w", &archive.DamageError{File: "tile/entries/000", Offset: 77, Reason: "x"}), time.Second)
	if p.Code != "damaged" || p.Path != "tile/entries/000" || !strings.Contains(p.Detail, "offset 77") {
		t.Errorf("got %+v", p)
	}
}

// TestTooManyRequests: both bounds answer 429 before the body is looked at.
func TestTooManyRequests(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{Limits: Limits{RatePerSecond: 0.001, RateBurst: 3}})
	for i := range 5 {
		r := do(t, "POST", ts.URL+"/v1/statements", "application/cose", []byte("not even COSE"))
		if want := 400; i < 3 && r.status != want {
			t.Errorf("request %d: %d, want %d", i, r.status, want)
		}
		if i >= 3 && (r.status != 429 || r.problem.Code != "rate_limited" || r.header.Get("Retry-After") == "") {
			t.Errorf("request %d: %d %s, Retry-After %q", i, r.status, r.problem.Code, r.header.Get("Retry-After"))
		}
	}
	if r := do(t, "GET", ts.URL+"/livez", "", nil); r.status != 200 {
		t.Errorf("livez: %d while the address is over its rate", r.status)
	}
}

func TestQueueFull(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{Limits: Limits{Writes: 1}})
	block := make(chan struct{})
	f.mu.Lock()
	f.block = block
	f.mu.Unlock()
	first := make(chan reply, 1)
	body := f.world.record(t, "alice", "x")
	go func() { first <- do(t, "POST", ts.URL+"/v1/statements", "application/cose", body) }()
	waitUntil(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.seen == 1 })
	r := do(t, "POST", ts.URL+"/v1/statements", "application/cose", body)
	if r.status != 429 || r.problem.Code != "busy" || r.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s", r.status, r.problem.Code)
	}
	if r := do(t, "GET", ts.URL+"/v1/council", "", nil); r.status != 200 {
		t.Errorf("a read gave %d while writes are full", r.status)
	}
	close(block)
	if r := <-first; r.status != 200 {
		t.Errorf("the first submission gave %d: %s", r.status, r.body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen != 1 {
		t.Errorf("%d submissions reached the ledger, want 1", f.seen)
	}
}

// waitUntil awaits a condition that another goroutine brings about.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("not in 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestUnknownRoutes(t *testing.T) {
	ts := newServer(t, newFake(t), Config{})
	for _, row := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/", 404, "not_found"},
		{"GET", "/v2/council", 404, "not_found"},
		{"POST", "/v1/council", 405, "method_not_allowed"},
		{"DELETE", "/v1/nodes/x", 405, "method_not_allowed"},
		{"GET", "/v1/nodes/nobody", 404, "not_found"},
		{"GET", "/v1/proposals/" + strings.Repeat("0", 64), 404, "not_found"},
		{"GET", "/v1/proposals/abc", 422, "bad_parameter"},
		{"GET", "/v1/keys/" + strings.Repeat("0", 64), 404, "not_found"},
		{"GET", "/v1/entries/999", 404, "not_found"},
		{"GET", "/v1/entries/-1", 422, "bad_parameter"},
		{"GET", "/v1/entries?limit=100000", 422, "bad_parameter"},
		{"GET", "/v1/entries?kinds=poem", 422, "bad_parameter"},
		{"GET", "/v1/entries?types=ballad", 422, "bad_parameter"},
		{"GET", "/v1/watch?types=record,ballad", 422, "bad_parameter"},
		{"GET", "/v1/nodes?cursor=%21", 422, "bad_parameter"},
		{"GET", "/v1/council?consistency=maybe", 422, "bad_parameter"},
		{"GET", "/v1/council?index=0&wait=soon", 422, "bad_parameter"},
		{"GET", "/v1/proofs/inclusion?seq=0&size=999", 404, "not_found"},
		{"GET", "/v1/proofs/inclusion", 422, "bad_parameter"},
		{"GET", "/v1/proofs/consistency?from=0", 422, "bad_parameter"},
		{"GET", "/v1/proofs/state?key=policy&consistency=stale", 422, "bad_parameter"},
		{"GET", "/v1/base?action=unheard.of", 422, "bad_parameter"},
		{"GET", "/v1/watch?from=x", 422, "bad_parameter"},
		{"GET", "/tile/0/001", 404, "not_found"},
		{"GET", "/tile/0/000", 404, "not_found"},
		{"GET", "/tile/0/zzz", 404, "not_found"},
		{"GET", "/authority/1", 404, "not_found"},
		{"GET", "/authority/01", 404, "not_found"},
		{"GET", "/v1/export", 404, "not_found"},
		{"POST", "/v1/simulate", 415, "unsupported_media"},
	} {
		var body []byte
		if row.method == "POST" {
			body = []byte("x")
		}
		r := do(t, row.method, ts.URL+row.path, "", body)
		if r.status != row.status || r.problem.Code != row.code {
			t.Errorf("%s %s: %d %s, want %d %s: %s", row.method, row.path, r.status, r.problem.Code, row.status, row.code, r.body)
		}
	}
}
