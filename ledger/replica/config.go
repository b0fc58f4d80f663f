// Package replica is one replica of the ledger: hashicorp/raft around the pure
// FSM, the history on disk, cosigning and certification, and its peers over one
// mutually pinned listener. DESIGN.md says how it hangs together.
package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Config is all that a replica needs to know. Dir, Name, Genesis, Key,
// Certificate and Listen have no defaults.
type Config struct {
	Dir, Name   string
	Genesis     []byte           // entry 0
	Key         *keys.PrivateKey // its id is the Raft server id
	Certificate tls.Certificate  // the hash of its SubjectPublicKeyInfo is the ledger's tls_pin
	LogKey      *LogKey          // nil: from disk, else fetched from a peer over the pinned channel
	Listen      string           // host:port for peers; the ledger's peer is what others dial
	Seeds       []string         // host:port of peers that a replica unknown to genesis may learn the set from
	LogStore    string           // LogStoreBolt (default) or LogStoreWAL
	LogOverlap  time.Duration    // how long the log key before goes on making its lines; 0: a day, below 0: not at all
	Rotation    Rotation         // of its own key
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	Network     Network    // nil: TCP
	Raft        RaftTuning // zero: defaults
	Limits      Limits     // zero: defaults of limits.go
	Hooks       *Hooks     // nil but in tests
}

// The log stores.
const (
	LogStoreBolt = "bolt"
	LogStoreWAL  = "wal"
)

// LogKey is the log's own secret: the seeds of its Ed25519 and ML-DSA-44 keys.
// It carries no authority; third-party tools want a log key.
type LogKey struct {
	Ed25519, MLDSA44 [32]byte
}

// Format keeps the seeds out of logs, whatever the verb.
func (k LogKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "log key") }

// Public gives the public halves.
func (k LogKey) Public(origin string) ledger.LogKeys {
	return ledger.NewLogSigner(origin, k.Ed25519, k.MLDSA44).Keys()
}

// Network is how a replica listens and dials. A simulation gives its own.
type Network interface {
	Listen(ctx context.Context, address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
}

type tcp struct{}

func (tcp) Listen(ctx context.Context, address string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, "tcp", address)
}

func (tcp) Dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// RaftTuning holds Raft's own knobs. A zero field takes its default.
type RaftTuning struct {
	Heartbeat, Election, LeaderLease time.Duration
	Commit                           time.Duration
	SnapshotInterval                 time.Duration
	SnapshotThreshold, TrailingLogs  uint64
	MaxAppendEntries                 int
	WALSegmentBytes                  int
	NoSync                           bool // tests only: a crash may then lose acknowledged statements
}

func (t RaftTuning) withDefaults() RaftTuning {
	// A follower stands for election after 0.45 to 0.9 s of silence, and again
	// 0.45 to 0.9 s after a tie: writers wait less than 1.5 s for a new leader,
	// also where all three of four that are left must have missed it. The leader
	// speaks ten times as often, and steps down as late as Raft lets it, so that a
	// starved machine does not elect for nothing. test/bench measures both.
	orInt(&t.Heartbeat, 450*time.Millisecond)
	orInt(&t.Election, t.Heartbeat)
	orInt(&t.LeaderLease, t.Heartbeat)
	orInt(&t.Commit, 25*time.Millisecond)
	orInt(&t.SnapshotInterval, 2*time.Minute)
	orInt(&t.MaxAppendEntries, 512)
	orInt(&t.WALSegmentBytes, 64<<20)
	if t.SnapshotThreshold == 0 {
		t.SnapshotThreshold = 32_768
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 32_768
	}
	return t
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("configure replica: dir is missing")
	case c.Key == nil:
		return errors.New("configure replica: key is missing")
	case len(c.Certificate.Certificate) == 0:
		return errors.New("configure replica: certificate is missing")
	case c.Listen == "":
		return errors.New("configure replica: listen is missing")
	}
	if err := ledger.ValidName(c.Name); err != nil {
		return fmt.Errorf("configure replica: %w", err)
	}
	switch c.LogStore {
	case "":
		c.LogStore = LogStoreBolt
	case LogStoreBolt, LogStoreWAL:
	default:
		return fmt.Errorf("configure replica: log store %q, want %s or %s", c.LogStore, LogStoreBolt, LogStoreWAL)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogOverlap == 0 {
		c.LogOverlap = logOverlap
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Network == nil {
		c.Network = tcp{}
	}
	c.Limits = c.Limits.withDefaults()
	c.Raft = c.Raft.withDefaults()
	return nil
}
