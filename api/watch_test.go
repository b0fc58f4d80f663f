package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// lines gives the lines of a watch one at a time.
func lines(t *testing.T, url string, header ...string) (next func() string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	q, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("watch: %d %v", answer.StatusCode, answer.Header)
	}
	scanner := bufio.NewScanner(answer.Body)
	scanner.Buffer(nil, 1<<20)
	next = func() string {
		if !scanner.Scan() {
			t.Fatalf("the watch ended: %v", scanner.Err())
		}
		return scanner.Text()
	}
	end = func() { cancel(); answer.Body.Close() }
	t.Cleanup(end)
	return next, end
}

// ids gives the next n events' ids of a kind.
func ids(next func() string, kind string, n int) []string {
	var out []string
	id := ""
	for len(out) < n {
		line := next()
		if rest, ok := strings.CutPrefix(line, "id: "); ok {
			id = rest
		}
		if line == "event: "+kind {
			out = append(out, id)
		}
	}
	return out
}

// TestWatchResumes: every entry once, over a broken connection, and after it
// by Last-Event-ID.
func TestWatchResumes(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	next, end := lines(t, ts.URL+"/v1/watch?from=0")
	if got := ids(next, "entry", 2); got[0] != "1" || got[1] != "2" {
		t.Errorf("ids %v, want 1 and 2", got)
	}
	if got := ids(next, "head", 1); got[0] != "2" {
		t.Errorf("head %v, want 2", got)
	}
	end()
	f.submit(f.world.record(t, "alice", "while nobody watched"))
	next, _ = lines(t, ts.URL+"/v1/watch?from=0", "Last-Event-ID", "2")
	if got := ids(next, "entry", 2); got[0] != "3" || got[1] != "4" {
		t.Errorf("ids %v, want 3 and 4", got)
	}
	// It stays open, and a filtered watcher learns how far it has seen.
	next, _ = lines(t, ts.URL+"/v1/watch?from=0&types=propose")
	if got := ids(next, "head", 1); got[0] != "4" {
		t.Errorf("head %v, want 4", got)
	}
	f.submit(f.world.record(t, "alice", "not a proposal"))
	if got := ids(next, "head", 1); got[0] != "6" {
		t.Errorf("head %v, want 6", got)
	}
	f.submit(f.propose("alice", "ledger.freeze", map[string]any{"reason": "test"}))
	if got := ids(next, "entry", 1); got[0] != "7" {
		t.Errorf("entry %v, want 7", got)
	}
}

// TestWatchStaysCertified: a certified watch shows nothing before it is
// certified, a stale one at once.
func TestWatchStaysCertified(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	certified, _ := lines(t, ts.URL+"/v1/watch")
	stale, _ := lines(t, ts.URL+"/v1/watch?consistency=stale")
	ids(certified, "head", 1)
	ids(stale, "head", 1)
	f.mu.Lock()
	f.hold = true
	f.mu.Unlock()
	f.submit(f.world.record(t, "alice", "held"))
	if got := ids(stale, "entry", 1); got[0] != "3" {
		t.Errorf("stale %v, want 3", got)
	}
	got := make(chan []string, 1)
	go func() { got <- ids(certified, "entry", 1) }()
	select {
	case early := <-got:
		t.Errorf("shown before it was certified: %v", early)
	case <-time.After(50 * time.Millisecond):
	}
	f.mu.Lock()
	f.seal()
	f.mu.Unlock()
	if ids := <-got; ids[0] != "3" {
		t.Errorf("certified %v, want 3", ids)
	}
}

func TestWatchHeartbeat(t *testing.T) {
	ts := newServer(t, newFake(t), Config{Limits: Limits{Heartbeat: time.Millisecond}})
	next, _ := lines(t, ts.URL+"/v1/watch")
	for next() != ": heartbeat" {
	}
}

// TestClientWatch: entries in order and once, while servers break off.
func TestClientWatch(t *testing.T) {
	f := newFake(t)
	s, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	// A server that breaks each watch off after a few events.
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler().ServeHTTP(&brittle{ResponseWriter: w, left: 5}, r)
	}))
	defer broken.Close()
	c := newClient(t, f.world, "", broken.URL)
	const want = 20
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := range want / 2 {
		f.submit(f.world.record(t, "alice", fmt.Sprint("before ", i)))
	}
	var once sync.Once
	var next uint64
	enough := errors.New("enough")
	err = c.Watch(ctx, client.WatchOptions{}, func(e *client.Entry) error {
		if e.Seq != next {
			t.Errorf("entry %d, want %d", e.Seq, next)
		}
		next = e.Seq + 1
		once.Do(func() {
			go func() {
				for i := range want / 2 {
					f.submit(f.world.record(t, "bob", fmt.Sprint("during ", i)))
				}
			}()
		})
		if next == want*2+2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("watch ended with %v at %d", err, next)
	}
	// Filters, and what the client can't have.
	var proposals int
	f.submit(f.propose("alice", "ledger.freeze", map[string]any{"reason": "test"}))
	err = c.Watch(ctx, client.WatchOptions{Types: []string{ledger.TypePropose}}, func(e *client.Entry) error {
		proposals++
		return enough
	})
	if !errors.Is(err, enough) || proposals != 1 {
		t.Errorf("filtered: %v, %d", err, proposals)
	}
	var problem *client.Problem
	if err := c.Watch(ctx, client.WatchOptions{Kinds: []string{"poem"}}, nil); !errors.As(err, &problem) || problem.Status != 422 {
		t.Errorf("a bad filter: %v", err)
	}
}

// brittle breaks the connection after some writes.
type brittle struct {
	http.ResponseWriter
	left int
}

func (b *brittle) Unwrap() http.ResponseWriter { return b.ResponseWriter }

func (b *brittle) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

// TestServeStops: when the server stops, watches and blocking reads end at
// once, and Serve returns without an error.
func TestServeStops(t *testing.T) {
	f := newFake(t)
	s, err := New(f, Config{InsecureLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	next, _ := lines(t, url+"/v1/watch")
	ids(next, "head", 1)
	waited := make(chan reply, 1)
	go func() { waited <- do(t, "GET", url+"/v1/council?wait=50s&index=99999", "", nil) }()
	waitUntil(t, func() bool { return s.gates.waiting.now() == 2 })
	begin := time.Now()
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if r := <-waited; r.status != 200 {
		t.Errorf("the blocking read: %d", r.status)
	}
	if took := time.Since(begin); took > 30*time.Second { // the blocking read had 50 s
		t.Errorf("stopping took %s", took)
	}
}

// TestWaitingOutlivesTimeouts: the server's deadlines for requests and answers
// are shorter than a watch and a blocking read, and must not end them.
func TestWaitingOutlivesTimeouts(t *testing.T) {
	f := newFake(t)
	addr := serve(t, f, Config{InsecureLoopback: true, Limits: Limits{
		ReadTimeout: 400 * time.Millisecond, HeaderTimeout: 400 * time.Millisecond, Heartbeat: 20 * time.Millisecond,
		WriteTimeout: 400 * time.Millisecond, SubmitTimeout: time.Millisecond, Wait: 1500 * time.Millisecond,
	}})
	url := "http://" + addr.String()
	answered := make(chan reply, 1)
	go func() { answered <- do(t, "GET", url+"/v1/council?wait=1m&index=99999", "", nil) }()
	next, _ := lines(t, url+"/v1/watch")
	ids(next, "head", 1)
	for begin := time.Now(); time.Since(begin) < 2*time.Second; { // longer than every deadline together
		next()
	}
	f.submit(f.world.record(t, "alice", "late"))
	if got := ids(next, "entry", 1); got[0] != "3" {
		t.Errorf("entry %v, want 3", got)
	}
	if r := <-answered; r.status != 200 {
		t.Errorf("the blocking read: %d %s", r.status, r.body)
	}
}
