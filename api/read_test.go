package api

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		os.Exit(code)
	}))
}

var update = flag.Bool("update", false, "write openapi.json anew")

// TestOpenAPI compares the document with the one that is committed: a change
// of the contract must be seen. go test ./api -run OpenAPI -update writes it.
func TestOpenAPI(t *testing.T) {
	s, err := New(newFake(t), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", s.openapi, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.openapi, want) {
		t.Errorf("the API differs from openapi.json; if that is meant, run: go test ./api -run OpenAPI -update")
	}
	var document struct {
		OpenAPI    string `json:"openapi"`
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(want, &document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") {
		t.Errorf("openapi %q, want 3.1", document.OpenAPI)
	}
	for _, path := range []string{"/v1/statements", "/v1/watch", "/checkpoint", "/tile/{path}", "/v1/export", "/livez"} {
		if document.Paths[path] == nil {
			t.Errorf("openapi.json does not describe %s", path)
		}
	}
	// Every reference leads somewhere.
	for rest := string(want); ; {
		_, after, ok := strings.Cut(rest, `"#/components/schemas/`)
		if !ok {
			break
		}
		name, after, _ := strings.Cut(after, `"`)
		if document.Components.Schemas[name] == nil {
			t.Errorf("openapi.json has no schema %s", name)
		}
		rest = after
	}
}

// TestRoutesAnswer asks every GET of the document that needs no parameter.
func TestRoutesAnswer(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Required bool }
		}
	}
	if err := json.Unmarshal(do(t, "GET", ts.URL+"/openapi.json", "", nil).body, &document); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for path, methods := range document.Paths {
		op, ok := methods["get"]
		needs := false
		for _, p := range op.Parameters {
			needs = needs || p.Required
		}
		switch path {
		case "/v1/watch", "/metrics", "/v1/export": // a stream; not configured here
			continue
		}
		if !ok || needs {
			continue
		}
		asked++
		for _, method := range []string{"GET", "HEAD"} {
			if r := do(t, method, ts.URL+path, "", nil); r.status != 200 {
				t.Errorf("%s %s: %d %s", method, path, r.status, r.body)
			}
		}
	}
	if asked < 15 {
		t.Errorf("only %d routes were asked", asked)
	}
}

// TestReadsCarryTheirConsistency: certified state is behind what is applied
// until it is certified, and the headers say so.
func TestReadsCarryTheirConsistency(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	f.hold = true
	proposal := f.propose("alice", "ledger.freeze", map[string]any{"reason": "test"})
	f.submit(proposal)
	id := idOf(t, proposal).String()
	certified := do(t, "GET", ts.URL+"/v1/proposals/"+id, "", nil)
	if certified.status != 404 {
		t.Errorf("certified: %d, want 404 before it is certified", certified.status)
	}
	for _, consistency := range []string{client.Stale, client.Linearizable} {
		r := do(t, "GET", ts.URL+"/v1/proposals/"+id+"?consistency="+consistency, "", nil)
		if r.status != 200 || r.header.Get(client.HeaderCertified) != "false" || r.header.Get(client.HeaderConsistency) != consistency {
			t.Errorf("%s: %d, %v", consistency, r.status, r.header)
		}
	}
	f.mu.Lock()
	f.seal()
	size := f.certified.Size
	f.mu.Unlock()
	r := do(t, "GET", ts.URL+"/v1/proposals/"+id, "", nil)
	if r.status != 200 || r.header.Get(client.HeaderCertified) != "true" || r.header.Get(client.HeaderSize) != fmt.Sprint(size) || r.header.Get(client.HeaderSigned) == "0" {
		t.Errorf("certified: %d, %v", r.status, r.header)
	}
	var p client.Proposal
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Standing != "open" || p.Rule == nil || p.Rule.Threshold != 2 || len(p.Rule.Signed) != 1 || len(p.Rule.Missing) != 2 {
		t.Errorf("proposal %+v, rule %+v", p, p.Rule)
	}
	if p.Diff == nil || p.Diff.Code != "ok" || len(p.Diff.Words) == 0 || len(p.Diff.Changes) == 0 {
		t.Errorf("diff %+v", p.Diff)
	}
}

// TestETag: a resource that did not change gives 304, though the ledger grew.
func TestETag(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	first := do(t, "GET", ts.URL+"/v1/council", "", nil)
	etag := first.header.Get("ETag")
	f.submit(f.world.record(t, "alice", "growth"))
	q, _ := http.NewRequest("GET", ts.URL+"/v1/council", nil)
	q.Header.Set("If-None-Match", etag)
	if r := send(t, q); r.status != 304 || len(r.body) != 0 || r.header.Get("ETag") != etag {
		t.Errorf("got %d with %d bytes, ETag %q", r.status, len(r.body), r.header.Get("ETag"))
	}
}

// TestBlockingQuery: ?index=&wait= answers when the ledger grows beyond index,
// with If-None-Match only when the answer is another one, and at the latest
// after wait.
func TestBlockingQuery(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	before := do(t, "GET", ts.URL+"/v1/proposals", "", nil)
	index := before.header.Get(client.HeaderSize)

	// Asked for longer than the test may take: only growth can answer it.
	answered := make(chan reply, 1)
	go func() { answered <- do(t, "GET", ts.URL+"/v1/proposals?wait=50s&index="+index, "", nil) }()
	f.submit(f.world.record(t, "alice", "growth"))
	if r := <-answered; r.header.Get(client.HeaderSize) == index || string(r.body) != string(before.body) {
		t.Errorf("size %s after %s", r.header.Get(client.HeaderSize), index)
	}

	go func() {
		q, _ := http.NewRequest("GET", ts.URL+"/v1/proposals?wait=50s", nil)
		q.Header.Set("If-None-Match", before.header.Get("ETag"))
		answered <- send(t, q)
	}()
	f.submit(f.world.record(t, "alice", "growth that changes no proposal"))
	f.submit(f.propose("alice", "ledger.freeze", map[string]any{"reason": "test"}))
	if r := <-answered; r.status != 200 || string(r.body) == string(before.body) {
		t.Errorf("%d, %s", r.status, r.body)
	}

	if r := do(t, "GET", ts.URL+"/v1/council?wait=1ms&index=99999", "", nil); r.status != 200 {
		t.Errorf("after wait: %d", r.status)
	}
	now := do(t, "GET", ts.URL+"/v1/council", "", nil)
	q, _ := http.NewRequest("GET", ts.URL+"/v1/council?wait=1ms", nil)
	q.Header.Set("If-None-Match", now.header.Get("ETag"))
	if r := send(t, q); r.status != 304 {
		t.Errorf("after wait, unchanged: %d", r.status)
	}
}

// TestPages walks lists by their cursors: each item once, in order.
func TestPages(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	want := map[string]bool{}
	for i := range 7 {
		p := f.propose("alice", "ledger.freeze", map[string]any{"reason": fmt.Sprint("test ", i)})
		f.submit(p)
		want[idOf(t, p).String()] = true
	}
	got, last, cursor := 0, "", ""
	for page := 0; ; page++ {
		if page > 5 {
			t.Fatal("too many pages")
		}
		r := do(t, "GET", ts.URL+"/v1/proposals?standing=open&limit=3&cursor="+cursor, "", nil)
		var list client.Proposals
		if err := json.Unmarshal(r.body, &list); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		for _, p := range list.Proposals {
			if !want[p.ID] || p.ID <= last {
				t.Errorf("%s after %s", p.ID, last)
			}
			got, last = got+1, p.ID
		}
		if cursor = list.Next; cursor == "" {
			break
		}
	}
	if got != len(want) {
		t.Errorf("%d proposals in the pages, want %d", got, len(want))
	}
	if r := do(t, "GET", ts.URL+"/v1/nodes?cursor="+encodeCursor("joins", strings.Repeat("0", 64)), "", nil); r.status != 422 {
		t.Errorf("another list's cursor: %d", r.status)
	}

	// Entries, with and without a filter.
	for _, filter := range []string{"", "&kinds=statement", "&types=propose"} {
		seen := 0
		for from := uint64(0); ; {
			r := do(t, "GET", fmt.Sprintf("%s/v1/entries?from=%d&limit=4%s", ts.URL, from, filter), "", nil)
			var page client.Entries
			if err := json.Unmarshal(r.body, &page); err != nil {
				t.Fatalf("%v: %s", err, r.body)
			}
			seen += len(page.Entries)
			if page.Next == nil {
				break
			}
			if *page.Next <= from {
				t.Fatalf("next %d after %d", *page.Next, from)
			}
			from = *page.Next
		}
		total := int(f.archive.Size())
		if filter != "" {
			total = 7
		}
		if seen != total {
			t.Errorf("%q: %d entries, want %d", filter, seen, total)
		}
	}
}

// TestLogServesOnlyWhatIsCertified walks every tile path around the certified
// size.
func TestLogServesOnlyWhatIsCertified(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	_, certified := f.Checkpoint()
	f.hold = true
	for i := range 5 {
		f.submit(f.world.record(t, "alice", fmt.Sprint("uncertified ", i)))
	}
	if f.archive.Size() <= certified {
		t.Fatal("nothing is uncertified")
	}
	for width := 1; width < int(f.archive.Size())+2; width++ {
		for _, path := range []string{archive.TilePath(0, 0, width), archive.BundlePath(0, width)} {
			want := 200
			if uint64(width) > certified {
				want = 404
			}
			r := do(t, "GET", ts.URL+"/"+path, "", nil)
			if r.status != want {
				t.Errorf("%s: %d, want %d at certified size %d", path, r.status, want, certified)
			}
			if r.status == 200 && (r.header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(r.header.Get("Cache-Control"), "immutable")) {
				t.Errorf("%s: %v", path, r.header)
			}
		}
	}
	if r := do(t, "GET", ts.URL+"/v1/entries/"+fmt.Sprint(certified), "", nil); r.status != 404 {
		t.Errorf("an uncertified entry: %d", r.status)
	}
	if r := do(t, "GET", ts.URL+"/v1/entries/"+fmt.Sprint(certified)+"?consistency=stale", "", nil); r.status != 200 {
		t.Errorf("an uncertified entry, stale: %d", r.status)
	}
	for _, query := range []string{"inclusion?seq=0&size=%d", "consistency?from=1&to=%d"} {
		for size, want := range map[uint64]int{certified: 200, certified + 1: 404} {
			if r := do(t, "GET", ts.URL+"/v1/proofs/"+fmt.Sprintf(query, size), "", nil); r.status != want {
				t.Errorf("a proof of %s at size %d: %d, want %d at certified size %d", query, size, r.status, want, certified)
			}
		}
	}
	r := do(t, "GET", ts.URL+"/checkpoint", "", nil)
	if r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("checkpoint: %v", r.header)
	}
	if c, err := ledger.ParseCheckpoint(r.body); err != nil || c.Head.Size != certified {
		t.Errorf("checkpoint: %v, %+v", err, c)
	}
}

func TestCovered(t *testing.T) {
	for _, row := range []struct {
		size  uint64
		level int
		n     uint64
		width int
		want  bool
	}{
		{0, 0, 0, 1, false}, {1, 0, 0, 1, true}, {255, 0, 0, 256, false}, {256, 0, 0, 256, true},
		{256, 1, 0, 1, true}, {255, 1, 0, 1, false}, {256, 1, 0, 2, false}, {257, 0, 1, 1, true}, {257, 0, 1, 2, false},
		{65535, 1, 0, 256, false}, {65536, 1, 0, 256, true}, {65536, 2, 0, 1, true}, {65536, -1, 255, 256, true},
		{65536, -1, 256, 1, false}, {1 << 40, 63, 0, 1, false}, {1 << 53, 0, 1<<64 - 1, 256, false}, {1 << 53, 8, 0, 1, false},
	} {
		if got := covered(row.size, row.level, row.n, row.width); got != row.want {
			t.Errorf("covered(%d, %d, %d, %d) = %v", row.size, row.level, row.n, row.width, got)
		}
	}
}

// TestExportStreams: an error after the first byte cuts the stream, one before
// it is a problem.
func TestExportStreams(t *testing.T) {
	f := newFake(t)
	for _, row := range []struct {
		export func(context.Context, io.Writer) error
		want   string
	}{
		{func(_ context.Context, w io.Writer) error { _, err := w.Write([]byte("archive")); return err }, "200 archive"},
		{func(_ context.Context, w io.Writer) error { return ErrNotReady }, "503"},
		{func(_ context.Context, w io.Writer) error { w.Write([]byte("arc")); return io.ErrUnexpectedEOF }, "cut"},
	} {
		ts := newServer(t, f, Config{Export: row.export})
		answer, err := http.Get(ts.URL + "/v1/export")
		got := "cut"
		if err == nil {
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			switch {
			case answer.StatusCode != 200:
				got = fmt.Sprint(answer.StatusCode)
			case err == nil:
				got = "200 " + string(body)
			}
		}
		if got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
}

// TestDecisionsAndEpochs read what was decided.
func TestDecisionsAndEpochs(t *testing.T) {
	f := newFake(t, func(g *ledger.Genesis) { g.Policy.EpochMillis = 10_000 })
	ts := newServer(t, f, Config{})
	p := f.propose("alice", "operator.add", map[string]any{"name": "dawn"})
	f.submit(p, f.world.ballot(t, "bob", ledger.TypeApprove, p))
	var list client.Proposals
	if err := json.Unmarshal(do(t, "GET", ts.URL+"/v1/decisions", "", nil).body, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Proposals) != 1 || list.Proposals[0].Standing != "executed" || list.Proposals[0].ID != idOf(t, p).String() {
		t.Errorf("decisions %+v", list.Proposals)
	}
	var epochs client.Epochs
	if err := json.Unmarshal(do(t, "GET", ts.URL+"/v1/epochs", "", nil).body, &epochs); err != nil {
		t.Fatal(err)
	}
	var current client.Epoch
	if err := json.Unmarshal(do(t, "GET", ts.URL+"/v1/epochs/current", "", nil).body, &current); err != nil {
		t.Fatal(err)
	}
	if len(epochs.Epochs) == 0 || epochs.Epochs[0].Epoch != current.Epoch || current.Next <= uint64(time.Now().UnixMilli())-10_000 {
		t.Errorf("epochs %+v, current %+v", epochs.Epochs, current)
	}
}
