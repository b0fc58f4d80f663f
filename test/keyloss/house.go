package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/secretscan"
	"github.com/quorate/quorate/test/stagehand"
)

// house is a ledger of real processes and the people who govern it, in a
// directory of its own. People's keys are files that are encrypted, each with its
// own passphrase; whatever a person does is a run of the program quorate.
type house struct {
	*stagehand.Ledger
	plan     plan
	replicas []*replica
	agents   []*agent
	commands atomic.Int64 // run
	offline  bool         // a person's commands know of no server
	known    []string     // key files that agents made, whose secrets are noted

	mu         sync.Mutex
	secrets    []secretscan.Secret
	identities []string // of age, by which shares are opened when their values are looked for
	changed    []string // backups and answers that were changed on purpose
}

// keepsJournal keeps all that a command printed, for the search for secrets.
func (h *house) keepsJournal(a *stagehand.Answer) {
	path := filepath.Join("journal", fmt.Sprintf("%04d-%s", h.commands.Add(1), a.Args[0]))
	if err := h.Writes(path, fmt.Appendf(nil, "%s\n%s\n%s", strings.Join(a.Args, " "), a.Out, a.Err)); err != nil {
		a.Code, a.Err = -1, a.Err+err.Error()
	}
}

// servers are those that people's commands are given.
func (h *house) servers() (list []string) {
	if h.offline {
		return nil
	}
	for _, r := range h.up() {
		list = append(list, r.URL())
	}
	return list
}

// as is a command of somebody who signs with their own key.
func (h *house) as(ctx context.Context, who string, args ...string) *stagehand.Answer {
	return h.withKey(ctx, filepath.Join("keys", who), args...)
}

// withKey is a command with the key PATH.key, whose passphrase is in PATH.pass.
func (h *house) withKey(ctx context.Context, path string, args ...string) *stagehand.Answer {
	return h.Command(ctx, append(args, "--key", path+".key", "--passphrase-file", path+".pass")...)
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
	if err := h.Command(ctx, append(args, more...)...).Failed(); err != nil {
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

// keyFiles lists the key files of an agent: its first, and those that it made.
func (h *house) keyFiles(a *agent) []string {
	list := []string{filepath.Join(a.dir(), a.Name+".key")}
	made, _ := filepath.Glob(filepath.Join(h.Dir, a.dir(), a.Name+".state", "keys", "*.key"))
	for _, path := range made {
		if name, err := filepath.Rel(h.Dir, path); err == nil {
			list = append(list, name)
		}
	}
	return list
}

// client is a verifying client of these replicas; trust is where it keeps what it
// verified, "" for nowhere.
func (h *house) client(trust string, of ...*replica) (*client.Client, error) {
	o := client.Options{Genesis: h.Genesis, TrustDir: trust, Pins: h.Pins}
	for _, r := range of {
		o.Servers = append(o.Servers, r.URL())
	}
	return client.New(o)
}

// up lists the replicas that run.
func (h *house) up() []*replica {
	var list []*replica
	for _, r := range h.replicas {
		if r.Process != nil {
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
