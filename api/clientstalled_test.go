package api

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// stalling takes each request whole and says nothing.
var stalling = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // or net/http does not hear that the client is gone
	<-r.Context().Done()
})

// frozen gives the URL of a stopped process: its kernel takes connections, and nothing
// ever comes back.
func frozen(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taken sync.WaitGroup
	taken.Go(func() {
		var open []net.Conn
		for {
			c, err := listener.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); taken.Wait() })
	return "https://" + listener.Addr().String()
}

// A server that takes connections and says nothing, or whose TLS key is a stranger's as
// well, keeps nobody from the next one for long, whatever is asked.
func TestStalledServerIsLeft(t *testing.T) {
	var all sync.WaitGroup // all at once: each only waits
	defer all.Wait()
	for name, c := range map[string]struct{ frozen, trusted, learns bool }{
		"a replica":               {false, true, false},
		"a replica, with pins":    {false, true, true},
		"a stranger":              {false, false, false},
		"a stranger, to be told":  {false, false, true},
		"a stopped one":           {true, false, false},
		"a stopped one, and pins": {true, false, true},
	} {
		for what, ask := range map[string]func(context.Context, *client.Client) error{
			"sync": func(ctx context.Context, k *client.Client) error { _, err := k.Sync(ctx); return err },
			"submission": func(ctx context.Context, k *client.Client) error {
				_, err := k.Submit(ctx, [][]byte{{1}}, client.WaitCommitted)
				return err
			},
			"watch": func(ctx context.Context, k *client.Client) error {
				return k.Watch(ctx, client.WatchOptions{}, func(*client.Entry) error { return nil })
			},
		} {
			one, two := newTLSIdentity(t), newTLSIdentity(t)
			stalls := ""
			if c.frozen {
				stalls = frozen(t)
			} else {
				stalls = serveTLS(t, stalling, func() *tls.Certificate { return &one.cert }).URL
			}
			asked := make(chan struct{}, 1)
			honest := serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				select {
				case asked <- struct{}{}:
				default:
				}
				w.WriteHeader(http.StatusNotFound)
			}), func() *tls.Certificate { return &two.cert })
			pins := []ledger.Hash{two.pin}
			if c.trusted {
				pins = append(pins, one.pin)
			}
			k, err := client.New(client.Options{Servers: []string{stalls, honest.URL}, Genesis: ledger.Hash{1}, Pins: pins, LearnPins: c.learns})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer k.Close()
				ctx, cancel := context.WithCancel(t.Context())
				var asking sync.WaitGroup
				defer asking.Wait()
				defer cancel()
				asking.Go(func() { _ = ask(ctx, k) })
				select {
				case <-asked:
				case <-time.After(25 * time.Second): // of the 30 that one try may take
					t.Errorf("%s, %s: the honest server is not asked", name, what)
				}
			})
		}
	}
}
