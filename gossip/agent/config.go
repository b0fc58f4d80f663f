package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/ledger"
)

// Config is the configuration of an agent, as its file has it. Paths are relative to
// the file.
type Config struct {
	Name           string        `yaml:"name"`
	Dir            string        `yaml:"dir"`             // the agent's own state; made if it is missing
	MemoryDir      string        `yaml:"memory_dir"`      // in memory, emptied by a boot, kept over restarts; default MemoryDir()
	KeyFile        string        `yaml:"key_file"`        // of this node
	PassphraseFile string        `yaml:"passphrase_file"` // of key_file; none: asked for, or unencrypted
	Genesis        string        `yaml:"genesis"`         // the genesis hash, in hex: the root of trust
	JoinPack       string        `yaml:"join_pack"`       // a recent head that the ledger must contain, as governors endorsed it
	MaxPackAge     time.Duration `yaml:"max_pack_age"`    // of that endorsement, at the first start; 0: 31 days
	MaxHeadAge     time.Duration `yaml:"max_head_age"`    // 0: as the ledger's policy has it
	// KeyWorkFactor is log2 of scrypt's N for the key files that the agent makes, if key_file is
	// encrypted; 0: 18, which takes 256 MB and a second.
	KeyWorkFactor int            `yaml:"key_work_factor"`
	Rotation      RotationConfig `yaml:"rotation"`
	Backup        BackupConfig   `yaml:"backup"`
	API           APIConfig      `yaml:"api"`
	Gossip        GossipConfig   `yaml:"gossip"`
	Local         LocalConfig    `yaml:"local"`
	Publish       PublishConfig  `yaml:"publish"`
	Log           LogConfig      `yaml:"log"`
}

// RotationConfig says whether the agent rotates its node's key by itself.
type RotationConfig struct {
	Off bool `yaml:"off"` // people do it, by decision: node.rekey
}

// BackupConfig says how the node's keys are backed up: in DIR/backups, for governors to
// open together.
type BackupConfig struct {
	Off       bool   `yaml:"off"`
	Threshold int    `yaml:"threshold"` // shares that open one; 0: more than half of them
	Copy      string `yaml:"copy"`      // a second folder, on another disk: a backup beside the key is lost with it
}

// APIConfig says which replicas the agent follows.
type APIConfig struct {
	Servers []string `yaml:"servers"` // base URLs
	CAFile  string   `yaml:"ca_file"` // of their certificates; none: the system's
	Pins    []string `yaml:"pins"`    // hex SHA-256 of their public keys, instead
}

// GossipConfig says how the agent meets its peers.
type GossipConfig struct {
	Listen string   `yaml:"listen"` // host:port
	Peers  []string `yaml:"peers"`  // name@host:port
	Links  []string `yaml:"links"`  // names of nodes at the far end of declared links
}

// LocalConfig says where other programs on this machine ask.
type LocalConfig struct {
	Socket string `yaml:"socket"` // unix socket; default DIR/agent.sock when listen is empty
	Listen string `yaml:"listen"` // host:port on loopback
}

// PublishConfig says what is written or run when what is enforced changes.
type PublishConfig struct {
	File     string        `yaml:"file"`      // JSON, replaced atomically
	Hook     []string      `yaml:"hook"`      // a command and its arguments
	HookTime time.Duration `yaml:"hook_time"` // at most; default 10s
}

// LogConfig says what is logged.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// DefaultConfig is what a file need not say.
func DefaultConfig() Config {
	return Config{Log: LogConfig{Level: "info", Format: "text"}, Publish: PublishConfig{HookTime: defaultHookTime}}
}

// ConfigError says what is wrong with a configuration, and where.
type ConfigError struct {
	File    string
	Line    int // 0: not known
	Problem string
}

func (e *ConfigError) Error() string {
	if e.Line > 0 {
		return e.File + ":" + strconv.Itoa(e.Line) + ": " + e.Problem
	}
	return e.File + ": " + e.Problem
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// ReadConfig reads and checks a file. An unknown or repeated key is an error. The
// error is a *ConfigError, or says why the file could not be read.
func ReadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxConfigBytes {
		return nil, &ConfigError{File: path, Problem: fmt.Sprintf("larger than %d bytes", maxConfigBytes)}
	}
	c, err := ParseConfig(path, data)
	if err != nil {
		return nil, err
	}
	c.Settle(filepath.Dir(path))
	return c, nil
}

// ParseConfig is ReadConfig of a file's content, with its paths as they stand there.
func ParseConfig(path string, data []byte) (*Config, error) {
	c := DefaultConfig()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &ConfigError{File: path, Problem: "it is empty"}
		}
		wrong := &ConfigError{File: path, Problem: err.Error()}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			wrong.Line, _ = strconv.Atoi(m[1])
			wrong.Problem = m[2]
		}
		return nil, wrong
	}
	if decoder.Decode(new(yaml.Node)) != io.EOF {
		return nil, &ConfigError{File: path, Problem: "it holds a second document"}
	}
	if key, err := c.check(); err != nil {
		return nil, &ConfigError{File: path, Line: lineOf(data, key), Problem: key + ": " + err.Error()}
	}
	return &c, nil
}

// lineOf finds the line of a dotted key, or of as much of it as stands there.
func lineOf(data []byte, key string) int {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || len(doc.Content) == 0 {
		return 0
	}
	node, line := doc.Content[0], 0
	for _, part := range strings.Split(key, ".") {
		found := false
		for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == part {
				node, line, found = node.Content[i+1], node.Content[i].Line, true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}

// Settle makes paths relative to dir, and chooses the socket.
func (c *Config) Settle(dir string) {
	for _, p := range []*string{&c.Dir, &c.MemoryDir, &c.KeyFile, &c.PassphraseFile, &c.JoinPack, &c.Backup.Copy, &c.API.CAFile, &c.Local.Socket, &c.Publish.File} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Local.Socket == "" && c.Local.Listen == "" {
		c.Local.Socket = filepath.Join(c.Dir, "agent.sock")
	}
}

// Check says which key is wrong, and why.
func (c *Config) Check() error {
	if key, err := c.check(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (c *Config) check() (key string, err error) {
	for _, f := range []struct{ key, value string }{
		{"name", c.Name}, {"dir", c.Dir}, {"key_file", c.KeyFile}, {"genesis", c.Genesis}, {"gossip.listen", c.Gossip.Listen},
	} {
		if f.value == "" {
			return f.key, errors.New("missing")
		}
	}
	if err := ledger.ValidName(c.Name); err != nil {
		return "name", err
	}
	if _, err := ledger.ParseHash(c.Genesis); err != nil {
		return "genesis", err
	}
	if c.MaxPackAge < 0 || c.MaxPackAge > 0 && c.JoinPack == "" {
		return "max_pack_age", errors.New("it belongs to a join_pack, and is not below zero")
	}
	if c.MaxHeadAge < 0 {
		return "max_head_age", errors.New("below zero")
	}
	if f := c.KeyWorkFactor; f != 0 && (f < minWorkFactor || f > maxWorkFactor) {
		return "key_work_factor", fmt.Errorf("from %d to %d, or 0 for the default", minWorkFactor, maxWorkFactor)
	}
	if k := c.Backup.Threshold; k != 0 && (k < minBackupShares || k > ledger.MaxShares) {
		return "backup.threshold", fmt.Errorf("from %d to %d, or 0 for more than half", minBackupShares, ledger.MaxShares)
	}
	for _, part := range []func() (string, error){c.API.check, c.Gossip.check, c.Local.check, c.Publish.check, c.Log.check} {
		if key, err := part(); err != nil {
			return key, err
		}
	}
	return "", nil
}

func (a *APIConfig) check() (string, error) {
	if len(a.Servers) > maxServers {
		return "api.servers", fmt.Errorf("at most %d", maxServers)
	}
	for _, pin := range a.Pins {
		if _, err := ledger.ParseHash(pin); err != nil {
			return "api.pins", err
		}
	}
	return "", nil
}

// Peer is a node to meet, and where.
type Peer struct{ Name, Address string }

// ParsePeer reads name@host:port.
func ParsePeer(text string) (Peer, error) {
	name, address, ok := strings.Cut(text, "@")
	if !ok {
		return Peer{}, fmt.Errorf("want name@host:port, got %q", text)
	}
	if err := ledger.ValidName(name); err != nil {
		return Peer{}, err
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return Peer{}, fmt.Errorf("want name@host:port, got %q", text)
	}
	return Peer{name, address}, nil
}

func (g *GossipConfig) check() (string, error) {
	if _, _, err := net.SplitHostPort(g.Listen); err != nil {
		return "gossip.listen", fmt.Errorf("want host:port, got %q", g.Listen)
	}
	if len(g.Peers) > maxPeers {
		return "gossip.peers", fmt.Errorf("at most %d", maxPeers)
	}
	for _, p := range g.Peers {
		if _, err := ParsePeer(p); err != nil {
			return "gossip.peers", err
		}
	}
	if len(g.Links) > maxLinks {
		return "gossip.links", fmt.Errorf("at most %d", maxLinks)
	}
	for i, name := range g.Links {
		if err := ledger.ValidName(name); err != nil {
			return "gossip.links", err
		}
		if slices.Contains(g.Links[:i], name) {
			return "gossip.links", fmt.Errorf("%s stands twice", name)
		}
	}
	return "", nil
}

func (l *LocalConfig) check() (string, error) {
	if l.Listen == "" {
		return "", nil
	}
	host, _, err := net.SplitHostPort(l.Listen)
	if err != nil {
		return "local.listen", fmt.Errorf("want host:port, got %q", l.Listen)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "local.listen", fmt.Errorf("%s is not loopback, and there is no authentication", host)
	}
	return "", nil
}

func (p *PublishConfig) check() (string, error) {
	if p.HookTime < 0 || p.HookTime > maxHookTime {
		return "publish.hook_time", fmt.Errorf("from 0s to %s", maxHookTime)
	}
	return "", nil
}

func (l *LogConfig) check() (string, error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		return "log.level", fmt.Errorf("want debug, info, warn or error, got %q", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		return "log.format", fmt.Errorf("want text or json, got %q", l.Format)
	}
	return "", nil
}

// memoryDir is where the running system remembers how far the seqs are used.
func (c *Config) memoryDir() string {
	if c.MemoryDir != "" {
		return c.MemoryDir
	}
	return MemoryDir()
}
