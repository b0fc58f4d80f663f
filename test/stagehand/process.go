package stagehand

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a program that a stage has started and ends.
type Process struct {
	name    string
	command *exec.Cmd
	exited  chan error
}

// Start starts a program; what it prints is appended to the file log.
func Start(name string, c *exec.Cmd, log string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c.Stdout, c.Stderr = file, file
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &Process{name: name, command: c, exited: make(chan error, 1)}
	go func() { p.exited <- c.Wait() }()
	return p, nil
}

// Signal sends a signal, and waits for nothing.
func (p *Process) Signal(sig os.Signal) error { return p.command.Process.Signal(sig) }

// ErrLate is that a process did not stop when it was told to, and was killed.
var ErrLate = errors.New("did not stop")

// End sends a signal and waits until the process is gone. It gives how it exited,
// or ErrLate.
func (p *Process) End(sig os.Signal, limit time.Duration) error {
	_ = p.command.Process.Signal(sig)
	select {
	case err := <-p.exited:
		return err
	case <-time.After(limit):
		_ = p.command.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s %w within %s", p.name, ErrLate, limit)
	}
}

// Gone reports whether the process has ended by itself, and how. It reports that
// once: the process is nobody's then.
func (p *Process) Gone() (error, bool) {
	select {
	case err := <-p.exited:
		if err == nil {
			err = errors.New("it ended")
		}
		return err, true
	default:
		return nil, false
	}
}

// Ends ends a process in an orderly way, if there is one; that it did not stop, or not
// well, is a fault. It is nobody's then.
func (s *Scene) Ends(name string, p **Process, limit time.Duration) {
	if *p == nil {
		return
	}
	if err := (*p).End(syscall.SIGTERM, limit); err != nil {
		s.Fail("%s: %v", name, err)
	}
	*p = nil
}

// Kills kills a process, if there is one. It is nobody's then.
func (s *Scene) Kills(p **Process, limit time.Duration) {
	if *p != nil {
		_ = (*p).End(syscall.SIGKILL, limit) // it says that it was killed
		*p = nil
	}
}

// Alive fails when a process has ended by itself. It is nobody's then.
func (s *Scene) Alive(name string, p **Process) {
	if *p == nil {
		return
	}
	if err, gone := (*p).Gone(); gone {
		s.Fail("%s ended by itself: %v", name, err)
		*p = nil
	}
}

// OpenFiles counts its descriptors; 0 where nobody can tell.
func (p *Process) OpenFiles() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	return len(list)
}

// Memory is what it has resident, in MB; 0 where nobody can tell.
func (p *Process) Memory() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	var total, resident int
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize() >> 20
}
