// Command replica is a replica's server with faults on demand: it can crash at
// a point, have its disk fail or its clock jump, as it is told on standard
// input, and it can be started with a planted bug. It serves test/chaos and
// knows no other use.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/ledger/audit"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/test/onereplicatest"
)

func main() {
	bug := flag.String("bug", "", "early-ack, stale-read or drop-fsync")
	onereplicatest.Main("replica", func(ctx context.Context, own *onereplicatest.Replica) error { return run(ctx, own, *bug) })
}

func run(ctx context.Context, own *onereplicatest.Replica, bug string) error {
	f, cfg := &faults{}, own.Config
	cfg.Hooks = f.hooks()
	if err := plant(bug, &cfg, f); err != nil {
		return err
	}
	r, err := replica.Open(cfg)
	if err != nil {
		return err
	}
	honest := api.FromReplica(r)
	var backend api.Backend = honest
	if bug == bugStaleRead {
		backend = staleReads{honest}
	}
	server, err := api.New(backend, api.Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{cfg.Certificate}}, Version: "chaos", Logger: cfg.Logger,
		Registerer: own.Registry, Gatherer: own.Registry, Operations: honest,
		Export: func(ctx context.Context, w io.Writer) error {
			_, err := audit.WritePacked(ctx, api.LogSource{Backend: backend}, w, audit.ExportOptions{Genesis: r.Genesis()})
			return err
		},
	})
	if err != nil {
		return errors.Join(err, r.Close())
	}
	return serve(ctx, own.Settings, r, server, f)
}

// serve runs replica and API until ctx ends. Orders are taken for as long as
// the process lives.
func serve(ctx context.Context, s *onereplicatest.Settings, r *replica.Replica, server *api.Server, f *faults) error {
	public, err := net.Listen("tcp", s.API.Listen)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	socket := filepath.Join(s.Dir, "operator.sock")
	_ = os.Remove(socket)
	operator, err := net.Listen("unix", socket)
	if err != nil {
		return errors.Join(err, public.Close(), r.Close())
	}
	go takeOrders(os.Stdin, os.Stdout, f)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx) })
	group.Go(func() error { return server.Serve(ctx, public) })
	group.Go(func() error { return server.ServeOperator(ctx, operator) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// takeOrders does as it is told, a line an order, and answers each with ok or
// with what is wrong.
func takeOrders(from io.Reader, to io.Writer, f *faults) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		answer := "ok"
		if err := f.order(lines.Text()); err != nil {
			answer = err.Error()
		}
		fmt.Fprintln(to, answer)
	}
}
