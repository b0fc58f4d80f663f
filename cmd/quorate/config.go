package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// serverConfig is the configuration of a replica's server. Paths are relative
// to the file. Every key can be overridden by a flag (api.listen is
// --api-listen) and by the environment (QUORATE_API_LISTEN).
type serverConfig struct {
	Name           string         `yaml:"name"`
	Dir            string         `yaml:"dir"`             // data; made if it is missing
	GenesisFile    string         `yaml:"genesis_file"`    // entry 0
	KeyFile        string         `yaml:"key_file"`        // of this replica
	PassphraseFile string         `yaml:"passphrase_file"` // of key_file; none: asked for
	TLSCertFile    string         `yaml:"tls_cert_file"`
	TLSKeyFile     string         `yaml:"tls_key_file"`
	LogKeyFile     string         `yaml:"log_key_file"`    // none: fetched from a peer
	Listen         string         `yaml:"listen"`          // for other replicas, host:port
	Seeds          []string       `yaml:"seeds"`           // peers that a replica unknown to genesis asks first
	LogStore       string         `yaml:"log_store"`       // bolt or wal
	Socket         string         `yaml:"socket"`          // unix socket of quorate operator; default DIR/operator.sock
	LogOverlap     time.Duration  `yaml:"log_overlap"`     // how long the log key before signs on after log.rekey; 0: a day
	Rotation       rotationConfig `yaml:"rotation"`        // of this replica's own key
	KeyWorkFactor  int            `yaml:"key_work_factor"` // scrypt's, of the key files that it makes; 0: the default
	API            apiConfig      `yaml:"api"`
	Log            logConfig      `yaml:"log"`
}

type rotationConfig struct {
	Off bool `yaml:"off"` // make no new key; quorate propose replica.rekey is then all that does
}

type apiConfig struct {
	Listen           string       `yaml:"listen"`            // host:port
	TLSCertFile      string       `yaml:"tls_cert_file"`     // default: the replica's own
	TLSKeyFile       string       `yaml:"tls_key_file"`      // default: the replica's own
	InsecureLoopback bool         `yaml:"insecure_loopback"` // plain HTTP; listen must be loopback
	RatePerSecond    int          `yaml:"rate_per_second"`   // requests of one address; 0: the default, 500
	RateBurst        int          `yaml:"rate_burst"`        // and at once; 0: the default, 2,000
	SPIFFE           spiffeConfig `yaml:"spiffe"`            // instead of the files
}

type logConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

func defaultServerConfig() serverConfig {
	return serverConfig{LogStore: replica.LogStoreBolt, Log: logConfig{Level: "info", Format: "text"}}
}

// configPaths are the keys that name files, which are relative to the config.
func (c *serverConfig) paths() []*string {
	return []*string{&c.Dir, &c.GenesisFile, &c.KeyFile, &c.PassphraseFile, &c.TLSCertFile, &c.TLSKeyFile,
		&c.LogKeyFile, &c.Socket, &c.API.TLSCertFile, &c.API.TLSKeyFile}
}

// configFlags declares a flag for every key of the configuration.
func configFlags(flags *pflag.FlagSet) {
	eachKey(reflect.TypeOf(serverConfig{}), "", func(key string, t reflect.Type) {
		flags.String(flagOf(key), "", fmt.Sprintf("overrides %s (%s; also %s)", key, kindInWords(t), variableOf(key)))
	})
}

func flagOf(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

func variableOf(key string) string {
	return "QUORATE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// eachKey visits every scalar or list of t by its dotted key.
func eachKey(t reflect.Type, prefix string, visit func(key string, t reflect.Type)) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := join(prefix, field.Tag.Get("yaml"))
		if field.Type.Kind() == reflect.Struct {
			eachKey(field.Type, key, visit)
			continue
		}
		visit(key, field.Type)
	}
}

// loadConfig reads the file, then the environment, then the flags, and checks
// the whole once.
func (a *app) loadConfig(path string, flags *pflag.FlagSet) (*serverConfig, error) {
	c := defaultServerConfig()
	if path != "" {
		if err := readYAML(path, &c); err != nil {
			return nil, err
		}
		c.settle(filepath.Dir(path))
	}
	if flags != nil {
		socket := c.Socket
		if err := a.override(&c, flags); err != nil {
			return nil, err
		}
		if c.Socket == socket {
			c.Socket = ""
			c.settle("")
		}
	}
	if err := c.check(); err != nil {
		var wrong *keyError
		if path != "" && errors.As(err, &wrong) {
			return nil, usage("correct the configuration", "%w", wrong.in(path))
		}
		return nil, usage("correct the configuration", "%s: %w", orText(path, "flags"), err)
	}
	return &c, nil
}

// maxSocketPath is what the kernel takes as a unix socket's path.
const maxSocketPath = 104

// settle reads paths as seen from dir, and chooses the socket.
func (c *serverConfig) settle(dir string) {
	for _, p := range c.paths() {
		*p = relativeTo(dir, *p)
	}
	if c.Socket != "" || c.Dir == "" {
		return
	}
	c.Socket = filepath.Join(c.Dir, "operator.sock")
	if absolute, err := filepath.Abs(c.Socket); err == nil && len(absolute) > maxSocketPath {
		sum := sha256.Sum256([]byte(absolute))
		c.Socket = filepath.Join(os.TempDir(), "quorate-"+hexOf(sum[:8])+".sock")
	}
}

func (a *app) override(c *serverConfig, flags *pflag.FlagSet) error {
	var failed error
	eachKey(reflect.TypeOf(*c), "", func(key string, _ reflect.Type) {
		if text := a.getenv(variableOf(key)); text != "" && failed == nil {
			failed = setKey(c, key, text, variableOf(key))
		}
		if flag := flags.Lookup(flagOf(key)); flag != nil && flag.Changed && failed == nil {
			failed = setKey(c, key, flag.Value.String(), "--"+flag.Name)
		}
	})
	return failed
}

// setKey sets one key from text; from names where the text stands.
func setKey(c *serverConfig, key, text, from string) error {
	v := reflect.ValueOf(c).Elem()
	for _, part := range strings.Split(key, ".") {
		v = v.Field(yamlFields(v.Type())[part])
	}
	if v.Kind() == reflect.Slice {
		parts := strings.Split(text, ",")
		list := reflect.MakeSlice(v.Type(), len(parts), len(parts))
		for i, part := range parts {
			if err := setScalar(list.Index(i), part); err != nil {
				return usage("correct it", "%s: %w", from, err)
			}
		}
		v.Set(list)
		return nil
	}
	if err := setScalar(v, text); err != nil {
		return usage("correct it", "%s: %w", from, err)
	}
	return nil
}

// check says what is missing or cannot be.
func (c *serverConfig) check() error {
	for _, f := range []struct{ key, value string }{
		{"name", c.Name}, {"dir", c.Dir}, {"genesis_file", c.GenesisFile}, {"key_file", c.KeyFile},
		{"tls_cert_file", c.TLSCertFile}, {"tls_key_file", c.TLSKeyFile}, {"listen", c.Listen}, {"api.listen", c.API.Listen},
	} {
		if f.value == "" {
			return fmt.Errorf("%s: missing", f.key)
		}
	}
	if err := ledger.ValidName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	for _, f := range []struct{ key, value string }{{"listen", c.Listen}, {"api.listen", c.API.Listen}} {
		if _, _, err := net.SplitHostPort(f.value); err != nil {
			return fmt.Errorf("%s: want host:port, got %q", f.key, f.value)
		}
	}
	if c.API.InsecureLoopback && !isLoopback(c.API.Listen) {
		return fmt.Errorf("api.insecure_loopback: plain HTTP is for loopback only, and api.listen is %s", c.API.Listen)
	}
	if c.API.RatePerSecond < 0 || c.API.RateBurst < 0 {
		return fmt.Errorf("api.rate_per_second: neither it nor api.rate_burst is below zero")
	}
	if (c.API.TLSCertFile == "") != (c.API.TLSKeyFile == "") {
		return fmt.Errorf("api.tls_cert_file: give it together with api.tls_key_file")
	}
	if err := c.API.checkSPIFFE(); err != nil {
		return err
	}
	if c.KeyWorkFactor != 0 && (c.KeyWorkFactor < 10 || c.KeyWorkFactor > 20) {
		return fmt.Errorf("key_work_factor: want 10 to 20, got %d", c.KeyWorkFactor)
	}
	if c.LogStore != replica.LogStoreBolt && c.LogStore != replica.LogStoreWAL {
		return fmt.Errorf("log_store: want %s or %s, got %q", replica.LogStoreBolt, replica.LogStoreWAL, c.LogStore)
	}
	if _, err := c.Log.level(); err != nil {
		return err
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("log.format: want text or json, got %q", c.Log.Format)
	}
	return nil
}

func (l logConfig) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return level, fmt.Errorf("log.level: want debug, info, warn or error, got %q", l.Level)
	}
	return level, nil
}

func (l logConfig) logger(w io.Writer) *slog.Logger {
	level, err := l.level()
	if err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// isLoopback says whether host:port names this machine only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// replicaConfig writes the configuration of a replica of the ceremony, with
// paths as seen from dir.
func replicaConfig(r ledger.Replica, dir, keyFile string) ([]byte, error) {
	if absolute, err := filepath.Abs(keyFile); err == nil {
		if base, err := filepath.Abs(dir); err == nil {
			if relative, err := filepath.Rel(base, absolute); err == nil {
				keyFile = relative
			}
		}
	}
	base := strings.TrimSuffix(keyFile, ".key")
	doc := fileConfig{
		Name: r.Name, Dir: r.Name, GenesisFile: "genesis.cbor", KeyFile: keyFile,
		TLSCertFile: base + ".tls.crt", TLSKeyFile: base + ".tls.key", LogKeyFile: "log.key.age",
		Listen: r.Peer,
	}
	if u, err := url.Parse(r.API); err == nil && u.Host != "" {
		doc.API.Listen = u.Host
		doc.API.InsecureLoopback = u.Scheme == "http" && isLoopback(u.Host)
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", r.Name, err)
	}
	head := fmt.Sprintf("# %s: quorate server --config THIS FILE. Paths are relative to it; an unknown\n# key is an error. Every key has a flag and a variable, QUORATE_API_LISTEN.\n", r.Name)
	return append([]byte(head), out...), nil
}

// fileConfig is serverConfig as init writes it: without what has a default.
type fileConfig struct {
	Name        string `yaml:"name"`
	Dir         string `yaml:"dir"`
	GenesisFile string `yaml:"genesis_file"`
	KeyFile     string `yaml:"key_file"`
	TLSCertFile string `yaml:"tls_cert_file"`
	TLSKeyFile  string `yaml:"tls_key_file"`
	LogKeyFile  string `yaml:"log_key_file,omitempty"`
	Listen      string `yaml:"listen"`
	API         struct {
		Listen           string `yaml:"listen"`
		InsecureLoopback bool   `yaml:"insecure_loopback,omitempty"`
	} `yaml:"api"`
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
