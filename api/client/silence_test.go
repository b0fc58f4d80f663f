package client

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/ledger"
)

const livez = "/livez"

// host is a server in a network that counts what it is asked. serve says how it answers;
// nil: it takes everything and says nothing, like a stopped process.
type host struct {
	serve func(q *http.Request) (*http.Response, error)

	mu    sync.Mutex
	asked map[string]int // by path
}

func (h *host) count(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[path]
}

func (h *host) all() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.asked {
		n += one
	}
	return n
}

// hosts is a network of them, by name.
type hosts map[string]*host

func (n hosts) RoundTrip(q *http.Request) (*http.Response, error) {
	h := n[q.URL.Host]
	h.mu.Lock()
	if h.asked == nil {
		h.asked = map[string]int{}
	}
	h.asked[q.URL.Path]++
	h.mu.Unlock()
	if h.serve == nil {
		<-q.Context().Done()
		return nil, context.Cause(q.Context())
	}
	return h.serve(q)
}

func (n hosts) client(t *testing.T, servers ...string) *Client {
	t.Helper()
	for i := range servers {
		servers[i] = "http://" + servers[i]
	}
	c, err := New(Options{Servers: servers, HTTPClient: &http.Client{Transport: n}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func said(body string) *http.Response {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

const taken = `{"level":"committed","statements":[{"seq":5,"verdict":"ok"}],"governors":[]}`

// after answers everything with what was taken, after a while; a sign of life after another.
func after(d, sign time.Duration) func(*http.Request) (*http.Response, error) {
	return func(q *http.Request) (*http.Response, error) {
		wait := d
		if q.URL.Path == livez {
			wait = sign
		}
		if err := sleep(q.Context(), wait); err != nil {
			return nil, err
		}
		return said(taken), nil
	}
}

func submitOne(ctx context.Context, c *Client) error {
	_, err := c.Submit(ctx, [][]byte{{1}}, WaitCommitted)
	return err
}

// Whatever is asked of a server that says nothing, the next one is asked in under three
// seconds, and what is asked after that begins there.
func TestSilentServerIsLeft(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *Client) error{
		"a submission": submitOne,
		"a read":       func(ctx context.Context, c *Client) error { _, err := c.Council(ctx, Read{}); return err },
		"a blocking one": func(ctx context.Context, c *Client) error {
			_, err := c.Council(ctx, Read{Wait: time.Minute})
			return err
		},
		"a file": func(ctx context.Context, c *Client) error { _, err := c.Get(ctx, "policy"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := hosts{"silent": {}, "dumb": {}, "b": {serve: after(time.Millisecond, 0)}}
				c := net.client(t, "silent", "dumb", "b")
				for i, want := range []time.Duration{2 * (quietLimit + signLimit), 0} {
					began := time.Now()
					if err := ask(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took < want || took > want+100*time.Millisecond {
						t.Errorf("call %d took %s, want %s", i, took, want)
					}
				}
				for _, h := range []string{"silent", "dumb"} {
					if all, signs := net[h].all(), net[h].count(livez); all != 2 || signs != 1 {
						t.Errorf("%s was asked %d times, %d of them for a sign of life; want 2 and 1", h, all, signs)
					}
				}
			})
		})
	}
}

// Many calls at once find out together that a server is silent.
func TestSilenceIsFoundOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hosts{"silent": {}, "b": {serve: after(0, 0)}}
		c := net.client(t, "silent", "b")
		began := time.Now()
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				if err := submitOne(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(began); took > quietLimit+signLimit+time.Millisecond || net["silent"].count(livez) != 1 {
			t.Errorf("after %s, asked %v", took, net["silent"].asked)
		}
	})
}

// A server whose TLS key is not taken lives all the same; one that refuses connections does not.
func TestSignsOfLife(t *testing.T) {
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is what is tested
	stranger.StartTLS()
	for _, lives := range []bool{true, false} {
		c, err := New(Options{Servers: []string{stranger.URL}, Pins: []ledger.Hash{{1}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.signOfLife(t.Context(), stranger.URL, time.Minute); got != lives {
			t.Errorf("it lives: %t, want %t", got, lives)
		}
		c.Close()
		stranger.Close()
	}
}

// Who asks one server and no other hears in ten seconds that it is silent.
func TestStatusOfASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hosts{"silent": {}, "b": {serve: after(0, 0)}}.client(t, "silent", "b")
		began := time.Now()
		var silent *silentError
		if _, err := c.StatusOf(t.Context(), "http://silent"); !errors.As(err, &silent) || time.Since(began) != 4*(quietLimit+signLimit) {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// What the next server refuses for good leaves the silent one all the same.
func TestRefusedAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := func(*http.Request) (*http.Response, error) {
			r := said(`{"code":"bad_signature"}`)
			r.StatusCode = 403
			r.Header.Set("Content-Type", "application/problem+json")
			return r, nil
		}
		net := hosts{"silent": {}, "b": {serve: refuses}}
		c := net.client(t, "silent", "b")
		for range 3 {
			var p *Problem
			if err := submitOne(t.Context(), c); !errors.As(err, &p) || p.Code != "bad_signature" {
				t.Errorf("got %v", err)
			}
		}
		if all := net["silent"].all(); all != 2 {
			t.Errorf("the silent server was asked %d times, want 2", all)
		}
	})
}

// Who is slow and lives is waited for: it gets the call once, and no other server does.
func TestSlowServerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hosts{"slow": {serve: after(25*time.Second, 1400*time.Millisecond)}, "b": {serve: after(0, 0)}}
		c := net.client(t, "slow", "b")
		for _, ask := range []func(){
			func() {
				if err := submitOne(t.Context(), c); err != nil {
					t.Error(err)
				}
			},
			func() {
				if _, err := c.Council(t.Context(), Read{Wait: 30 * time.Second}); err != nil {
					t.Error(err)
				}
			},
		} {
			ask()
		}
		if net["b"].all() != 0 || net["slow"].all() != 2+net["slow"].count(livez) {
			t.Errorf("asked the slow one %v, the other %v", net["slow"].asked, net["b"].asked)
		}
		if signs := net["slow"].count(livez); signs < 10 || signs > 2*25 {
			t.Errorf("%d signs of life in 50 s", signs)
		}
	})
}

// Under load, calls by the hundred cost one request more each second at most, none while
// answers come, and no call is sent twice.
func TestLoadIsNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 200
		net := hosts{"loaded": {serve: after(8*time.Second, 700*time.Millisecond)}, "b": {serve: after(0, 0)}}
		c := net.client(t, "loaded", "b")
		all := func(apart time.Duration) (signs int) {
			before := net["loaded"].count(livez)
			var wait sync.WaitGroup
			for range calls {
				wait.Go(func() {
					if err := submitOne(t.Context(), c); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(apart)
			}
			wait.Wait()
			return net["loaded"].count(livez) - before
		}
		if signs := all(0); signs < 1 || signs > 8 {
			t.Errorf("%d calls of 8 s at once asked %d times for a sign of life", calls, signs)
		}
		// Answers come all the time once the first has: nothing is asked any more.
		if signs := all(100 * time.Millisecond); signs < 1 || signs > 8 {
			t.Errorf("%d calls one after the other asked %d times for a sign of life", calls, signs)
		}
		if n := net["loaded"].count("/v1/statements"); n != 2*calls || net["b"].all() != 0 {
			t.Errorf("%d submissions, %d of them at the other server; want %d", n, net["b"].all(), 2*calls)
		}
	})
}

// Who answers at once is asked for nothing else.
func TestNoSignIsAskedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hosts{"a": {serve: after(quietLimit-time.Millisecond, 0)}, "b": {serve: after(0, 0)}}
		c := net.client(t, "a", "b")
		for range 5 {
			if err := submitOne(t.Context(), c); err != nil {
				t.Error(err)
			}
		}
		if net["a"].all() != 5 || net["b"].all() != 0 {
			t.Errorf("asked %v and %v", net["a"].asked, net["b"].asked)
		}
		// A client of one server has nobody to go to, and asks nothing either.
		alone := hosts{"a": {serve: after(20*time.Second, time.Hour)}}
		if err := submitOne(t.Context(), alone.client(t, "a")); err != nil || alone["a"].all() != 1 {
			t.Errorf("alone: %v, asked %v", err, alone["a"].asked)
		}
	})
}

// Where nobody gives a sign of life in time, as on a machine with no time for anything,
// servers get more of it in the rounds that follow; of many servers too.
func TestNobodyIsGivenUpForEver(t *testing.T) {
	for _, servers := range [][]string{{"a", "b"}, {"a", "b", "c", "d"}, {"a", "b", "c", "d", "e", "f", "g", "h", "i"}} {
		synctest.Test(t, func(t *testing.T) {
			net := hosts{}
			for _, name := range servers {
				net[name] = &host{serve: after(9*time.Second, 9*time.Second)}
			}
			if err := submitOne(t.Context(), net.client(t, servers...)); err != nil {
				t.Errorf("of %d: %v", len(servers), err)
			}
		})
	}
}

// A large body on a slow line is no silence.
func TestUploadTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hosts{"far": {serve: after(30*time.Second, 30*time.Second)}, "b": {serve: after(0, 0)}}
		c := net.client(t, "far", "b")
		if _, err := c.Submit(t.Context(), [][]byte{make([]byte, 2<<20)}, WaitCommitted); err != nil || net["far"].all() != 1 || net["b"].all() != 0 {
			t.Errorf("%v; asked %v and %v", err, net["far"].asked, net["b"].asked)
		}
		// Nor is a long answer that comes piece by piece.
		net["far"].serve = func(q *http.Request) (*http.Response, error) {
			if q.URL.Path == livez {
				return nil, sleep(q.Context(), time.Hour)
			}
			r := said("")
			r.Body = &trickle{ctx: q.Context(), left: 40}
			return r, nil
		}
		if got, err := c.Get(t.Context(), "policy"); err != nil || len(got) != 40 || net["b"].all() != 0 {
			t.Errorf("%d bytes, %v; asked the other %v", len(got), err, net["b"].asked)
		}
	})
}

// trickle is a body of which a byte comes twice a second.
type trickle struct {
	ctx  context.Context
	left int
}

func (r *trickle) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := sleep(r.ctx, 500*time.Millisecond); err != nil {
		return 0, err
	}
	r.left--
	b[0] = 'x'
	return 1, nil
}

func (r *trickle) Close() error { return nil }

// A watch leaves a server that does not answer it, or falls silent while it goes on, long
// before the heartbeats are missed; one that is merely calm it does not leave.
func TestWatchLeavesSilentServer(t *testing.T) {
	follows := func(q *http.Request) (*http.Response, error) {
		r := said("")
		r.Body = &silentBody{ctx: q.Context()}
		return r, nil
	}
	for name, first := range map[string]func(*http.Request) (*http.Response, error){
		"from the beginning": nil,
		"later": func(q *http.Request) (*http.Response, error) {
			if q.URL.Path == livez {
				return nil, sleep(q.Context(), time.Hour)
			}
			return follows(q)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := hosts{"silent": {serve: first}, "b": {}}
				ctx, cancel := context.WithCancel(t.Context())
				began, left := time.Now(), time.Duration(0)
				net["b"].serve = func(q *http.Request) (*http.Response, error) {
					if q.URL.Path == livez {
						return said("ok\n"), nil
					}
					left = time.Since(began)
					time.AfterFunc(40*time.Second, cancel) // all of it calm
					return follows(q)
				}
				c := net.client(t, "silent", "b")
				if err := c.Watch(ctx, WatchOptions{}, func(*Entry) error { return nil }); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				if want := watchQuiet + signLimit; left < want || left > want+retryMost {
					t.Errorf("left after %s, want %s", left, want)
				}
				if n := net["b"].count("/v1/watch"); n != 1 || c.preferred.Load() != 1 {
					t.Errorf("the other server was asked %d times; calls begin at server %d now", n, c.preferred.Load())
				}
			})
		})
	}
}

// Whoever gives a call up waits for nothing, and leaves nothing behind (goleak).
func TestGivenUpInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, patience := range []time.Duration{quietLimit / 2, quietLimit, quietLimit + signLimit/2, quietLimit + signLimit, 4 * quietLimit} {
			c := hosts{"silent": {}, "dumb": {}}.client(t, "silent", "dumb")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			began := time.Now()
			if err := submitOne(ctx, c); err == nil || time.Since(began) != patience {
				t.Errorf("given up after %s, want %s: %v", time.Since(began), patience, err)
			}
			cancel()
		}
	})
}

// Whose time ends while a server stalls begins at the next one next time; a call that was
// given up says nothing of a server.
func TestPreferredMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hosts{"stalls": {}, "other": {}}.client(t, "stalls", "other")
		for i := range int64(4) {
			if at := c.preferred.Load(); at != i%2 {
				t.Fatalf("call %d begins at server %d", i, at)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if submitOne(ctx, c) == nil {
				t.Error("an answer of nobody")
			}
			cancel()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := submitOne(ctx, c); err == nil || c.preferred.Load() != 0 {
			t.Errorf("it is now %d, %v", c.preferred.Load(), err)
		}
	})
}
