package stagehand

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/ledger"
)

// Ledger is a ledger of real processes with TLS, whose people are runs of the
// program quorate, each with a key of its own in the folder keys.
type Ledger struct {
	*Scene
	Genesis ledger.Hash
	Entry   []byte        // entry 0; nil until Found
	Pins    []ledger.Hash // of replicas' TLS keys, as people know them

	// Servers are the URLs that people's commands are given, as they are now.
	Servers func() []string
	// Ran takes note of each command; nil: nobody does. It is called by several
	// goroutines.
	Ran func(*Answer)

	looks *http.Client // at replicas, and trusts none
}

// NewLedger makes a scene for a ledger in a directory that exists, with the folders
// home, keys, nodes and joins.
func NewLedger(r *Report, bin, dir string) (*Ledger, error) {
	scene, err := NewScene(r, bin, dir)
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"home", "keys", "nodes", "joins"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	return &Ledger{Scene: scene, looks: &http.Client{Timeout: lookLimit, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}}}, nil
}

// Found has the ceremony's text made into the folder ledger, and reads its genesis.
func (l *Ledger) Found(ctx context.Context, ceremony string) error {
	if err := l.Writes("ceremony.yaml", []byte(ceremony)); err != nil {
		return err
	}
	if err := l.Command(ctx, "init", "--ceremony", "ceremony.yaml", "--out", "ledger").Failed(); err != nil {
		return err
	}
	entry, err := os.ReadFile(filepath.Join(l.Dir, "ledger", "genesis.cbor"))
	if err != nil {
		return err
	}
	g, hash, err := ledger.ParseGenesis(entry)
	if err != nil {
		return err
	}
	l.Entry, l.Genesis = entry, hash
	for _, r := range g.Replicas {
		l.Pins = append(l.Pins, r.TLSPin)
	}
	return nil
}

// Writes writes a file of the scene.
func (l *Ledger) Writes(path string, b []byte) error {
	return os.WriteFile(filepath.Join(l.Dir, path), b, 0o600)
}

// Look reads a path of a replica's API, and believes what comes: who leads, and how
// far somebody is, is no matter of trust, and replicas change their TLS keys.
func (l *Ledger) Look(ctx context.Context, r *Replica, path string, out any) error {
	b, err := Get(ctx, l.looks, r.URL()+path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// Replica is one replica's process.
type Replica struct {
	Name, Operator string
	Peer, API      string // host:port
	Process        *Process
}

// URL is where its API is.
func (r *Replica) URL() string { return "https://" + r.API }

// ReplicaStatus is what is read of a replica's own word.
type ReplicaStatus struct {
	Role      string `json:"role"`
	Ready     bool   `json:"ready"`
	Applied   uint64 `json:"applied"`
	Certified uint64 `json:"certified"`
	GapTo     uint64 `json:"gap_to"` // until it has the history before
}

// Ready waits until a replica has caught up and has a certified head. A process that
// ends by itself meanwhile is an error at once.
func (l *Ledger) Ready(ctx context.Context, limit time.Duration, r *Replica) error {
	var s ReplicaStatus
	var failed, ended error
	err := Await(ctx, limit, r.Name+" is ready", func() bool {
		if r.Process == nil {
			ended = fmt.Errorf("%s does not run", r.Name)
		} else if err, gone := r.Process.Gone(); gone {
			ended, r.Process = fmt.Errorf("%s ended by itself: %w", r.Name, err), nil
		}
		if ended != nil {
			return true
		}
		s = ReplicaStatus{}
		failed = l.Look(ctx, r, "/v1/status", &s)
		return failed == nil && s.Ready && s.Certified > 0 && s.GapTo == 0 && (s.Role == "leader" || s.Role == "follower")
	})
	if ended != nil {
		return ended
	}
	if err != nil {
		return fmt.Errorf("%w: %+v, %v", err, s, failed)
	}
	return nil
}

// Agent is one node's agent, a process.
type Agent struct {
	Name, Operator string
	Listen         string // host:port of gossip
	Socket         string // of its own API
	Process        *Process
}

// AgentStatus is what is read of GET /v1/status of an agent.
type AgentStatus struct {
	Standing string            `json:"standing"`
	Size     uint64            `json:"size"`
	Epoch    uint64            `json:"epoch"`
	Alarm    bool              `json:"alarm"`
	Trouble  map[string]string `json:"trouble"`
	Peers    int               `json:"peers"`
	Stale    bool              `json:"stale"`
	Waiting  int               `json:"waiting"`
	Key      struct {
		ID      string `json:"id"`
		ValidTo uint64 `json:"valid_to"`
		Next    string `json:"next"`
	} `json:"key"`
}

// Status asks the agent.
func (a *Agent) Status(ctx context.Context) (s AgentStatus, err error) {
	b, err := Get(ctx, Unix(a.Socket, lookLimit), "http://agent/v1/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// Awaits waits until an agent's status is as it should be.
func (a *Agent) Awaits(ctx context.Context, limit time.Duration, what string, holds func(*AgentStatus) bool) error {
	var s AgentStatus
	var failed error
	err := Await(ctx, limit, a.Name+" "+what, func() bool {
		s, failed = a.Status(ctx)
		return failed == nil && holds(&s)
	})
	if err != nil {
		return fmt.Errorf("%w: %+v, %v", err, s, failed)
	}
	return nil
}

// Follows waits until an agent has a certified state of now in which it is active.
func (a *Agent) Follows(ctx context.Context, limit time.Duration) error {
	return a.Awaits(ctx, limit, "follows the ledger", func(s *AgentStatus) bool { return s.Standing == "active" && !s.Stale })
}
