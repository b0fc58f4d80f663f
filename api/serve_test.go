package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool, ledger.Hash) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "r1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
}

// serve runs a server on loopback until the test ends.
func serve(t *testing.T, f *fake, config Config) net.Addr {
	t.Helper()
	s, err := New(f, config)
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
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr()
}

// TestTLS: 1.3 with the hybrid key exchange, by a CA or by a pin, never
// without.
func TestTLS(t *testing.T) {
	f := newFake(t)
	cert, pool, pin := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	addr := serve(t, f, Config{TLS: config})
	conn, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	conn.Close()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("version %x with key exchange %s", state.Version, state.CurveID)
	}
	if conn, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
	url := "https://" + addr.String()
	watchOverTLS(t, f, config, client.Options{RootCAs: pool})
	for _, row := range []struct {
		name    string
		options client.Options
		ok      bool
	}{
		{"by CA", client.Options{RootCAs: pool}, true},
		{"by pin", client.Options{Pins: []ledger.Hash{pin}}, true},
		{"by another pin", client.Options{Pins: []ledger.Hash{{1}}}, false},
		{"by the system's CAs", client.Options{}, false},
	} {
		o := row.options
		o.Servers, o.Genesis = []string{url}, f.world.hash
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if !row.ok {
			ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
		}
		if _, err := c.Sync(ctx); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
		cancel()
		c.Close()
	}
}

// watchOverTLS watches over HTTP/2, longer than the server's deadlines.
func watchOverTLS(t *testing.T, f *fake, config *tls.Config, o client.Options) {
	t.Helper()
	addr := serve(t, f, Config{TLS: config, Limits: Limits{
		ReadTimeout: 400 * time.Millisecond, Heartbeat: 20 * time.Millisecond, WriteTimeout: 400 * time.Millisecond,
		SubmitTimeout: time.Millisecond, Wait: time.Millisecond,
	}})
	o.Servers = []string{"https://" + addr.String()}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin, enough := time.Now(), errors.New("enough")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		got <- c.Watch(ctx, client.WatchOptions{}, func(e *client.Entry) error {
			switch e.Seq {
			case 0:
				close(first) // once: a watch goes on from where it was
			case 2:
				return enough
			}
			return nil
		})
	}()
	select {
	case <-first:
	case err := <-got:
		t.Fatalf("watch over TLS: %v", err)
	}
	time.Sleep(time.Second)
	f.submit(f.world.record(t, "alice", "late"))
	if err := <-got; !errors.Is(err, enough) {
		t.Errorf("watch over TLS: %v after %s", err, time.Since(begin))
	}
}

func TestPlainHTTPOnlyOnLoopback(t *testing.T) {
	s, err := New(newFake(t), Config{InsecureLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	everywhere := &otherAddr{l, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}}
	if err := s.Serve(context.Background(), everywhere); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("plain HTTP off loopback: %v", err)
	}
	if s, err = New(newFake(t), Config{}); err != nil {
		t.Fatal(err)
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), l); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("TLS without a certificate: %v", err)
	}
}

type otherAddr struct {
	net.Listener
	addr net.Addr
}

func (o *otherAddr) Addr() net.Addr { return o.addr }

// TestConnectionsAreBounded: beyond the bound a connection waits, and gets its
// turn when another goes.
func TestConnectionsAreBounded(t *testing.T) {
	f := newFake(t)
	addr := serve(t, f, Config{InsecureLoopback: true, Limits: Limits{Connections: 1}})
	first, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	request := "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	answer := make([]byte, 15)
	if _, err := io.WriteString(first, request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Fatalf("first: %q, %v", answer, err)
	}
	second, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := io.WriteString(second, request); err != nil {
		t.Fatal(err)
	}
	second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.Read(answer); err == nil {
		t.Errorf("the second connection got %q beside the first", answer[:n])
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(second, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("second: %q, %v", answer, err)
	}
}

func TestHeaderIsBounded(t *testing.T) {
	addr := serve(t, newFake(t), Config{InsecureLoopback: true})
	q, _ := http.NewRequest("GET", "http://"+addr.String()+"/livez", nil)
	q.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	answer, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		return // cut off
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB: %d", answer.StatusCode)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	f := newFake(t)
	registry := prometheus.NewRegistry()
	ts := newServer(t, f, Config{Registerer: registry, Gatherer: registry})
	if r := do(t, "GET", ts.URL+"/readyz", "", nil); r.status != 200 {
		t.Errorf("ready: %d", r.status)
	}
	f.mu.Lock()
	f.status.Ready, f.status.Role = false, "follower"
	f.mu.Unlock()
	if r := do(t, "GET", ts.URL+"/readyz", "", nil); r.status != 503 || r.problem.Code != "not_ready" {
		t.Errorf("not ready: %d", r.status)
	}
	if r := do(t, "GET", ts.URL+"/livez", "", nil); r.status != 200 {
		t.Errorf("live: %d", r.status)
	}
	do(t, "GET", ts.URL+"/v1/nodes/whoever", "", nil)
	do(t, "GET", ts.URL+"/no/such/"+strings.Repeat("x", 50), "", nil)
	body := string(do(t, "GET", ts.URL+"/metrics", "", nil).body)
	if !strings.Contains(body, `quorate_api_requests_total{method="GET",route="/v1/nodes/{name}",status="404"} 1`) {
		t.Errorf("metrics lack the route:\n%s", body)
	}
	if strings.Contains(body, "whoever") || strings.Contains(body, "xxxx") {
		t.Error("a path became a label")
	}
}

// operations is Operations in memory.
type operations struct{ to, snapshots string }

func (o *operations) Snapshot(context.Context) error { o.snapshots += "."; return nil }
func (o *operations) TransferLeadership(_ context.Context, name string) error {
	if name == "nobody" {
		return errors.New("no replica of that name")
	}
	o.to = name
	return nil
}
func (o *operations) Peers() []client.PeerStatus    { return []client.PeerStatus{{Name: "r2"}} }
func (o *operations) ForkProofs() ([][]byte, error) { return nil, nil }

func (o *operations) NewLogKey() (ledger.LogKeys, error) {
	return ledger.LogKeys{Ed25519: []byte{1}, MLDSA44: []byte{2}}, nil
}

// TestOperatorSocket: operations are there on the unix socket, and nowhere else.
func TestOperatorSocket(t *testing.T) {
	f := newFake(t)
	ops := &operations{}
	s, err := New(f, Config{Operations: ops, DebugBundle: func(_ context.Context, w io.Writer) error {
		_, err := fmt.Fprint(w, "bundle")
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "op.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ServeOperator(ctx, l) }()
	o := client.NewOperatorClient(path)
	if err := o.Snapshot(ctx); err != nil || ops.snapshots != "." {
		t.Errorf("snapshot: %v", err)
	}
	if err := o.Transfer(ctx, "r3"); err != nil || ops.to != "r3" {
		t.Errorf("transfer: %v, %q", err, ops.to)
	}
	var problem *client.Problem
	if err := o.Transfer(ctx, "nobody"); !errors.As(err, &problem) || !strings.Contains(problem.Detail, "no replica") {
		t.Errorf("transfer to nobody: %v", err)
	}
	if peers, err := o.Peers(ctx); err != nil || len(peers) != 1 || peers[0].Name != "r2" {
		t.Errorf("peers: %v, %v", peers, err)
	}
	if k, err := o.NewLogKey(ctx); err != nil || !bytes.Equal(k.MLDSA44, []byte{2}) {
		t.Errorf("log key: %v, %v", k, err)
	}
	var b bytes.Buffer
	if err := o.DebugBundle(ctx, &b); err != nil || b.String() != "bundle" {
		t.Errorf("debug bundle: %q, %v", b.String(), err)
	}
	o.Close()
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}

	ts := newServer(t, f, Config{Operations: ops})
	if r := do(t, "POST", ts.URL+"/v1/operator/snapshot", "", []byte("x")); r.status != 404 {
		t.Errorf("an operation on the public API: %d", r.status)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeOperator(context.Background(), tcp); err == nil {
		t.Error("operations were served over TCP")
	}
}

// TestPanicIsOurError: a handler's panic answers 500 and takes nothing along.
func TestPanicIsOurError(t *testing.T) {
	ts := newServer(t, &panicking{Backend: newFake(t)}, Config{})
	if r := do(t, "GET", ts.URL+"/v1/status", "", nil); r.status != 500 || r.problem.Code != "internal" {
		t.Errorf("got %d %s", r.status, r.problem.Code)
	}
	if r := do(t, "GET", ts.URL+"/v1/council", "", nil); r.status != 200 {
		t.Errorf("after it: %d", r.status)
	}
}

type panicking struct{ Backend }

func (*panicking) Status() client.Status { panic("a bug") }
