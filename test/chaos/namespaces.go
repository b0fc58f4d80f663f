package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/quorate/quorate/test/spacetest"
)

// The run lives in namespaces of its own: see package spacetest.

// outside starts the program again inside and gives its exit code.
func outside(seed uint64) int {
	if tool := spacetest.Missing("ip", "tc", "nft"); tool != "" {
		fmt.Printf("chaos: SKIPPED: %s is missing; `make chaos-tools` installs it\n", tool)
		return 0
	}
	dir, lock, err := spacetest.Folder()
	if err != nil {
		fmt.Printf("chaos: %v\n", err)
		return 1
	}
	defer os.RemoveAll(dir)
	defer lock.Close()
	runtime.LockOSThread() // the child dies with the thread that made it
	cmd := spacetest.Command(dir, append(os.Args[1:], "--seed", strconv.FormatUint(seed, 10))...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Printf("chaos: SKIPPED: this machine gives no namespaces: %v\n", err)
		return 0
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-interrupted:
		_ = cmd.Process.Kill() // the kernel ends what it started
		<-done
		fmt.Println("chaos: interrupted")
		return 130
	case err = <-done:
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	return 0
}
