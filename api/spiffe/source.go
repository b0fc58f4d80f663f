// Package spiffe gives a server or a client of the REST API its TLS identity
// from a SPIFFE Workload API: an X509-SVID that the agent renews while the
// process runs. It is a room of its own because gRPC comes with it.
//
// The identity says who connects. It carries no authority on the ledger: that
// stays with signatures.
package spiffe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Source holds the newest SVID and trust bundles of a Workload API. When the
// agent dies it keeps the last ones, which work until they expire. When the
// agent gives several SVIDs it is the first, as the SPIFFE specification says.
type Source struct {
	client *workloadapi.Client
	x509   *workloadapi.X509Source
}

// ErrNoIdentity says that the agent answers, but has no SVID for this process.
var ErrNoIdentity = errors.New("the agent knows no identity for this process")

// SourceError says that a Workload API gave no SVID in time.
type SourceError struct {
	Address Address
	Waited  time.Duration
	Err     error // ErrNoIdentity, or why it could not be asked
}

func (e *SourceError) Error() string {
	return fmt.Sprintf("the Workload API at %s gave no X509-SVID within %s: %v", e.Address, e.Waited, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// Open waits for the first SVID, at most so long; then the error is a
// *SourceError. log, or nil, gets what goes wrong later, between the SVIDs.
// The caller closes the source.
func Open(ctx context.Context, address Address, wait time.Duration, log *slog.Logger) (*Source, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := workloadapi.New(ctx, workloadapi.WithAddr(string(address)),
		workloadapi.WithLogger(clientLog{log.With(slog.String("workload_api", string(address)))}))
	if err != nil {
		return nil, fmt.Errorf("open Workload API %s: %w", address, err)
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	source, err := workloadapi.NewX509Source(bounded, workloadapi.WithClient(c))
	if err == nil {
		return &Source{client: c, x509: source}, nil
	}
	if ctx.Err() == nil {
		err = &SourceError{Address: address, Waited: wait, Err: cause(ctx, c, err)}
	}
	return nil, errors.Join(err, c.Close())
}

// cause asks once more, to learn why: the source retries in silence and knows
// only that its time is over.
func cause(ctx context.Context, c *workloadapi.Client, otherwise error) error {
	ctx, cancel := context.WithTimeout(ctx, causeWait)
	defer cancel()
	_, err := c.FetchX509Context(ctx)
	if err == nil {
		return otherwise
	}
	switch s, _ := status.FromError(err); s.Code() {
	case codes.PermissionDenied:
		return fmt.Errorf("%w (%s)", ErrNoIdentity, s.Message())
	case codes.DeadlineExceeded:
		return errors.New("it takes the question and does not answer")
	case codes.Unknown:
		return err
	default:
		return errors.New(s.Message())
	}
}

// ID is the SPIFFE id of the newest SVID, and when that expires.
func (s *Source) ID() (string, time.Time) {
	svid, err := s.x509.GetX509SVID()
	if err != nil {
		return "", time.Time{}
	}
	return svid.ID.String(), svid.Certificates[0].NotAfter
}

// Close ends the renewal. Handshakes fail from then on.
func (s *Source) Close() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.x509.Close(), s.client.Close())
}

// ServerTLS serves the newest SVID. With names, a client must show an SVID of
// one of them; without, clients show nothing.
func (s *Source) ServerTLS(clients []Name) (*tls.Config, error) {
	if len(clients) == 0 {
		return sealed(tlsconfig.TLSServerConfig(s.x509)), nil
	}
	match, err := matcher(clients)
	if err != nil {
		return nil, err
	}
	return sealed(tlsconfig.MTLSServerConfig(s.x509, s.x509, tlsconfig.AdaptMatcher(match))), nil
}

// ClientTLS shows the newest SVID to a server that asks for it, and takes only
// servers of these names, whatever their host names.
func (s *Source) ClientTLS(servers []Name) (*tls.Config, error) {
	match, err := matcher(servers)
	if err != nil {
		return nil, err
	}
	return sealed(tlsconfig.MTLSClientConfig(s.x509, s.x509, tlsconfig.AdaptMatcher(match))), nil
}

// PeerError says why the certificate of the other side was refused.
type PeerError struct{ Err error }

func (e *PeerError) Error() string { return fmt.Sprintf("the peer's SVID is refused: %v", e.Err) }
func (e *PeerError) Unwrap() error { return e.Err }

// sealed lets no connection pass by the verification. A resumed session skips
// VerifyPeerCertificate, so there is none.
func sealed(config *tls.Config) *tls.Config {
	config.MinVersion = tls.VersionTLS13
	config.SessionTicketsDisabled = true
	if verify := config.VerifyPeerCertificate; verify != nil {
		config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
			if err := verify(raw, chains); err != nil {
				return &PeerError{Err: err}
			}
			return nil
		}
	}
	return config
}

// clientLog passes on what the Workload API's client says. It repeats a failure
// with each retry, whose pauses grow to half a minute.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Debugf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l clientLog) Infof(format string, args ...any)  { l.say(slog.LevelDebug, format, args) }
func (l clientLog) Warnf(format string, args ...any)  { l.say(slog.LevelWarn, format, args) }
func (l clientLog) Errorf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

func (l clientLog) say(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "workload API", slog.String("detail", fmt.Sprintf(format, args...)))
}
