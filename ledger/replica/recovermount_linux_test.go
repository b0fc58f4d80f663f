package replica_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/quorate/quorate/ledger/replica"
)

const ownMounts = "QUORATE_TEST_OWN_MOUNTS"

// Raft's folder is a mount of its own, and the history a link to another disk:
// neither can be renamed. A recovery is cut off after each of its steps and done again.
func TestRecoverAcrossMounts(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	r := loseThree(t, nil)
	appendTail(t, r)
	statements := r.statements(nil)
	whole := r.left.Dir
	cut := errors.New("cut off")
	for _, step := range []string{"archive.old", "archive.copy", "archive", "raft.old", "raft.copy", "raft", "certified"} {
		r.left.Dir = filepath.Join(t.TempDir(), "r")
		elsewhere := filepath.Join(t.TempDir(), "history")
		raft := filepath.Join(r.left.Dir, "raft")
		copied := func(to, from string) {
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		copied(r.left.Dir, whole)
		must(os.Rename(filepath.Join(r.left.Dir, "archive"), elsewhere))
		must(os.Symlink(elsewhere, filepath.Join(r.left.Dir, "archive")))
		must(os.RemoveAll(raft))
		must(os.Mkdir(raft, 0o700))
		must(syscall.Mount("tmpfs", raft, "tmpfs", 0, "size=64m"))
		t.Cleanup(func() { _ = syscall.Unmount(raft, syscall.MNT_DETACH) })
		must(os.Mkdir(filepath.Join(raft, "lost+found"), 0o700))
		copied(raft, filepath.Join(whole, "raft"))

		o := replica.RecoverOptions{Dir: r.left.Dir, Name: r.left.Record.Name, Genesis: r.Entry, Key: r.left.Key.Public(), Statements: statements}
		o.CrashAt(step, cut)
		if _, err := replica.Recover(r.Context(), o); !errors.Is(err, cut) {
			t.Fatalf("%s: %v", step, err)
		}
		report, err := r.left.Recover(statements, nil)
		if err != nil || !report.Already || report.Dropped != 1 {
			t.Fatalf("%s: again: %+v, %v", step, report, err)
		}
		for _, name := range []string{"raft", "archive"} {
			kept, err := os.ReadDir(filepath.Join(report.Folder, name+".old"))
			if err != nil || len(kept) == 0 {
				t.Errorf("%s: %s was not set aside: %v", step, name, err)
			}
			left, err := filepath.Glob(filepath.Join(report.Folder, name+".*"))
			if err != nil || len(left) != 1 {
				t.Errorf("%s: left over: %v, %v", step, left, err)
			}
		}
		if at, err := os.Readlink(filepath.Join(r.left.Dir, "archive")); err != nil || at != elsewhere {
			t.Errorf("%s: the history's link is gone: %v", step, err)
		}
		r.left.Start()
		r.left.Await("the new branch is certified after "+step, func(s replica.Status) bool {
			return s.Generation == 1 && s.Certified > r.plan.Head.Size && s.Authority == 1
		})
		if err := r.left.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// inOwnMounts runs a test in a process that may mount, and whose mounts nobody sees.
func inOwnMounts(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inside := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	inside.Env = append(os.Environ(), ownMounts+"=1", "TMPDIR="+t.TempDir())
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := inside.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine allows no mounts of one's own: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}
