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
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/ledger/audit"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

// settings are the keys of a server's configuration that this program reads.
type settings struct {
	Name        string `yaml:"name"`
	Dir         string `yaml:"dir"`
	GenesisFile string `yaml:"genesis_file"`
	KeyFile     string `yaml:"key_file"`
	TLSCertFile string `yaml:"tls_cert_file"`
	TLSKeyFile  string `yaml:"tls_key_file"`
	LogKeyFile  string `yaml:"log_key_file"`
	Listen      string `yaml:"listen"`
	API         struct {
		Listen string `yaml:"listen"`
	} `yaml:"api"`
}

func main() {
	config := flag.String("config", "", "the configuration of the replica")
	bug := flag.String("bug", "", "early-ack, stale-read or drop-fsync")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *config, *bug); err != nil {
		fmt.Fprintln(os.Stderr, "replica:", err)
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
	for _, p := range []*string{&s.Dir, &s.GenesisFile, &s.KeyFile, &s.TLSCertFile, &s.TLSKeyFile, &s.LogKeyFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return &s, nil
}

// readLogKey opens the log's sealed key; nil without one.
func readLogKey(path string, holder *keys.File) (*replica.LogKey, error) {
	if path == "" {
		return nil, nil
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	plain, err := keys.OpenWith(holder.Identity, sealed)
	if err != nil {
		return nil, err
	}
	var seeds struct {
		Ed25519 [32]byte `json:"ed25519"`
		MLDSA44 [32]byte `json:"mldsa44"`
		Type    string   `json:"type"`
	}
	if err := canon.Unmarshal(plain, &seeds); err != nil {
		return nil, err
	}
	return &replica.LogKey{Ed25519: seeds.Ed25519, MLDSA44: seeds.MLDSA44}, nil
}

func run(ctx context.Context, path, bug string) error {
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
	logKey, err := readLogKey(s.LogKeyFile, key)
	if err != nil {
		return err
	}
	f := &faults{}
	registry := prometheus.NewRegistry()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg := replica.Config{
		Dir: s.Dir, Name: s.Name, Genesis: genesis, Key: key.Key, Certificate: certificate, LogKey: logKey, Listen: s.Listen,
		Logger: logger, Registerer: registry, Hooks: f.hooks(),
	}
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
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Version: "chaos", Logger: logger,
		Registerer: registry, Gatherer: registry, Operations: honest,
		Export: func(ctx context.Context, w io.Writer) error {
			_, err := audit.WritePacked(ctx, api.LogSource{Backend: backend}, w, audit.ExportOptions{Genesis: r.Genesis()})
			return err
		},
	})
	if err != nil {
		return errors.Join(err, r.Close())
	}
	return serve(ctx, s, r, server, f)
}

// serve runs replica and API until ctx ends. Orders are taken for as long as
// the process lives.
func serve(ctx context.Context, s *settings, r *replica.Replica, server *api.Server, f *faults) error {
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
