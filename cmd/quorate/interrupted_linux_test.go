package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"

	"github.com/quorate/quorate/ledger/keys"
)

// Whoever interrupts a question is obeyed at once: nothing was done, and a terminal that
// was asked for a passphrase shows again what is typed. Seen in processes of their own.
func TestQuestionsAreInterrupted(t *testing.T) {
	if how := os.Getenv("QUORATE_TEST_ASK"); how != "" {
		os.Exit(run(strings.Fields(how), os.Stdin, os.Stdout, os.Stderr))
	}
	dir := t.TempDir()
	key, err := keys.Generate()
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/alice.key"
	if err := keys.WriteFile(path, &keys.File{Name: "alice", Role: "governor", Operator: "aurora", Key: key}, []byte("secret"), keys.WorkFactor(10)); err != nil {
		t.Fatal(err)
	}
	terminal := pseudoTerminal(t)
	shown, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ command, asks string }{
		"passphrase":     {"key show " + path, "Passphrase of"},
		"new passphrase": {"keygen governor bob --operator borealis --out " + dir, "New passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestQuestionsAreInterrupted$")
			child.Env = append(os.Environ(), "QUORATE_TEST_ASK="+c.command)
			child.Stdin = terminal
			said, err := child.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			stuck := time.AfterFunc(time.Minute, func() { _ = child.Process.Kill() })
			defer stuck.Stop()
			out := bufio.NewReader(said)
			if text, err := out.ReadString(':'); err != nil || !strings.Contains(text, c.asks) {
				t.Fatalf("it says %q, %v", text, err)
			}
			if err := hidden(terminal, shown); err != nil {
				t.Fatal(err)
			}
			if err := child.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			var rest strings.Builder
			_, _ = out.WriteTo(&rest)
			var exit *exec.ExitError
			if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitRefused {
				t.Errorf("it ends with %v", err)
			}
			if !strings.Contains(rest.String(), "next: it was interrupted") {
				t.Errorf("it says %q", rest.String())
			}
			now, err := term.GetState(int(terminal.Fd()))
			if err != nil || *now != *shown {
				t.Errorf("the terminal is left as %+v, was %+v, %v", now, shown, err)
			}
		})
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// hidden waits until the terminal does not show what is typed.
func hidden(terminal *os.File, shown *term.State) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, err := term.GetState(int(terminal.Fd())); err != nil || *now != *shown {
			return err
		}
	}
	return errors.New("the terminal shows what is typed")
}

// pseudoTerminal opens one, whose other end stays open as long as the test runs.
func pseudoTerminal(t *testing.T) *os.File {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { other.Close() })
	var unlock, number int32
	for _, call := range []struct {
		request uintptr
		at      *int32
	}{{syscall.TIOCSPTLCK, &unlock}, {syscall.TIOCGPTN, &number}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, other.Fd(), call.request, uintptr(unsafe.Pointer(call.at))); errno != 0 {
			t.Fatal(errno)
		}
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal
}
