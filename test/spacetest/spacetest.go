// Package spacetest gives test programs namespaces of their own: of processes,
// mounts and networks. The program starts itself again as the first process in
// them, so that the kernel ends every child and drops every mount, network and
// device with it, however the run ends. What is left outside is one empty
// folder, which the program removes, or the next run if this one was killed.
package spacetest

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

const (
	insideVariable = "QUORATE_CHAOS_DIR" // set by the program for itself
	lockName       = "lock"
	runDir         = "run"   // where the run's own file system is mounted
	runBytes       = 4 << 30 // its bound; it takes memory only as it fills

	// FolderPattern begins the names of the folders, and KeptSuffix ends those that
	// Folder leaves alone.
	FolderPattern = "quorate-chaos-"
	KeptSuffix    = "-kept"
)

// Inside says whether this is the process within, and gives its folder.
func Inside() (dir string, inside bool) { return os.LookupEnv(insideVariable) }

// Folder makes the folder of a run, which is locked for as long as lock is open,
// and removes those of runs that were killed. The caller removes it.
func Folder() (dir string, lock *os.File, err error) {
	removeDead()
	if dir, err = os.MkdirTemp("", FolderPattern); err != nil {
		return "", nil, err
	}
	if lock, err = lockFolder(dir); err == nil {
		if err = os.Mkdir(filepath.Join(dir, runDir), 0o700); err == nil {
			return dir, lock, nil
		}
		err = errors.Join(err, lock.Close())
	}
	return "", nil, errors.Join(err, os.RemoveAll(dir))
}

// Missing is the first of the system's tools that is not there, "" for none.
func Missing(tools ...string) string {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

// Command is this program again, to be started within new namespaces. The child
// dies with the thread that starts it, so the caller holds that:
// runtime.LockOSThread. Start fails where a machine gives no namespaces.
func Command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// Again runs this program within new namespaces to its end, with its own standard
// outputs, and gives its exit code, 130 if it was interrupted. An error says why it did
// not begin.
func Again(args ...string) (code int, err error) {
	dir, lock, err := Folder()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	defer lock.Close()
	runtime.LockOSThread() // the child dies with the thread that made it
	defer runtime.UnlockOSThread()
	cmd := Command(dir, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("this machine gives no namespaces: %w", err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-interrupted:
		_ = cmd.Process.Kill() // the kernel ends what it started
		<-done
		return 130, nil
	case err = <-done:
	}
	if err != nil {
		return max(cmd.ProcessState.ExitCode(), 1), nil
	}
	return 0, nil
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
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), FolderPattern+"*"))
	for _, dir := range folders {
		if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil || strings.HasSuffix(dir, KeptSuffix) {
			continue
		}
		if lock, err := lockFolder(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// Furnish makes the namespaces a place to live in: mounts that nobody else
// sees, and a file system in memory, which it gives.
func Furnish(dir string) (run string, err error) {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	run = filepath.Join(dir, runDir)
	return run, errors.Join(
		mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""),
		mount("chaos", run, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(runBytes)),
		mount("chaos", "/run", "tmpfs", 0, "mode=0755,size=16m"),
		os.Mkdir("/run/netns", 0o755),
	)
}
