package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/test/stagehand"
)

// council is the governors, all of whom must agree to what concerns a node of each
// operator.
var council = []struct{ name, operator string }{{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"}}

// answer is what a run of the program gave.
type answer struct {
	args     []string
	out, err string
	code     int
}

func (a *answer) all() string { return strings.TrimSpace(a.out + a.err) }

func (a *answer) failed() error {
	if a.code == 0 {
		return nil
	}
	return fmt.Errorf("quorate %s: exit code %d: %.400s", strings.Join(a.args[:min(3, len(a.args))], " "), a.code, a.all())
}

// quorate runs the program as a person does, without a terminal.
func (f *fleet) quorate(ctx context.Context, args ...string) *answer {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(f.Bin, "quorate"), args...)
	c.Dir, c.Env = f.Dir, append(f.Environment(), "HOME="+filepath.Join(f.Dir, "home"), "QUORATE_TRUST_DIR="+filepath.Join(f.Dir, "trust"))
	if f.entry != nil {
		c.Env = append(c.Env, "QUORATE_GENESIS="+filepath.Join(f.Dir, "ledger", "genesis.cbor"))
	}
	var servers []string
	for _, r := range f.replicas {
		servers = append(servers, "https://"+r.api)
	}
	if len(servers) > 0 {
		c.Env = append(c.Env, "QUORATE_SERVER="+strings.Join(servers, ","))
	}
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
	return a
}

// looks has a person look at the ledger once an epoch, until ctx ends: whoever never does
// while all replicas change their TLS keys needs their pins anew.
func (f *fleet) looks(ctx context.Context) {
	for ctx.Err() == nil {
		if a := f.quorate(ctx, "status"); a.code == 0 {
			f.looked.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.epoch):
		}
	}
}

// keygen makes a plain key in keys/.
func (f *fleet) keygen(ctx context.Context, role, name, operator string, more ...string) error {
	return f.quorate(ctx, append([]string{"keygen", role, name, "--out", "keys", "--operator", operator, "--insecure-plain"}, more...)...).failed()
}

// decides has alice propose, and the others approve as long as it takes, until the
// ledger has executed it.
func (f *fleet) decides(ctx context.Context, args ...string) error {
	key := func(i int) []string { return []string{"--yes", "--key", filepath.Join("keys", council[i].name+".key")} }
	a := f.quorate(ctx, append(append(append([]string{"propose"}, args...), "--output", "json"), key(0)...)...)
	if err := a.failed(); err != nil {
		return err
	}
	var got struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(a.out), &got); err != nil || got.ID == "" {
		return fmt.Errorf("propose %s: no id in %q: %v", args[0], a.out, err)
	}
	for i := range council[1:] {
		// A replica that lags may not know it yet.
		standing, failure := "", error(nil)
		if err := stagehand.Await(ctx, patience, "a replica knows the proposal", func() bool {
			standing, failure = f.standing(ctx, got.ID)
			return failure == nil
		}); err != nil {
			return fmt.Errorf("%w: %w", err, failure)
		}
		if standing == fsm.ProposalExecuted {
			break
		}
		a := f.quorate(ctx, append([]string{"approve", got.ID}, key(i+1)...)...)
		if err := a.failed(); err != nil && !strings.Contains(a.all(), "it is executed") { // one was enough
			return err
		}
	}
	last, failure := "", error(nil)
	err := stagehand.Await(ctx, patience, "the council's decision is executed", func() bool {
		last, failure = f.standing(ctx, got.ID)
		return last == fsm.ProposalExecuted
	})
	if err != nil {
		return fmt.Errorf("%w: %s %s, %v", err, args[0], last, failure)
	}
	return nil
}

// standing is how a proposal stands, by any replica.
func (f *fleet) standing(ctx context.Context, id string) (string, error) {
	var failed error
	for _, r := range f.replicas {
		if r.process == nil {
			continue
		}
		b, err := stagehand.Get(ctx, f.web, "https://"+r.api+"/v1/proposals/"+id)
		if err != nil {
			failed = err
			continue
		}
		var got struct {
			Standing string `json:"standing"`
		}
		return got.Standing, json.Unmarshal(b, &got)
	}
	return "", failed
}

// writes writes a file of the scene.
func (f *fleet) writes(path string, b []byte) error {
	return os.WriteFile(filepath.Join(f.Dir, path), b, 0o600)
}
