package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/freeport"
)

// startLimit is how long a cluster may take until it certifies.
const startLimit = time.Minute

// member is one replica: `quorate server` with its configuration file.
type member struct {
	name   string
	api    string // host:port
	peer   string // host:port
	config string // file
	dir    string
	flags  []string
	child  *process // nil while it is down
}

// cluster is a ledger of replica processes on loopback: real peers over mTLS,
// fsync on, the API in plain HTTP.
type cluster struct {
	program string
	dir     string
	genesis ledger.Hash
	members []*member
	council []*keys.File
	signers []*signer // of the replicas' keys: who writes records
}

// council of every ledger here: three operators, of which two decide.
var council = []struct{ name, operator string }{{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"}}

// founding is what tells one ledger from another, as lines of the ceremony.
type founding struct {
	operators string // beside the council's; "" for none
	policy    string // "" for the default
}

// measured is the founding of most ledgers here: a day's epoch, and no quota that
// a benchmark meets. Every other rule is the default.
var measured = founding{policy: "policy: {epoch_millis: 86400000, quota: 4294967296}\n"}

// The API's own rate limit is per address; the load here comes from one.
var serverFlags = []string{"--log-level", "warn", "--api-rate-per-second", "1000000", "--api-rate-burst", "1000000"}

// found makes keys and genesis as a user does, with the program itself.
func found(program, dir string, replicas int, f founding, flags ...string) (*cluster, error) {
	c := &cluster{program: program, dir: dir}
	keyDir := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keyDir, 0o700); err != nil {
		return nil, err
	}
	var ceremony strings.Builder
	ceremony.WriteString("origin: localhost/quorate-bench\ncouncil:\n")
	for _, g := range council {
		if err := run(program, "keygen", "governor", g.name, "--operator", g.operator, "--insecure-plain", "--out", keyDir); err != nil {
			return nil, err
		}
		fmt.Fprintf(&ceremony, "  - keys/%s.pub\n", g.name)
	}
	port, err := freeport.Find(2 * replicas)
	if err != nil {
		return nil, err
	}
	ceremony.WriteString("replicas:\n")
	for i := range replicas {
		m := &member{name: fmt.Sprintf("r%d", i), api: fmt.Sprintf("127.0.0.1:%d", port+2*i+1), peer: fmt.Sprintf("127.0.0.1:%d", port+2*i)}
		m.config, m.dir = filepath.Join(dir, m.name+".yaml"), filepath.Join(dir, m.name)
		m.flags = append(append([]string{}, serverFlags...), flags...)
		if err := run(program, "keygen", "replica", m.name, "--operator", council[i%len(council)].operator, "--insecure-plain",
			"--out", keyDir, "--peer", m.peer, "--api", "http://"+m.api); err != nil {
			return nil, err
		}
		fmt.Fprintf(&ceremony, "  - public: keys/%s.pub\n", m.name)
		c.members = append(c.members, m)
	}
	ceremony.WriteString(f.operators + f.policy)
	file := filepath.Join(dir, "ceremony.yaml")
	if err := os.WriteFile(file, []byte(ceremony.String()), 0o600); err != nil {
		return nil, err
	}
	if err := run(program, "init", "--ceremony", file, "--out", dir); err != nil {
		return nil, err
	}
	return c, c.readKeys()
}

func (c *cluster) readKeys() error {
	entry, err := os.ReadFile(filepath.Join(c.dir, "genesis.cbor"))
	if err != nil {
		return err
	}
	c.genesis = ledger.LeafHash(entry)
	for _, g := range council {
		file, err := keys.ReadFile(filepath.Join(c.dir, "keys", g.name+".key"), nil)
		if err != nil {
			return err
		}
		c.council = append(c.council, file)
	}
	for _, m := range c.members {
		file, err := keys.ReadFile(filepath.Join(c.dir, "keys", m.name+".key"), nil)
		if err != nil {
			return err
		}
		c.signers = append(c.signers, &signer{key: file.Key, author: m.name, ledger: c.genesis})
	}
	return nil
}

// run runs a command to its end.
func run(program string, arguments ...string) error {
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(arguments, " "), err, out)
	}
	return nil
}

func (c *cluster) startMember(m *member) (err error) {
	m.child, err = start("quorate "+m.name, c.program, append([]string{"server", "--config", m.config}, m.flags...)...)
	return err
}

// start starts every replica and waits until there is a certified head.
func (c *cluster) start(ctx context.Context) error {
	for _, m := range c.members {
		if err := c.startMember(m); err != nil {
			return err
		}
	}
	return c.awaitCertified(ctx, 1)
}

// stop ends every replica.
func (c *cluster) stop() error {
	if c == nil {
		return nil
	}
	var children []*process
	for _, m := range c.members {
		if m.child != nil {
			children = append(children, m.child)
			m.child = nil
		}
	}
	return stopAll(children)
}

// awaitCertified waits until every running replica is ready and has certified
// size entries.
func (c *cluster) awaitCertified(ctx context.Context, size uint64) error {
	return await(ctx, startLimit, func() error {
		for _, m := range c.members {
			if m.child == nil {
				continue
			}
			if err := m.child.ended(); err != nil {
				return fatal(err)
			}
			status, err := m.status(ctx)
			if err != nil {
				return err
			}
			if !status.Ready || status.Certified < size {
				return fmt.Errorf("%s: ready %v, certified %d of %d", m.name, status.Ready, status.Certified, size)
			}
		}
		return nil
	})
}

// leader is the replica that leads by its own word.
func (c *cluster) leader(ctx context.Context) (*member, error) {
	var leader *member
	err := await(ctx, startLimit, func() error {
		var last error
		for _, m := range c.members {
			if m.child == nil {
				continue
			}
			status, err := m.status(ctx)
			if err != nil {
				last = err
			} else if status.Role == "leader" && status.Ready {
				leader = m
				return nil
			}
		}
		return errors.Join(errors.New("no replica leads"), last)
	})
	return leader, err
}

var statusClient = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (m *member) status(ctx context.Context) (*client.Status, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.api+"/v1/status", nil)
	if err != nil {
		return nil, err
	}
	response, err := statusClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var s client.Status
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("status of %s: %w", m.name, err)
	}
	return &s, nil
}

// fatalError ends await at once.
type fatalError struct{ error }

func fatal(err error) error { return fatalError{err} }

// await asks every few milliseconds until there is no error.
func await(ctx context.Context, limit time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask()
		var over fatalError
		if err == nil || errors.As(err, &over) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
