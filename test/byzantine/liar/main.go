// Command liar is a replica with legitimate keys that lies. It runs the real
// replica with its hooks, behind the real API, and does as a control socket
// tells it: until then, and after, it is honest. It serves tests of what the
// others do about it, and knows no other use.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

// settings are the keys of a server's configuration that a liar reads.
type settings struct {
	Name        string `yaml:"name"`
	Dir         string `yaml:"dir"`
	GenesisFile string `yaml:"genesis_file"`
	KeyFile     string `yaml:"key_file"`
	TLSCertFile string `yaml:"tls_cert_file"`
	TLSKeyFile  string `yaml:"tls_key_file"`
	Listen      string `yaml:"listen"`
	API         struct {
		Listen string `yaml:"listen"`
	} `yaml:"api"`
}

func main() {
	config := flag.String("config", "", "the configuration of the replica that lies")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *config); err != nil {
		fmt.Fprintln(os.Stderr, "liar:", err)
		os.Exit(1)
	}
}

func readSettings(path string) (*settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s settings
	if err := yaml.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, p := range []*string{&s.Dir, &s.GenesisFile, &s.KeyFile, &s.TLSCertFile, &s.TLSKeyFile} {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return &s, nil
}

// run is a replica's server: the replica, its API, its operator's socket, and
// the socket that says which lie to tell.
func run(ctx context.Context, path string) error {
	s, err := readSettings(path)
	if err != nil {
		return err
	}
	key, err := keys.ReadFile(s.KeyFile, nil)
	if err != nil {
		return err
	}
	genesis, err := os.ReadFile(s.GenesisFile)
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSKeyFile)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	l, err := newLiar(s, key.Key, genesis)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if l.replica, err = replica.Open(replica.Config{
		Dir: s.Dir, Name: s.Name, Genesis: genesis, Key: key.Key, Certificate: certificate, Listen: s.Listen,
		Logger: logger, Registerer: registry, Hooks: l.hooks(),
	}); err != nil {
		return err
	}
	backend := api.FromReplica(l.replica)
	server, err := api.New(backend, api.Config{InsecureLoopback: true, Version: "liar", Logger: logger,
		Registerer: registry, Gatherer: registry, Operations: backend})
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
