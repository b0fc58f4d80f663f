package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger/keys"
)

// TestSignerWithAChild: a signer is left when its time is over, also if a child of it
// still holds its streams, and does not read what more is written than a pipe holds.
func TestSignerWithAChild(t *testing.T) {
	t.Parallel()
	t.Run("asked", func(t *testing.T) {
		t.Parallel()
		s, child := signerWithAChild(t)
		request := keys.SignerRequest{Op: keys.SignerSign, Purpose: "statement", Message: make([]byte, 80<<10)}
		err := within(t, "the question", func() error { return s.ask(context.Background(), request, new(keys.SignerSignature)) })
		if err == nil || !strings.Contains(err.Error(), "did not answer within 100ms") {
			t.Errorf("ask: %v, want that it did not answer", err)
		}
		left(t, s, child)
	})
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		s, child := signerWithAChild(t)
		left(t, s, child)
	})
}

// signerWithAChild starts a signer that says nothing, whose child holds its streams
// until the test is over: whoever waits for that one waits for ever.
func signerWithAChild(t *testing.T) (*execSigner, int) {
	t.Helper()
	dir := t.TempDir()
	path, pid := filepath.Join(dir, "signer.sh"), filepath.Join(dir, "pid")
	script := "#!/bin/sh\nexec 3<&0\nsleep 600 2>/dev/null &\necho $! >" + pid + ".new\nmv " + pid + ".new " + pid + "\nwait\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	a := &app{err: os.Stderr, getenv: os.Getenv, environ: os.Environ}
	s, err := a.runSigner(context.Background(), "exec:"+path, nil, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(pid)
		if child, wrong := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && wrong == nil {
			t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
			return s, child
		}
		if time.Now().After(end) {
			t.Fatalf("the signer never said who its child is: %v", err)
		}
	}
}

// left ends the signer, and sees that its child is there still.
func left(t *testing.T, s *execSigner, child int) {
	t.Helper()
	if err := within(t, "the end", s.Close); err == nil || !strings.Contains(err.Error(), "ended badly") {
		t.Errorf("close: %v, want that it was killed", err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the child ended before (%v): this test showed nothing", err)
	}
}

// within waits for what must come of itself, much longer than it takes.
func within(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s does not come, as long as the signer's child lives", what)
		return nil
	}
}
