package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// publish writes the file and runs the hook whenever what is enforced changes.
// One hook runs at a time; changes meanwhile are one more run afterwards.
func (a *Agent) publish(ctx context.Context) error {
	if a.config.Publish.File == "" && len(a.config.Publish.Hook) == 0 {
		return nil
	}
	var last *Published
	check := time.NewTicker(publishCheck) // going stale is a change that nobody tells
	defer check.Stop()
	for {
		changed := a.changed.wait()
		if p := a.published(); p.Size > 0 && !p.sameAs(last) {
			if a.publishOnce(ctx, p) {
				last = p
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-check.C:
		}
	}
}

// publishOnce reports whether the file was written; it is tried again otherwise. A
// hook that fails is not run again until the next change.
func (a *Agent) publishOnce(ctx context.Context, p *Published) bool {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		a.trouble.set(troublePublish, err)
		return false
	}
	data = append(data, '\n')
	if path := a.config.Publish.File; path != "" {
		if err := replaceFile(path, data, 0o644); err != nil {
			a.trouble.set(troublePublish, err)
			return false
		}
		a.trouble.set(troublePublish, nil)
	}
	if len(a.config.Publish.Hook) > 0 {
		err := a.runHook(ctx, data)
		if err != nil && ctx.Err() == nil {
			a.logger.Warn("the hook failed", "error", err)
		}
		a.trouble.set(troubleHook, err)
	}
	return true
}

// runHook runs the command with the published JSON on its standard input and
// QUORATE_FILE in its environment, and ends it when its time is over.
func (a *Agent) runHook(ctx context.Context, data []byte) error {
	limit := a.config.Publish.HookTime
	if limit == 0 {
		limit = defaultHookTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	command := exec.CommandContext(ctx, a.config.Publish.Hook[0], a.config.Publish.Hook[1:]...)
	command.Stdin = bytes.NewReader(data)
	output := &clipped{limit: hookOutputBytes}
	command.Stdout, command.Stderr = output, output
	command.Env = append(os.Environ(), "QUORATE_FILE="+a.config.Publish.File)
	command.WaitDelay = time.Second // for what it started and left behind
	if err := command.Run(); err != nil {
		return fmt.Errorf("run hook: %w: %s", err, output.data)
	}
	return nil
}

// clipped keeps the beginning of what is written to it.
type clipped struct {
	limit int
	data  []byte
}

func (c *clipped) Write(p []byte) (int, error) {
	c.data = append(c.data, p[:min(len(p), c.limit-len(c.data))]...)
	return len(p), nil
}

// replaceFile writes a file beside path and renames it over path, durably. A
// crash before the rename leaves the old file, after it the new one.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
