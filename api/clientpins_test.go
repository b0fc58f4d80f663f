package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// tlsIdentity is a self-signed certificate with its pin.
type tlsIdentity struct {
	cert tls.Certificate
	pin  ledger.Hash
}

func newTLSIdentity(t *testing.T) *tlsIdentity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tlsIdentity{
		cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pin:  sha256.Sum256(parsed.RawSubjectPublicKeyInfo),
	}
}

// pinWorld is a ledger whose replica r1 serves with a TLS key that can change.
type pinWorld struct {
	*fake
	server *httptest.Server
	shown  atomic.Pointer[tlsIdentity]
	dir    string
}

func newPinWorld(t *testing.T, first *tlsIdentity) *pinWorld {
	t.Helper()
	w := &pinWorld{fake: newFake(t, func(g *ledger.Genesis) { g.Replicas[0].TLSPin = first.pin }), dir: t.TempDir()}
	w.shown.Store(first)
	s, err := New(w.fake, Config{})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewUnstartedServer(s.Handler())
	w.server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{w.shown.Load().cert}, SessionTicketsDisabled: true}, nil
	}}
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

// client connects as the commands do: with the pins of genesis until others are
// learned.
func (w *pinWorld) client(t *testing.T, given ...ledger.Hash) *client.Client {
	t.Helper()
	options := client.Options{Servers: []string{w.server.URL}, Genesis: w.world.hash, TrustDir: w.dir, LearnPins: true, Pins: given}
	c, err := client.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// rekey gives r1 another TLS key on the ledger, by decision.
func (w *pinWorld) rekey(t *testing.T, to *tlsIdentity) {
	t.Helper()
	k := seeded("r1 with TLS key " + to.pin.String())
	p := w.propose("alice", "replica.rekey", map[string]any{"replica": ledger.Replica{
		Name: "r1", Operator: "acme", Public: k.Public().Bytes(), Cosigner: k.Cosigner44().Public(), Peer: "127.0.0.1:9100", TLSPin: to.pin,
	}})
	w.submit(p, w.world.ballot(t, "bob", ledger.TypeApprove, p))
}

func TestClientLearnsPins(t *testing.T) {
	first, second := newTLSIdentity(t), newTLSIdentity(t)
	w := newPinWorld(t, first)
	if client.HasPins(w.dir, w.world.hash) {
		t.Fatal("pins are kept before any were learned")
	}
	c := w.client(t, first.pin)
	if _, err := c.Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	if !client.HasPins(w.dir, w.world.hash) {
		t.Fatal("no pins are kept after a sync")
	}
	// The ledger names the second key; the replica still shows the first.
	w.rekey(t, second)
	if head, err := c.Sync(short(t)); err != nil || head.Authority.Index != 1 {
		t.Fatalf("before the replica changed over: %+v, %v", head, err)
	}
	if _, err := w.client(t).Sync(short(t)); err != nil {
		t.Errorf("a former key just after the handover: %v", err)
	}
	w.shown.Store(second)
	w.server.CloseClientConnections()
	if _, err := w.client(t).Sync(short(t)); err != nil {
		t.Errorf("after the replica changed over: %v", err)
	}
}

// TestClientFindsPins: a client that was away while the replica got another TLS key
// asks for the proof and goes on; of a stranger it takes nothing.
func TestClientFindsPins(t *testing.T) {
	first, second, third := newTLSIdentity(t), newTLSIdentity(t), newTLSIdentity(t)
	w := newPinWorld(t, first)
	if _, err := w.client(t, first.pin).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	w.rekey(t, second)
	w.shown.Store(second)
	w.server.CloseClientConnections()
	c := w.client(t)
	if _, err := c.Status(short(t)); err != nil {
		t.Errorf("away during one change: %v", err)
	}
	// The same from the beginning, without a trust folder.
	alone, err := client.New(client.Options{Servers: []string{w.server.URL}, Genesis: w.world.hash, LearnPins: true, Pins: []ledger.Hash{first.pin}})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := alone.Status(short(t)); err != nil {
		t.Errorf("with the pins of genesis alone: %v", err)
	}
	// Somebody in between shows the ledger truly, under a key of their own.
	w.shown.Store(third)
	w.server.CloseClientConnections()
	var unknown *client.PinError
	if _, err := w.client(t).Status(short(t)); !errors.As(err, &unknown) || unknown.Pin != third.pin {
		t.Errorf("a key that the ledger does not name: %v", err)
	}
	// Without LearnPins nothing is asked.
	strict, err := client.New(client.Options{Servers: []string{w.server.URL}, Genesis: w.world.hash, Pins: []ledger.Hash{first.pin}})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	w.shown.Store(second)
	w.server.CloseClientConnections()
	if _, err := strict.Status(short(t)); !errors.As(err, &unknown) {
		t.Errorf("strict pins: %v", err)
	}
}

func TestDamagedPins(t *testing.T) {
	first := newTLSIdentity(t)
	w := newPinWorld(t, first)
	if _, err := w.client(t, first.pin).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, w.world.hash.String(), "pins")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, good[:len(good)/2], append([]byte(" "), good...)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var trust *client.TrustError
		_, err := client.New(client.Options{Servers: []string{w.server.URL}, Genesis: w.world.hash, TrustDir: w.dir, LearnPins: true})
		if !errors.As(err, &trust) {
			t.Errorf("%d bytes: %v, want a *client.TrustError", len(bad), err)
		}
	}
}
