package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/secretscan"
	"github.com/quorate/quorate/test/stagehand"
)

// house is a ledger of real processes and the people who govern it, in a
// directory of its own. People's keys are files that are encrypted, each with its
// own passphrase; whatever a person does is a run of the program quorate.
type house struct {
	*stagehand.Scene
	plan     plan
	genesis  ledger.Hash
	entry    []byte // entry 0
	replicas []*replica
	agents   []*agent
	pins     []ledger.Hash // of replicas' TLS keys, as people know them
	commands atomic.Int64  // run
	offline  bool          // a person's commands know of no server
	known    []string      // key files that agents made, whose secrets are noted

	mu      sync.Mutex
	secrets []secretscan.Secret
}

// answer is what a run of the program gave.
type answer struct {
	args     []string
	out, err string
	code     int
}

// all is both outputs.
func (a *answer) all() string { return a.out + a.err }

// failed is an error unless the program exited with 0.
func (a *answer) failed() error {
	if a.code == 0 {
		return nil
	}
	return fmt.Errorf("quorate %s: exit code %d: %s", strings.Join(a.args[:min(3, len(a.args))], " "), a.code, strings.TrimSpace(a.all()))
}

// quorate runs the program to its end, without a terminal. All that it prints is
// kept for the search for secrets.
func (h *house) quorate(ctx context.Context, args ...string) *answer {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	number := h.commands.Add(1)
	c := exec.CommandContext(ctx, filepath.Join(h.Bin, "quorate"), args...)
	c.Dir, c.Env = h.Dir, h.personal()
	var out, text bytes.Buffer
	c.Stdout, c.Stderr = &out, &text
	err := c.Run()
	a := &answer{args: args, out: out.String(), err: text.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		a.code = exit.ExitCode()
	case err != nil:
		a.code, a.err = -1, a.err+err.Error()
	}
	journal := fmt.Sprintf("%s\n%s\n%s", strings.Join(args, " "), a.out, a.err)
	if err := os.WriteFile(filepath.Join(h.Dir, "journal", fmt.Sprintf("%04d-%s", number, args[0])), []byte(journal), 0o600); err != nil {
		a.code, a.err = -1, a.err+err.Error()
	}
	return a
}

// personal is the environment of a person: which ledger and which servers.
func (h *house) personal() []string {
	env := append(h.Environment(), "HOME="+filepath.Join(h.Dir, "home"), "QUORATE_TRUST_DIR="+filepath.Join(h.Dir, "trust"))
	if h.entry != nil {
		env = append(env, "QUORATE_GENESIS="+filepath.Join(h.Dir, "ledger", "genesis.cbor"))
	}
	var servers []string
	for _, r := range h.replicas {
		if r.process != nil {
			servers = append(servers, r.url())
		}
	}
	if len(servers) > 0 && !h.offline {
		env = append(env, "QUORATE_SERVER="+strings.Join(servers, ","))
	}
	return env
}

// as is a command of somebody who signs with their own key.
func (h *house) as(ctx context.Context, who string, args ...string) *answer {
	return h.withKey(ctx, filepath.Join("keys", who), args...)
}

// withKey is a command with the key PATH.key, whose passphrase is in PATH.pass.
func (h *house) withKey(ctx context.Context, path string, args ...string) *answer {
	return h.quorate(ctx, append(args, "--key", path+".key", "--passphrase-file", path+".pass")...)
}

// keygen makes a key in a folder of the house, encrypted with a new passphrase,
// and takes note of its secrets.
func (h *house) keygen(ctx context.Context, folder, role, name, operator string, more ...string) error {
	path := filepath.Join(folder, name)
	if err := h.passphrase(path); err != nil {
		return err
	}
	args := []string{"keygen", role, name, "--out", folder, "--passphrase-file", path + ".pass", "--work-factor", workFactor}
	if operator != "" {
		args = append(args, "--operator", operator)
	}
	if err := h.quorate(ctx, append(args, more...)...).failed(); err != nil {
		return err
	}
	return h.secretsOf(path)
}

// passphrase draws a new passphrase into PATH.pass.
func (h *house) passphrase(path string) error {
	b := make([]byte, passphraseBytes)
	_, _ = rand.Read(b)
	text := base64.StdEncoding.EncodeToString(b)
	if err := os.MkdirAll(filepath.Dir(filepath.Join(h.Dir, path)), 0o700); err != nil {
		return err
	}
	h.secret("the passphrase of "+path, []byte(text), path+".pass")
	return os.WriteFile(filepath.Join(h.Dir, path+".pass"), []byte(text+"\n"), 0o600)
}

// secret takes note of something that may stand in some files only.
func (h *house) secret(name string, b []byte, own ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets = append(h.secrets, secretscan.Secret{Name: name, Bytes: bytes.Clone(b), Own: own})
}

// secretsOf opens a key file, as its owner could, and takes note of what is in it
// and of what follows from it.
func (h *house) secretsOf(path string) error {
	file, err := h.open(path)
	if err != nil {
		return err
	}
	seed := file.Key.Seed()
	h.secret("the seed of "+path, seed[:])
	if peer := file.Key.PeerKey(); peer != nil {
		h.secret("the peer key of "+path, peer.Seed())
	}
	if file.Identity != "" {
		h.secret("the age identity of "+path, []byte(file.Identity[strings.LastIndex(file.Identity, "1")+1:]))
	}
	// The TLS key protects a channel only, and is plain on the disk of its replica.
	text, err := os.ReadFile(filepath.Join(h.Dir, path+".tls.key"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s.tls.key is no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("read %s.tls.key: %w", path, err)
	}
	scalar, err := scalarOf(key)
	if err == nil {
		h.secret("the TLS key of "+path, scalar, path+".tls.key")
	}
	return err
}

// open reads a key file with its passphrase.
func (h *house) open(path string) (*keys.File, error) {
	return h.openWith(path+".key", path+".pass")
}

func (h *house) openWith(path, passphrase string) (*keys.File, error) {
	return keys.ReadFile(filepath.Join(h.Dir, path), func() ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(h.Dir, passphrase))
		return bytes.TrimSpace(b), err
	})
}

// mayStand says that a known secret stands in one file more, as it is.
func (h *house) mayStand(b []byte, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.secrets {
		if bytes.Equal(h.secrets[i].Bytes, b) {
			h.secrets[i].Own = append(h.secrets[i].Own, path)
		}
	}
}

// keyFiles lists the key files of an agent: its first, and those that it made.
func (h *house) keyFiles(a *agent) []string {
	list := []string{filepath.Join(a.dir(), a.name+".key")}
	made, _ := filepath.Glob(filepath.Join(h.Dir, a.dir(), a.name+".state", "keys", "*.key"))
	for _, path := range made {
		if name, err := filepath.Rel(h.Dir, path); err == nil {
			list = append(list, name)
		}
	}
	return list
}

// rotated takes note of the secrets of keys that agents have made by themselves.
func (h *house) rotated() int {
	count := 0
	for _, a := range h.agents {
		for _, path := range h.keyFiles(a)[1:] {
			if slices.Contains(h.known, path) {
				continue
			}
			file, err := h.openWith(path, filepath.Join(a.dir(), a.name+".pass"))
			if err != nil {
				continue // it was destroyed in the meantime
			}
			h.known = append(h.known, path)
			seed := file.Key.Seed()
			h.secret("the seed of "+path, seed[:])
			h.secret("the peer key of "+path, file.Key.PeerKey().Seed())
			count++
		}
	}
	return count
}

// client is a verifying client of these replicas; trust is where it keeps what it
// verified, "" for nowhere.
func (h *house) client(trust string, of ...*replica) (*client.Client, error) {
	o := client.Options{Genesis: h.genesis, TrustDir: trust, Pins: h.pins}
	for _, r := range of {
		o.Servers = append(o.Servers, r.url())
	}
	return client.New(o)
}

// up lists the replicas that run.
func (h *house) up() []*replica {
	var list []*replica
	for _, r := range h.replicas {
		if r.process != nil {
			list = append(list, r)
		}
	}
	return list
}

// reads asks replicas something of a certified state, until it is as it should be.
func (h *house) reads(ctx context.Context, what string, holds func(ctx context.Context, c *client.Client) bool) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	return stagehand.Await(ctx, patience, what, func() bool { return holds(ctx, c) })
}

// unix asks a socket of a process.
func unix(socket string) *http.Client { return stagehand.Unix(socket, commandLimit) }
