package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopLimit is how long a child may take to end by itself.
const stopLimit = 20 * time.Second

// process is one child. It ends with this program, even if that is killed.
type process struct {
	name string
	cmd  *exec.Cmd
	log  tail
	done chan struct{} // closed once it ended
	err  error         // valid after done
}

// tail keeps the last bytes that a child printed, for errors.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = bytes.Clone(t.b[len(t.b)-tailBytes:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

func start(name, program string, arguments ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, arguments...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	return p, p.begin()
}

// begin starts what is configured.
func (p *process) begin() error {
	// Who measures need not be root: see what the program says of debuggers.
	p.cmd.Env = append(os.Environ(), "QUORATE_DUMPABLE=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// ended says how the child ended, nil while it runs.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v\n%s", p.name, p.err, p.log.String())
	default:
		return nil
	}
}

// stop asks the child to end, and kills it if it does not.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
		p.kill()
		return fmt.Errorf("%s did not end in %s\n%s", p.name, stopLimit, p.log.String())
	}
}

// kill is kill -9, and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// clockTicks is what /proc counts CPU time in, on every Linux that Go runs on.
const clockTicks = 100

// cpu is the CPU time that the child has used.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / clockTicks
}

// processorTime is cpu by the scheduler's own count, in nanoseconds, for what takes
// little: of all threads that live, and Go's do. 0 where the kernel keeps none.
func (p *process) processorTime() time.Duration {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	var sum time.Duration
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread is gone
		}
		var ran int64
		if _, err := fmt.Sscan(string(b), &ran); err == nil {
			sum += time.Duration(ran)
		}
	}
	return sum
}

// written is how many bytes the process has written, to files and sockets alike; 0
// where the kernel does not tell. What it says of the disk itself counts whole folios,
// of up to megabytes, for a few bytes in each.
func (p *process) written() uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
			return n
		}
	}
	return 0
}

func cpuOf(children []*process) time.Duration {
	var sum time.Duration
	for _, p := range children {
		sum += p.cpu()
	}
	return sum
}

// ownCPU is the CPU time of this program.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stopAll ends children at once, and waits for all.
func stopAll(children []*process) error {
	errs := make([]error, len(children))
	var wg sync.WaitGroup
	for i, p := range children {
		wg.Go(func() { errs[i] = p.stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// residentBytes is how much memory of the child is in RAM.
func (p *process) residentBytes() (uint64, error) { return statusBytes(p.cmd.Process.Pid, "VmRSS:") }

// statusBytes reads a size from /proc/PID/status.
func statusBytes(pid int, field string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kilobytes, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: no %s", pid, field)
}
