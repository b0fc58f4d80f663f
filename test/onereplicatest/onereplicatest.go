// Package onereplicatest opens a replica from the configuration of a server, as the
// test programs need it that are one replica with hooks: what they share with
// quorate server, and nothing that they alter.
package onereplicatest

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

// Settings are the keys of a server's configuration that these programs read.
type Settings struct {
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

// Replica is what a program begins with.
type Replica struct {
	Settings *Settings
	Key      *keys.File
	Registry *prometheus.Registry
	Config   replica.Config // without hooks
}

// Main parses --config and the program's other flags, runs until a signal, and
// exits with 1 on an error.
func Main(program string, run func(ctx context.Context, own *Replica) error) {
	path := flag.String("config", "", "the configuration of the replica")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	own, err := Read(*path)
	if err == nil {
		err = run(ctx, own)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

// Read reads a server's configuration and the files that it names, and makes the
// data directory.
func Read(path string) (*Replica, error) {
	s, err := readSettings(path)
	if err != nil {
		return nil, err
	}
	key, err := keys.ReadFile(s.KeyFile, nil)
	if err != nil {
		return nil, err
	}
	genesis, err := os.ReadFile(s.GenesisFile)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	logKey, err := readLogKey(s.LogKeyFile, key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	return &Replica{Settings: s, Key: key, Registry: registry, Config: replica.Config{
		Dir: s.Dir, Name: s.Name, Genesis: genesis, Key: key.Key, Certificate: certificate, LogKey: logKey, Listen: s.Listen,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Registerer: registry,
	}}, nil
}

func readSettings(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s Settings
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
