package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/api/spiffe"
	"github.com/quorate/quorate/api/spiffe/spiffetest"
)

// agentSet is the SPIRE agents of the scripts. All scripts share one CA.
type agentSet struct {
	mu      sync.Mutex
	ca      *spiffetest.CA
	running map[string]*spiffetest.Agent // by the path of the socket
}

func agents() *agentSet { return &agentSet{running: map[string]*spiffetest.Agent{}} }

// command is agent SOCKET ID: whoever asks the agent at this socket has this
// SPIFFE id from now on, with a new SVID. ! agent SOCKET stops it.
func (s *agentSet) command(ts *testscript.TestScript, neg bool, args []string) {
	if neg && len(args) != 1 || !neg && len(args) != 2 {
		ts.Fatalf("usage: agent SOCKET ID, or ! agent SOCKET")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := ts.MkAbs(args[0])
	agent := s.running[path]
	if neg {
		if agent == nil {
			ts.Fatalf("no agent runs on %s", path)
		}
		ts.Check(agent.Stop())
		delete(s.running, path)
		return
	}
	var err error
	if s.ca == nil {
		s.ca, err = spiffetest.NewCA("mesh.example")
		ts.Check(err)
	}
	if agent == nil {
		agent, err = s.ca.Listen(path)
		ts.Check(err)
		s.running[path] = agent
		ts.Defer(func() { _ = agent.Stop() })
	}
	_, err = agent.Issue(args[1], time.Hour)
	ts.Check(err)
}

// TestServerWithoutIdentity: a server whose Workload API gives nothing ends
// after a bounded wait, with a word on what to do, and on an interrupt at once.
func TestServerWithoutIdentity(t *testing.T) {
	ca, err := spiffetest.NewCA("mesh.example")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := ca.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Stop() }()
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	for _, row := range []struct {
		name, address, want, next string
		ctx                       context.Context
	}{
		{"away", "unix://" + filepath.Join(t.TempDir(), "none"), "no such file", "start the SPIRE agent", t.Context()},
		{"unknown to the agent", agent.Address, "no identity issued", "register this process", t.Context()},
		{"interrupted", agent.Address, "context canceled", "", interrupted},
	} {
		c := defaultServerConfig()
		c.API.SPIFFE.WorkloadAPI = spiffe.Address(row.address)
		wait := 100 * time.Millisecond
		if row.ctx.Err() != nil {
			wait = time.Hour
		}
		if row.ctx.Err() == nil {
			var f findings
			examineIdentity(row.ctx, &f, &c, wait)
			if len(f) != 1 || f[0].Result != resultFail || !strings.HasPrefix(f[0].Advice, row.next) {
				t.Errorf("%s: doctor finds %+v", row.name, f)
			}
		}
		_, err := openIdentity(row.ctx, &c, wait, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(asFailure(err).next, row.next) {
			t.Errorf("%s: %v", row.name, err)
		}
		if errors.Is(err, context.Canceled) != (row.name == "interrupted") {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if _, err := agent.Issue("spiffe://mesh.example/quorate/r1", time.Hour); err != nil {
		t.Fatal(err)
	}
	c := defaultServerConfig()
	c.API.SPIFFE.WorkloadAPI = spiffe.Address(agent.Address)
	var f findings
	examineIdentity(t.Context(), &f, &c, 10*time.Second)
	if len(f) != 1 || f[0].Result != resultOK || !strings.HasPrefix(f[0].Detail, "spiffe://mesh.example/quorate/r1, until ") {
		t.Errorf("doctor finds %+v", f)
	}
}
