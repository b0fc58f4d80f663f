package stagehand

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Answer is what a run of the program gave.
type Answer struct {
	Args     []string
	Out, Err string
	Code     int // its exit code; -1: it did not run to its end
}

// All is both outputs.
func (a *Answer) All() string { return a.Out + a.Err }

// Failed is an error unless the program exited with 0.
func (a *Answer) Failed() error {
	if a.Code == 0 {
		return nil
	}
	return fmt.Errorf("quorate %s: exit code %d: %.400s", strings.Join(a.Args[:min(3, len(a.Args))], " "), a.Code, strings.TrimSpace(a.All()))
}

// Command runs the program to its end as a person does, without a terminal.
func (l *Ledger) Command(ctx context.Context, args ...string) *Answer {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(l.Bin, "quorate"), args...)
	c.Dir, c.Env = l.Dir, l.personal()
	var out, text bytes.Buffer
	c.Stdout, c.Stderr = &out, &text
	err := c.Run()
	a := &Answer{Args: args, Out: out.String(), Err: text.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		a.Code = exit.ExitCode()
	case err != nil:
		a.Code, a.Err = -1, a.Err+err.Error()
	}
	if l.Ran != nil {
		l.Ran(a)
	}
	return a
}

// personal is the environment of a person: which ledger and which servers.
func (l *Ledger) personal() []string {
	env := append(l.Environment(), "HOME="+filepath.Join(l.Dir, "home"), "QUORATE_TRUST_DIR="+filepath.Join(l.Dir, "trust"))
	if l.Entry != nil {
		env = append(env, "QUORATE_GENESIS="+filepath.Join(l.Dir, "ledger", "genesis.cbor"))
	}
	if l.Servers != nil {
		if servers := l.Servers(); len(servers) > 0 {
			env = append(env, "QUORATE_SERVER="+strings.Join(servers, ","))
		}
	}
	return env
}

// Proposes runs propose with what is given, and gives the proposal's id.
func (l *Ledger) Proposes(ctx context.Context, args ...string) (string, error) {
	a := l.Command(ctx, append([]string{"propose", "--yes", "--output", "json"}, args...)...)
	if err := a.Failed(); err != nil {
		return "", err
	}
	var got struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(a.Out), &got); err != nil || got.ID == "" {
		return "", fmt.Errorf("propose %s: no id in %q: %v", args[0], a.Out, err)
	}
	return got.ID, nil
}
