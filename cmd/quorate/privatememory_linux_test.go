package main

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A command that holds keys may not be traced by other programs of its user, and
// leaves no core. Seen in a process of its own, which stays so.
func TestMemoryIsPrivate(t *testing.T) {
	if os.Getenv("QUORATE_TEST_PRIVATE") == "" {
		for command, want := range map[string]string{"version": "open", "key": "private", "server": "private", "agent": "private"} {
			child := exec.Command(os.Args[0], "-test.run=^TestMemoryIsPrivate$")
			child.Env = append(os.Environ(), "QUORATE_TEST_PRIVATE="+command)
			out, err := child.Output()
			if string(out) != want {
				t.Errorf("quorate %s: its memory is %q, want %q (%v)", command, out, want, err)
			}
		}
		return
	}
	const getDumpable = 3
	_ = run([]string{os.Getenv("QUORATE_TEST_PRIVATE")}, os.Stdin, io.Discard, io.Discard)
	dumpable, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, getDumpable, 0, 0)
	var cores syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &cores); err != nil {
		os.Exit(3)
	}
	word := "open"
	if dumpable == 0 && cores.Cur == 0 && cores.Max == 0 {
		word = "private"
	}
	os.Stdout.WriteString(word)
	os.Exit(0)
}
