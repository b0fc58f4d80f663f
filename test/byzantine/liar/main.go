// Command liar is a replica with legitimate keys that lies. It runs the real
// replica with its hooks, behind the real API, and does as a control socket
// tells it: until then, and after, it is honest. It serves tests of what the
// others do about it, and knows no other use.
package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/test/onereplicatest"
)

func main() { onereplicatest.Main("liar", run) }

// run is a replica's server: the replica, its API, its operator's socket, and
// the socket that says which lie to tell.
func run(ctx context.Context, own *onereplicatest.Replica) error {
	l, err := newLiar(own.Settings, own.Key.Key, own.Config.Genesis)
	if err != nil {
		return err
	}
	cfg, s := own.Config, own.Settings
	cfg.LogKey, cfg.Hooks = nil, l.hooks()
	if l.replica, err = replica.Open(cfg); err != nil {
		return err
	}
	backend := api.FromReplica(l.replica)
	server, err := api.New(backend, api.Config{InsecureLoopback: true, Version: "liar", Logger: cfg.Logger,
		Registerer: own.Registry, Gatherer: own.Registry, Operations: backend})
	if err != nil {
		return errors.Join(err, l.replica.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	l.ctx = ctx
	group.Go(func() error { return l.replica.Run(ctx) })
	group.Go(func() error { return serve(ctx, "tcp", s.API.Listen, l.public(server.Handler())) })
	group.Go(func() error {
		return serve(ctx, "unix", filepath.Join(s.Dir, "operator.sock"), server.OperatorHandler())
	})
	group.Go(func() error { return serve(ctx, "unix", filepath.Join(s.Dir, "liar.sock"), l.control()) })
	err = group.Wait()
	l.wg.Wait()
	return err
}

// serve serves until ctx ends.
func serve(ctx context.Context, network, address string, handler http.Handler) error {
	if network == "unix" {
		_ = os.Remove(address)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
