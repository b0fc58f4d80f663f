package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/spiffe"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

func (a *app) serverCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "server --config FILE",
		Short: "run a replica and its API",
		Long: `server runs one replica until it is interrupted, then hands over leadership and
closes cleanly. The configuration is YAML; an unknown key is an error that names
its line. Every key can be overridden by a flag and by the environment.`,
		Example: "  quorate server --config r1.yaml\n  QUORATE_LOG_LEVEL=debug quorate server --config r1.yaml --api-listen 127.0.0.1:8100",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if config == "" && c.Flags().NFlag() == 0 {
				return usage("say --config FILE; quorate init writes one for each replica", "there is no configuration")
			}
			settings, err := a.loadConfig(config, c.Flags())
			if err != nil {
				return err
			}
			logger := settings.Log.logger(a.logFile())
			s, err := a.openServer(c.Context(), settings, logger)
			if err != nil {
				return err
			}
			a.easeGC()
			return s.run(c.Context())
		},
	}
	c.Flags().StringVar(&config, "config", "", "the configuration file")
	configFlags(c.Flags())
	return c
}

// easeGC lets garbage grow to three times what lives, unless GOGC says
// otherwise: what lives is tens of megabytes, each statement leaves some 50 kB
// behind, and at Go's default a tenth of a loaded replica's time goes into
// collecting it.
func (a *app) easeGC() {
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
}

// logFile is where logs go: standard error, or nowhere in a test.
func (a *app) logFile() io.Writer { return a.err }

// server is a replica with its listeners.
type server struct {
	config   *serverConfig
	logger   *slog.Logger
	replica  *replica.Replica
	api      *api.Server
	public   net.Listener
	operator net.Listener
	identity *spiffe.Source // nil: the API's certificate is of files
}

// openServer reads keys, opens the replica and listens. Whatever is wrong with
// the configuration is found here, before anything runs.
func (a *app) openServer(ctx context.Context, c *serverConfig, logger *slog.Logger) (opened *server, err error) {
	rotation := replica.Rotation{Off: c.Rotation.Off, WorkFactor: c.KeyWorkFactor}
	ask := a.passphrase(c.PassphraseFile, c.KeyFile)
	key, err := keys.ReadFile(c.KeyFile, func() ([]byte, error) {
		passphrase, err := ask()
		// The keys that this replica rotates to are encrypted as its first one is.
		held := keys.SecretOf(bytes.Clone(passphrase))
		rotation.Passphrase = func() ([]byte, error) { return bytes.Clone(held.Bytes()), nil }
		return passphrase, err
	})
	if err != nil {
		return nil, err
	}
	if key.Role != fsm.RoleReplica || key.Name != c.Name {
		return nil, usage("point key_file at this replica's key", "%s is the key of the %s %s, not of the replica %s", c.KeyFile, key.Role, key.Name, c.Name)
	}
	genesis, err := readBounded(c.GenesisFile, ledger.MaxEntryBytes)
	if err != nil {
		return nil, usage("copy genesis.cbor from the ceremony", "read %s: %w", c.GenesisFile, err)
	}
	if _, _, err := ledger.ParseGenesis(genesis); err != nil {
		return nil, usage("copy genesis.cbor from the ceremony", "read %s: %w", c.GenesisFile, err)
	}
	certificate, _, err := readTLS(c.TLSCertFile, c.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	var logKey *replica.LogKey
	if c.LogKeyFile != "" {
		if logKey, err = readLogKey(c.LogKeyFile, key); err != nil {
			return nil, err
		}
	}
	identity, err := openIdentity(ctx, c, spiffe.ServerWait, logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = identity.Close()
		}
	}()
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, usage("check dir", "make %s: %w", c.Dir, causeOf(err))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r, err := replica.Open(replica.Config{
		Dir: c.Dir, Name: c.Name, Genesis: genesis, Key: key.Key, Certificate: certificate, LogKey: logKey,
		Listen: c.Listen, Seeds: c.Seeds, LogStore: c.LogStore, Logger: logger, Registerer: registry,
		Rotation: rotation, LogOverlap: c.LogOverlap,
	})
	if err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, usage("stop the other one, or name another directory", "another process runs %s: %w", c.Name, err)
		}
		return nil, refused("quorate doctor --config FILE looks closer", "open replica: %w", err)
	}
	s := &server{config: c, logger: logger, replica: r, identity: identity}
	if err := s.serveAPI(registry); err != nil {
		return nil, err
	}
	return s, s.listen()
}

func (s *server) serveAPI(registry *prometheus.Registry) error {
	backend := api.FromReplica(s.replica)
	config := api.Config{
		InsecureLoopback: s.config.API.InsecureLoopback, Version: versionText(), Logger: s.logger,
		Limits:     api.Limits{RatePerSecond: float64(s.config.API.RatePerSecond), RateBurst: s.config.API.RateBurst},
		Registerer: registry, Gatherer: registry, Operations: backend,
		Export: func(ctx context.Context, w io.Writer) error {
			_, err := audit.WritePacked(ctx, api.LogSource{Backend: backend}, w, audit.ExportOptions{Genesis: s.ledger()})
			return err
		},
		DebugBundle: func(_ context.Context, w io.Writer) error { return s.debugBundle(w, registry) },
	}
	if s.identity != nil {
		var err error
		if config.TLS, err = s.identity.ServerTLS(s.config.API.SPIFFE.Authorize); err != nil {
			return err
		}
	} else if !s.config.API.InsecureLoopback {
		// The replica's own certificate, which rotates, unless the API has one.
		config.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.replica.Certificate(), nil }}
		if s.config.API.TLSCertFile != "" {
			certificate, _, err := readTLS(s.config.API.TLSCertFile, s.config.API.TLSKeyFile)
			if err != nil {
				return err
			}
			config.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
		}
	}
	var err error
	s.api, err = api.New(backend, config)
	return err
}

func (s *server) ledger() ledger.Hash { return s.replica.Status().Ledger }

func (s *server) listen() error {
	var err error
	if s.public, err = net.Listen("tcp", s.config.API.Listen); err != nil {
		return usage("choose another api.listen, or stop what uses it", "listen on %s: %w", s.config.API.Listen, rootOf(err))
	}
	// A socket that a killed process left behind is in the way; a live one
	// answers.
	if conn, err := net.Dial("unix", s.config.Socket); err == nil {
		conn.Close()
		s.public.Close()
		return usage("stop it first", "another server runs on %s", s.config.Socket)
	}
	_ = os.Remove(s.config.Socket)
	if err := os.MkdirAll(filepath.Dir(s.config.Socket), 0o700); err != nil {
		s.public.Close()
		return usage("check socket", "make %s: %w", filepath.Dir(s.config.Socket), causeOf(err))
	}
	if s.operator, err = net.Listen("unix", s.config.Socket); err != nil {
		s.public.Close()
		return usage("choose a shorter socket path", "listen on %s: %w", s.config.Socket, rootOf(err))
	}
	if err := os.Chmod(s.config.Socket, 0o600); err != nil {
		return errors.Join(err, s.public.Close(), s.operator.Close())
	}
	return nil
}

// rootOf leaves out the operation and address that a net error repeats.
func rootOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// run serves until ctx ends or something fails. The API stops first, so that
// nothing new arrives while leadership moves on.
func (s *server) run(ctx context.Context) error {
	replicaCtx, stopReplica := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReplica()
	apiCtx, stopAPI := context.WithCancel(ctx)
	defer stopAPI()
	var serving errgroup.Group
	serving.Go(func() error { defer stopAPI(); return s.api.Serve(apiCtx, s.public) })
	serving.Go(func() error { defer stopAPI(); return s.api.ServeOperator(apiCtx, s.operator) })
	done := make(chan error, 1)
	go func() {
		defer stopAPI()
		done <- s.replica.Run(replicaCtx)
	}()
	served := serving.Wait()
	stopReplica()
	err := errors.Join(served, <-done, s.identity.Close())
	_ = os.Remove(s.config.Socket)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// debugBundle writes what a bug report needs: status, metrics and goroutines;
// no statement and no key.
func (s *server) debugBundle(w io.Writer, gatherer prometheus.Gatherer) error {
	packed, err := zstd.NewWriter(w)
	if err != nil {
		return fmt.Errorf("write debug bundle: %w", err)
	}
	archive := tar.NewWriter(packed)
	add := func(name string, data []byte) error {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Now()}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(data)
		return err
	}
	status, err := json.MarshalIndent(s.replica.Status(), "", "  ")
	if err != nil {
		return fmt.Errorf("write debug bundle: %w", err)
	}
	metrics, err := metricsText(gatherer)
	if err != nil {
		return fmt.Errorf("write debug bundle: %w", err)
	}
	about := fmt.Sprintf("%s\n%s %s/%s\ncpus %d\ngoroutines %d\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.NumGoroutine())
	return errors.Join(
		add("about.txt", []byte(about)), add("status.json", status), add("metrics.txt", metrics),
		add("goroutines.txt", profileText("goroutine")), add("heap.txt", profileText("heap")),
		archive.Close(), packed.Close())
}

func profileText(name string) []byte {
	var b writeBuffer
	if p := pprof.Lookup(name); p != nil {
		_ = p.WriteTo(&b, 1)
	}
	return b
}

type writeBuffer []byte

func (b *writeBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func metricsText(g prometheus.Gatherer) ([]byte, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, err
	}
	var b writeBuffer
	for _, f := range families {
		for _, m := range f.GetMetric() {
			fmt.Fprintf(&b, "%s %s\n", f.GetName(), m.String())
		}
	}
	return b, nil
}
