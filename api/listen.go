package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// tlsConfig is the certificates of the configuration with our versions: TLS
// 1.3, the hybrid key exchange (X25519 and ML-KEM-768) before all others.
func tlsConfig(base *tls.Config) *tls.Config {
	config := base.Clone()
	config.MinVersion = tls.VersionTLS13
	config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.X25519}
	config.NextProtos = []string{"h2", "http/1.1"}
	return config
}

// loopback says whether nobody but this machine can reach the address.
func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Serve serves the public API on l until ctx ends, then shuts down gracefully:
// watches and blocking reads end, requests in progress get ShutdownTimeout. It
// closes l. It serves TLS, or plain HTTP when InsecureLoopback is set and l is
// on loopback.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.config.InsecureLoopback {
		if !loopback(l.Addr()) {
			l.Close()
			return fmt.Errorf("serve API: plain HTTP is refused on %s; it is for loopback alone, elsewhere configure TLS", l.Addr())
		}
		return s.serve(ctx, l, s.Handler(), nil)
	}
	if s.config.TLS == nil || len(s.config.TLS.Certificates) == 0 && s.config.TLS.GetCertificate == nil {
		l.Close()
		return errors.New("serve API: no TLS certificate is configured")
	}
	return s.serve(ctx, l, partExpired(s.Handler()), tlsConfig(s.config.TLS))
}

// partExpired asks a client whose certificate has expired to connect anew:
// certificates are looked at in the handshake alone, and connections can
// outlive them. Clients without a certificate have none that expires.
func partExpired(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && time.Now().After(r.TLS.PeerCertificates[0].NotAfter) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// ServeOperator serves the operator's API on l until ctx ends. l is a unix
// socket: its file's mode is the authorisation.
func (s *Server) ServeOperator(ctx context.Context, l net.Listener) error {
	if _, ok := l.Addr().(*net.UnixAddr); !ok {
		l.Close()
		return fmt.Errorf("serve operator API: %s is no unix socket", l.Addr())
	}
	return s.serve(ctx, l, s.OperatorHandler(), nil)
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler, tlsConfig *tls.Config) error {
	server := &http.Server{
		Handler:           h,
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: s.limits.HeaderTimeout,
		ReadTimeout:       s.limits.ReadTimeout,
		WriteTimeout:      s.limits.Wait + s.limits.SubmitTimeout + s.limits.WriteTimeout,
		IdleTimeout:       s.limits.IdleTimeout,
		MaxHeaderBytes:    s.limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(stopping, stoppingKey{}, ctx.Done())
	}
	done := make(chan error, 1)
	go func() {
		bounded := newBoundedListener(l, s.limits.Connections, s.limits.PerAddress)
		if tlsConfig != nil {
			done <- server.ServeTLS(bounded, "", "")
		} else {
			done <- server.Serve(bounded)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(stopping, s.limits.ShutdownTimeout)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("shut down API: %w", err), server.Close())
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve API: %w", served))
	}
	return err
}

// stoppingKey finds, in a request's context, the channel that closes when the
// server begins to stop: what waits on purpose then ends at once.
type stoppingKey struct{}

func stoppingOf(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return done
}

// boundedListener accepts no more than so many connections at once; the
// kernel's queue holds the next ones. Of one address it closes what is too many.
type boundedListener struct {
	net.Listener
	each   *gate
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBoundedListener(l net.Listener, n, each int) *boundedListener {
	return &boundedListener{Listener: l, each: newGate("connections", n, each), slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		address := addressOf(c.RemoteAddr().String())
		if !l.each.enter(address) {
			c.Close()
			continue
		}
		return &boundedConn{Conn: c, release: func() { l.each.leave(address); <-l.slots }}, nil
	}
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
