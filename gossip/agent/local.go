package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// listenLocal opens the socket or port where programs on this machine ask.
func (a *Agent) listenLocal() (net.Listener, error) {
	network, address := "unix", a.config.Local.Socket
	if a.config.Local.Listen != "" {
		network, address = "tcp", a.config.Local.Listen
	} else {
		// A socket that a killed process left behind is in the way; a live one
		// answers.
		if conn, err := net.Dial("unix", address); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen on %s: another agent runs there", address)
		}
		_ = os.Remove(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o660); err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), l.Close())
		}
	}
	return &limitedListener{Listener: l, free: make(chan struct{}, localConnections)}, nil
}

// serveLocal answers until ctx ends.
func (a *Agent) serveLocal(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: a.Handler(), MaxHeaderBytes: localHeaderBytes,
		ReadTimeout: localTimeout, WriteTimeout: localTimeout, IdleTimeout: 6 * localTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err := server.Close()
	<-ended
	return err
}

// Handler answers what other programs ask of the verified view.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, of func(v *View, r *http.Request) (any, bool)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			body, ok := of(a.view.Load(), r)
			if !ok {
				http.Error(w, `{"code":"not_found"}`, http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			if a.stale(time.Now()) {
				w.Header().Set("Quorate-Stale", "true")
			}
			_ = json.NewEncoder(w).Encode(body) // the asker is gone
		})
	}
	answer("/v1/status", func(*View, *http.Request) (any, bool) { return a.Status(), true })
	answer("/v1/epoch", func(v *View, _ *http.Request) (any, bool) { return epochOf(v), true })
	answer("/v1/keys", func(v *View, _ *http.Request) (any, bool) { return keysOf(v), true })
	answer("/v1/quarantine", func(v *View, _ *http.Request) (any, bool) { return quarantineOf(v), true })
	answer("/v1/nodes/{name}", func(v *View, r *http.Request) (any, bool) { return nodeOf(v, r.PathValue("name")) })
	if a.metrics.gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	}
	return mux
}

// limitedListener accepts so many connections at once; others wait in the
// kernel's queue.
type limitedListener struct {
	net.Listener
	free chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: conn, done: sync.OnceFunc(func() { <-l.free })}, nil
}

type limitedConn struct {
	net.Conn
	done func()
}

func (c *limitedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
