package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// The run lives in namespaces of its own: of processes, mounts and networks.
// The program starts itself again as the first process in them, so that the
// kernel ends every replica and drops every mount, network and loop device with
// it, however the run ends. What is left outside is one empty folder, which the
// program removes, or the next run if this one was killed.

const (
	insideVariable = "QUORATE_CHAOS_DIR" // set by the program for itself
	folderPattern  = "quorate-chaos-"
	lockName       = "lock"
	runDir         = "run"   // where the run's own file system is mounted
	runBytes       = 4 << 30 // its bound; it takes memory only as it fills
)

// outside starts the program again inside and gives its exit code.
func outside(seed uint64) int {
	removeDead()
	dir, err := os.MkdirTemp("", folderPattern)
	if err != nil {
		fmt.Printf("chaos: %v\n", err)
		return 1
	}
	defer os.RemoveAll(dir)
	lock, err := lockFolder(dir)
	if err != nil {
		fmt.Printf("chaos: %v\n", err)
		return 1
	}
	defer lock.Close()
	if err := os.Mkdir(filepath.Join(dir, runDir), 0o700); err != nil {
		fmt.Printf("chaos: %v\n", err)
		return 1
	}
	for _, tool := range []string{"ip", "tc", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Printf("chaos: SKIPPED: %s is missing; `make chaos-tools` installs it\n", tool)
			return 0
		}
	}
	runtime.LockOSThread() // the child dies with the thread that made it
	args := append(os.Args[1:], "--seed", strconv.FormatUint(seed, 10))
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
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

// lockFolder marks a folder as belonging to a run that lives.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// removeDead removes the folders of runs that were killed.
func removeDead() {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPattern+"*"))
	for _, dir := range folders {
		if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil || strings.HasSuffix(dir, keptSuffix) {
			continue
		}
		if lock, err := lockFolder(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// furnish makes the namespaces a place to live in: mounts that nobody else
// sees, a file system in memory, and a hub that all replicas hang on.
func furnish(dir string) error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	run := filepath.Join(dir, runDir)
	return errors.Join(
		mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""),
		mount("chaos", run, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(runBytes)),
		mount("chaos", "/run", "tmpfs", 0, "mode=0755,size=16m"),
		os.Mkdir("/run/netns", 0o755),
		makeHub(),
	)
}
