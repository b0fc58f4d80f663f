package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/api/spiffe"
	"github.com/quorate/quorate/api/spiffe/spiffetest"
)

const (
	serverID = "spiffe://mesh.example/quorate/r1"
	clientID = "spiffe://mesh.example/deployer"
)

func trustDomain(t *testing.T, name string) *spiffetest.CA {
	t.Helper()
	ca, err := spiffetest.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// agentOf starts an agent that gives its workloads the id, or none.
func agentOf(t *testing.T, ca *spiffetest.CA, id string) *spiffetest.Agent {
	t.Helper()
	a, err := ca.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop() })
	if id != "" {
		issue(t, a, id, time.Hour)
	}
	return a
}

func issue(t *testing.T, a *spiffetest.Agent, id string, lifetime time.Duration) *x509.Certificate {
	t.Helper()
	cert, err := a.Issue(id, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func openSource(t *testing.T, a *spiffetest.Agent) *spiffe.Source {
	t.Helper()
	s, err := spiffe.Open(t.Context(), spiffe.Address(a.Address), 10*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// serveSVID serves with the agent's SVID, to these clients.
func serveSVID(t *testing.T, f *fake, a *spiffetest.Agent, clients ...spiffe.Name) net.Addr {
	t.Helper()
	config, err := openSource(t, a).ServerTLS(clients)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, f, Config{TLS: config})
}

// status asks for the server's status, once.
func askStatus(t *testing.T, addr net.Addr, config *tls.Config) error {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}, Timeout: 5 * time.Second}
	defer h.CloseIdleConnections()
	response, err := h.Get("https://" + addr.String() + "/v1/status")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func clientTLS(t *testing.T, s *spiffe.Source, servers ...spiffe.Name) *tls.Config {
	t.Helper()
	config, err := s.ClientTLS(servers)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestServesAnSVID: the verifying client takes the server by its SPIFFE id, at
// TLS 1.3 with the hybrid key exchange, and no session is resumed.
func TestServesAnSVID(t *testing.T) {
	f, ca := newFake(t), trustDomain(t, "mesh.example")
	addr := serveSVID(t, f, agentOf(t, ca, serverID))
	config := clientTLS(t, openSource(t, agentOf(t, ca, clientID)), serverID)
	c, err := client.New(client.Options{Servers: []string{"https://" + addr.String()}, Genesis: f.world.hash, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}

	config = config.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	config.SessionTicketsDisabled = false
	for range 2 {
		conn, err := tls.Dial("tcp", addr.String(), config)
		if err != nil {
			t.Fatal(err)
		}
		// An answer, so that a ticket would have been read.
		_, _ = conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: r1\r\n\r\n"))
		_, _ = conn.Read(make([]byte, 1))
		state := conn.ConnectionState()
		conn.Close()
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.DidResume {
			t.Errorf("version %x, key exchange %s, resumed %v", state.Version, state.CurveID, state.DidResume)
		}
	}
}

// TestSVIDRotates: a new SVID is served without a restart, and the last one is
// served on when the agent dies.
func TestSVIDRotates(t *testing.T) {
	f, ca := newFake(t), trustDomain(t, "mesh.example")
	agent := agentOf(t, ca, serverID)
	addr := serveSVID(t, f, agent)
	config := clientTLS(t, openSource(t, agentOf(t, ca, clientID)), serverID)
	served := func() *x509.Certificate {
		conn, err := tls.Dial("tcp", addr.String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	before := served()
	after := issue(t, agent, serverID, time.Hour)
	for end := time.Now().Add(10 * time.Second); !served().Equal(after); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new SVID was never served")
		}
	}
	if before.Equal(after) {
		t.Fatal("the agent issued the same SVID")
	}
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	if !served().Equal(after) {
		t.Error("another SVID is served after the agent died")
	}
}

// TestAuthorizedClients: who may connect, by id or by trust domain.
func TestAuthorizedClients(t *testing.T) {
	f, ca, other := newFake(t), trustDomain(t, "mesh.example"), trustDomain(t, "other.example")
	forger := trustDomain(t, "mesh.example") // claims the same trust domain, with another key
	server := agentOf(t, ca, serverID)
	byID := serveSVID(t, f, server, "spiffe://mesh.example/auditor", clientID)
	byDomain := serveSVID(t, f, server, "spiffe://mesh.example")
	verified := clientTLS(t, openSource(t, agentOf(t, ca, clientID)), serverID)
	for _, row := range []struct {
		name       string
		ca         *spiffetest.CA
		id         string
		byID, byTD bool
	}{
		{"named", ca, clientID, true, true},
		{"same trust domain", ca, "spiffe://mesh.example/other", false, true},
		{"below a named one", ca, clientID + "/child", false, true},
		{"another trust domain", other, "spiffe://other.example/deployer", false, false},
		{"a forged one", forger, clientID, false, false},
		{"without a certificate", nil, "", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			// The server is verified as by anybody; only what is shown differs.
			config := verified.Clone()
			config.GetClientCertificate = nil
			if row.ca != nil {
				config.GetClientCertificate = clientTLS(t, openSource(t, agentOf(t, row.ca, row.id)), serverID).GetClientCertificate
			}
			if err := askStatus(t, byID, config); (err == nil) != row.byID {
				t.Errorf("authorised by id: %v", err)
			}
			if err := askStatus(t, byDomain, config); (err == nil) != row.byTD {
				t.Errorf("authorised by trust domain: %v", err)
			}
		})
	}
}

// TestServerIDIsVerified: another workload of the same trust domain is not the
// server, and neither is one whose CA only bears the name.
func TestServerIDIsVerified(t *testing.T) {
	f, ca := newFake(t), trustDomain(t, "mesh.example")
	source := openSource(t, agentOf(t, ca, clientID))
	for _, row := range []struct {
		name string
		addr net.Addr
		want spiffe.Name
		ok   bool
	}{
		{"itself", serveSVID(t, f, agentOf(t, ca, serverID)), serverID, true},
		{"another id", serveSVID(t, f, agentOf(t, ca, "spiffe://mesh.example/web")), serverID, false},
		{"a forger", serveSVID(t, f, agentOf(t, trustDomain(t, "mesh.example"), serverID)), serverID, false},
	} {
		err := askStatus(t, row.addr, clientTLS(t, source, row.want))
		var peer *spiffe.PeerError
		if (err == nil) != row.ok || err != nil && !errors.As(err, &peer) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// TestWorkloadAPIAway: whatever is wrong, the wait is bounded and the error
// says what.
func TestWorkloadAPIAway(t *testing.T) {
	silent, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, row := range []struct{ name, address, want string }{
		{"no socket", "unix://" + filepath.Join(t.TempDir(), "none"), "no such file"},
		{"nobody registered", agentOf(t, trustDomain(t, "mesh.example"), "").Address, "no identity issued"},
		{"silent", "unix://" + silent.Addr().String(), "does not answer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			begin := time.Now()
			var err error
			// A busy machine may not get an answer through in the first short while.
			for patience := 100 * time.Millisecond; patience < time.Minute && (err == nil || !strings.Contains(err.Error(), row.want)); patience *= 5 {
				_, err = spiffe.Open(t.Context(), spiffe.Address(row.address), patience, nil)
			}
			var away *spiffe.SourceError
			if !errors.As(err, &away) || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), row.address) {
				t.Errorf("got %v, want %s", err, row.want)
			}
			if errors.Is(err, spiffe.ErrNoIdentity) != (row.name == "nobody registered") {
				t.Errorf("%v", err)
			}
			if took := time.Since(begin); took > 2*time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	if _, err := spiffe.Open(interrupted, "unix:///nowhere/s", time.Minute, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestAgentThatComesLate: a server that starts before its agent waits for it.
func TestAgentThatComesLate(t *testing.T) {
	agent := agentOf(t, trustDomain(t, "mesh.example"), "")
	opened := make(chan error, 1)
	go func() {
		s, err := spiffe.Open(t.Context(), spiffe.Address(agent.Address), 20*time.Second, nil)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	issue(t, agent, serverID, time.Hour)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestExpiredClientIsParted: a connection outlives the client's SVID by one
// answer, over HTTP/1.1 and HTTP/2; the next one shows the renewed SVID.
func TestExpiredClientIsParted(t *testing.T) {
	for life := 3 * time.Second; !expiredClientIsParted(t, life); life *= 3 {
		t.Logf("this machine needs more than %s to begin with", life)
	}
}

// expiredClientIsParted reports whether its connections were made while the SVID
// was valid.
func expiredClientIsParted(t *testing.T, life time.Duration) bool {
	f, ca := newFake(t), trustDomain(t, "mesh.example")
	addr := serveSVID(t, f, agentOf(t, ca, serverID), clientID)
	agent := agentOf(t, ca, "")
	expiry := issue(t, agent, clientID, life).NotAfter
	source := openSource(t, agent)
	type user struct {
		ask   func()
		shown *int
	}
	var users []user
	var failed error
	for _, http2 := range []bool{false, true} {
		config, shown := clientTLS(t, source, serverID), new(int)
		show := config.GetClientCertificate
		config.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) { *shown++; return show(i) }
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}}
		defer h.CloseIdleConnections()
		u := user{shown: shown, ask: func() {
			response, err := h.Get("https://" + addr.String() + "/livez")
			if err != nil {
				failed = err
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if (response.ProtoMajor == 2) != http2 {
				t.Fatal(response.Proto)
			}
		}}
		u.ask()
		u.ask()
		if !time.Now().Before(expiry) {
			return false
		}
		if failed != nil || *shown != 1 {
			t.Fatalf("%d handshakes while the SVID is valid, %v", *shown, failed)
		}
		users = append(users, u)
	}
	issue(t, agent, clientID, time.Hour)
	time.Sleep(time.Until(expiry) + 10*time.Millisecond) // nothing but the clock tells of it
	for _, u := range users {
		u.ask()
		for end := time.Now().Add(time.Minute); *u.shown < 2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the connection outlived the SVID")
			}
			u.ask()
		}
		if failed != nil {
			t.Fatal(failed)
		}
	}
	return true
}
