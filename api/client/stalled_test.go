package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
)

// pinned is a server with a TLS key of its own.
func pinned(t *testing.T, h http.HandlerFunc) (*httptest.Server, ledger.Hash) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
}

// stalling takes each request and says nothing.
func stalling(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// A server that takes connections and says nothing, or whose TLS key is a stranger's as
// well, keeps nobody from the next one for long.
func TestStalledServerIsLeft(t *testing.T) {
	for name, c := range map[string]struct{ trusted, learns bool }{
		"a replica":              {true, false},
		"a replica, with pins":   {true, true},
		"a stranger":             {false, false},
		"a stranger, to be told": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 64)
			stalls, pin := pinned(t, stalling)
			honest, good := pinned(t, func(w http.ResponseWriter, _ *http.Request) {
				select {
				case asked <- struct{}{}:
				default:
				}
				w.WriteHeader(http.StatusNotFound)
			})
			pins := []ledger.Hash{good}
			if c.trusted {
				pins = append(pins, pin)
			}
			client, err := New(Options{Servers: []string{stalls.URL, honest.URL}, Genesis: ledger.Hash{1}, Pins: pins, LearnPins: c.learns})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { _, err := client.Sync(ctx); ended <- err }()
			select {
			case <-asked:
			case err := <-ended:
				t.Errorf("the honest server is not asked: %v", err)
			case <-time.After(requestTimeout - smallTimeout):
				t.Error("the honest server is not asked")
			}
			cancel()
		})
	}
}

// Whose time ends while a server stalls begins at the next one next time.
func TestPreferredMovesOn(t *testing.T) {
	stalls, one := pinned(t, stalling)
	other, two := pinned(t, stalling)
	client, err := New(Options{Servers: []string{stalls.URL, other.URL}, Genesis: ledger.Hash{1}, Pins: []ledger.Hash{one, two}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range int64(4) {
		if at := client.preferred.Load(); at != i%2 {
			t.Fatalf("call %d begins at server %d", i, at)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := client.Sync(ctx); err == nil {
			t.Error("a sync with nobody")
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Sync(ctx); err == nil || client.preferred.Load() != 0 {
		t.Errorf("a call that was given up says nothing of a server: it is now %d, %v", client.preferred.Load(), err)
	}
}
