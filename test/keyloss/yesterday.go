package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/stagehand"
)

// copiesState copies an agent's state folder as it is now, as a program for backups would
// while the agent runs.
func (h *house) copiesState(a *agent) error {
	from := filepath.Join(h.Dir, a.dir(), a.Name+".state")
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(h.Dir, a.yesterday(), name)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case !d.Type().IsRegular():
			return nil // its socket
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	})
}

// yesterday is where the copy of an agent's state is.
func (a *agent) yesterday() string { return filepath.Join("yesterday", a.Name+".state") }

// had says whether the copy of an agent's state has a key.
func (h *house) had(a *agent, key ledger.Hash) bool {
	made, _ := filepath.Glob(filepath.Join(h.Dir, a.yesterday(), "keys", "*.key"))
	for _, path := range made {
		name, err := filepath.Rel(h.Dir, path)
		if err != nil {
			continue
		}
		if file, err := h.openWith(name, filepath.Join(a.dir(), a.Name+".pass")); err == nil && ledger.Hash(file.Key.ID()) == key {
			return true
		}
	}
	return false
}

// staleState gives an agent the state folder of before its last rotation: it must not say
// a word, say why, and go on as if nothing were once it has its folder of now.
func (h *house) staleState(ctx context.Context, a *agent) error {
	h.stopAgent(a, syscall.SIGKILL)
	path, key, err := h.activeKey(ctx, a)
	if err != nil {
		return err
	}
	state, aside := filepath.Join(h.Dir, a.dir(), a.Name+".state"), filepath.Join(h.Dir, a.dir(), a.Name+".today")
	if err := os.Rename(state, aside); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(h.Dir, a.yesterday()), state); err != nil {
		return err
	}
	if err := h.startAgent(a); err != nil {
		return err
	}
	var word string
	if err := a.Awaits(ctx, patience, "says that its key is not there", func(s *stagehand.AgentStatus) bool {
		word = s.Trouble["key"]
		return strings.Contains(word, key.String()) && strings.Contains(word, "not here")
	}); err != nil {
		return err
	}
	now, err := h.epoch(ctx)
	if err != nil {
		return err
	}
	if _, err := h.nextEpoch(ctx, now+1); err != nil { // it has had time to do something wrong
		return err
	}
	signed, err := a.signed(ctx)
	if err != nil {
		return err
	}
	h.Demand(signed == 0, "%s signed %d statements with the state of yesterday", a.Name, signed)
	h.stopAgent(a, syscall.SIGTERM)
	if err := os.Rename(state, filepath.Join(h.Dir, a.yesterday())); err != nil {
		return err
	}
	if err := os.Rename(aside, state); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(h.Dir, path)); err != nil {
		return err
	}
	if err := h.startAgent(a); err != nil {
		return err
	}
	if err := a.Awaits(ctx, patience, "goes on with its folder of now", func(s *stagehand.AgentStatus) bool {
		return s.Standing == "active" && !s.Stale && s.Trouble["key"] == "" && s.Key.ID == key.String()
	}); err != nil {
		return err
	}
	h.Says("refused", "the state folder of %s of before its last rotation: the agent follows, signs nothing in two epochs, and says: %.120s…; with its folder of now it goes on", a.Name, word)
	return nil
}

// signed is how many statements an agent has signed since its start.
func (a *agent) signed(ctx context.Context) (total int, err error) {
	b, err := stagehand.Get(ctx, stagehand.Unix(a.Socket, requestLimit), "http://agent/metrics")
	if err != nil {
		return 0, err
	}
	known := false
	for line := range strings.Lines(string(b)) {
		known = known || strings.HasPrefix(line, "quorate_agent_")
		if !strings.HasPrefix(line, "quorate_agent_signed_total{") {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
			return 0, err
		}
		total += int(n)
	}
	if !known {
		return 0, fmt.Errorf("%s tells nothing of itself: %.200s", a.Name, b)
	}
	return total, nil
}
