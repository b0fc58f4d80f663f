// Package spiffetest is a Workload API for tests: the real gRPC service, on a
// unix socket, with a CA of its own.
package spiffetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// CA issues the SVIDs of one trust domain.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes the CA of a trust domain.
func NewCA(trustDomain string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: trustDomain},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// issue makes the SVID of an id, with a new key.
func (ca *CA) issue(id string, lifetime time.Duration) (*workload.X509SVID, *x509.Certificate, error) {
	uri, err := url.Parse(id)
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(lifetime),
		URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue SVID: %w", err)
	}
	return &workload.X509SVID{SpiffeId: id, X509Svid: der, X509SvidKey: private, Bundle: ca.cert.Raw}, cert, nil
}

// Agent serves the Workload API on a socket. Whoever connects gets the same
// SVID; before the first Issue it answers as SPIRE does to a process that
// nobody registered.
type Agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	Address string // unix:///…

	ca     *CA
	server *grpc.Server
	done   chan error

	mu      sync.Mutex
	svid    *workload.X509SVID
	changed chan struct{} // closed when svid changes
}

// Listen starts an agent on the socket at path.
func (ca *CA) Listen(path string) (*Agent, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	a := &Agent{Address: "unix://" + path, ca: ca, server: grpc.NewServer(), done: make(chan error, 1), changed: make(chan struct{})}
	workload.RegisterSpiffeWorkloadAPIServer(a.server, a)
	go func() { a.done <- a.server.Serve(l) }()
	return a, nil
}

// Issue gives all who are connected a new SVID, and returns its certificate.
func (a *Agent) Issue(id string, lifetime time.Duration) (*x509.Certificate, error) {
	svid, cert, err := a.ca.issue(id, lifetime)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.svid = svid
	close(a.changed)
	a.changed = make(chan struct{})
	return cert, nil
}

// Stop ends the agent and every stream, as if it was killed.
func (a *Agent) Stop() error {
	a.server.Stop()
	err := <-a.done
	a.done <- nil // a second Stop finds it ended
	return err
}

// FetchX509SVID streams the SVID, each time that it changes.
func (a *Agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if err := guarded(stream.Context()); err != nil {
		return err
	}
	for {
		a.mu.Lock()
		svid, changed := a.svid, a.changed
		a.mu.Unlock()
		if svid == nil {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		if err := stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// guarded demands the header that keeps forged requests of browsers out
// (SPIFFE Workload Endpoint, section 5).
func guarded(ctx context.Context) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.InvalidArgument, "the security header is missing")
	}
	return nil
}
