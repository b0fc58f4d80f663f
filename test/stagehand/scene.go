package stagehand

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Scene is where a stage plays: a directory of its own, and the programs. It
// reports.
type Scene struct {
	*Report
	Bin, Dir string // of the programs; of the scene
	HTTP     *http.Client
	Spaces   bool // each process is in the network namespace of its name (test/spacetest)
}

// NewScene makes a scene in a directory that exists.
func NewScene(r *Report, bin, dir string) (*Scene, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, err
	}
	return &Scene{Report: r, Bin: bin, Dir: dir,
		HTTP: &http.Client{Timeout: requestLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}, nil
}

// Begin has a scene set up in a new directory, and gives what clears it away,
// unless it is to be kept. What goes wrong is a fault of the stage.
func (r *Report) Begin(bin, prefix string, keep bool, found func(bin, dir string) error) (end func(), ok bool) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		r.Fail("%v", err)
		return func() {}, false
	}
	end = func() { _ = os.RemoveAll(dir) }
	if keep {
		end = func() {}
		r.Says("kept", "%s", dir)
	}
	if bin, err = filepath.Abs(bin); err == nil {
		err = found(bin, dir)
	}
	if err != nil {
		r.Fail("found the ledger: %v", err)
	}
	return end, err == nil
}

// Quorate runs the real program to its end, in the scene's directory, and gives
// what it printed.
func (s *Scene) Quorate(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(s.Bin, "quorate"), args...)
	c.Dir, c.Env = s.Dir, s.Environment()
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("quorate %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// Environment keeps what the programs leave in one place, where it is looked
// for, and the user's own settings away from them.
func (s *Scene) Environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "QUORATE_") && !strings.HasPrefix(e, "TMPDIR=") {
			env = append(env, e)
		}
	}
	// So that descriptors and memory can be counted without a right to look at others'
	// processes.
	return append(env, "TMPDIR="+filepath.Join(s.Dir, "tmp"), "QUORATE_DUMPABLE=1")
}

// Start starts a program of the scene in its directory; its log is NAME.log.
func (s *Scene) Start(name, program string, args ...string) (*Process, error) {
	return Start(name, s.program(name, program, args...), filepath.Join(s.Dir, name+".log"))
}

// Observer starts the agent with its hook for tests (test/byzantine/observer), which
// takes orders and writes what it sees to the file out.
func (s *Scene) Observer(name, config, out string) (*Process, io.WriteCloser, error) {
	c := s.program(name, "observer", "--config", config, "--out", out)
	orders, err := c.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	p, err := Start(name, c, filepath.Join(s.Dir, name+".log"))
	return p, orders, err
}

// program is a program of the scene, in the network namespace of its name if the
// scene has those.
func (s *Scene) program(name, program string, args ...string) *exec.Cmd {
	path := filepath.Join(s.Bin, program)
	if s.Spaces {
		path, args = "ip", append([]string{"netns", "exec", name, path}, args...)
	}
	c := exec.Command(path, args...)
	c.Dir, c.Env = s.Dir, s.Environment()
	return c
}

// Leftovers fails when the programs left temporary files.
func (s *Scene) Leftovers() {
	if left, err := os.ReadDir(filepath.Join(s.Dir, "tmp")); err != nil || len(left) > 0 {
		s.Fail("temporary files are left: %v %v", left, err)
	}
}

// Await looks until something holds, or ctx or its patience ends.
func (s *Scene) Await(ctx context.Context, what string, holds func() bool) error {
	return Await(ctx, Patience, what, holds)
}

// Await looks until something holds, for so long at most.
func Await(ctx context.Context, limit time.Duration, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s", what)
		case <-time.After(pollPace):
		}
	}
	return nil
}

// Get reads a URL.
func (s *Scene) Get(ctx context.Context, url string) ([]byte, error) { return Get(ctx, s.HTTP, url) }

// GetJSON reads a URL's JSON.
func (s *Scene) GetJSON(ctx context.Context, url string, out any) error {
	b, err := s.Get(ctx, url)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// Unix is an HTTP client that reaches a unix socket, whatever host a URL names.
func Unix(socket string, limit time.Duration) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}}}
}

// Get reads a URL; any status but 200 is an error.
func Get(ctx context.Context, h *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := h.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %.200s", url, answer.StatusCode, b)
	}
	return b, err
}

// Tail says the last lines of a process's log.
func (s *Scene) Tail(name string, lines int) {
	b, err := os.ReadFile(filepath.Join(s.Dir, name+".log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Says(name, "%v", err)
	}
	list := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, text := range list[max(0, len(list)-lines):] {
		s.Says(name+" log", "%.300s", text)
	}
}
