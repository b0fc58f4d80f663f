package agent

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

const ownMounts = "QUORATE_TEST_OWN_MOUNTS"

// An agent whose disk is full, a real one of 4 MB, goes on enforcing what is
// certified, new decisions too, says so in its status, and signs what it need not
// write down; when there is room again, or when it starts while there is none, it
// goes on from what it had.
func TestFullDisk(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	f := newFleet(t, 3, 2, nil, nil)
	m := f.agents[0]
	disk := m.config.Dir
	seqs, err := os.ReadFile(filepath.Join(disk, "seqs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(disk, "seqs"), seqs, 0o600); err != nil {
		t.Fatal(err)
	}
	standing := func(name, want string) func(*member) bool {
		return func(m *member) bool { return m.View().Standing(name) == want }
	}
	all := f.agents[:1]
	f.start(m)
	f.await("it follows", all, standing("n2", fsm.NodeActive))
	m.saveNow()
	kept := m.View().Size

	fill(t, disk)
	f.decide("node.quarantine", map[string]any{"name": "n2", "reason": "drill"})
	f.await("the decision is enforced", all, standing("n2", fsm.NodeQuarantined))
	m.saveNow()
	s := m.Status()
	if s.Trouble[troubleDisk] == "" || s.Stale || !s.Replicas || s.Trouble[troubleReplicas] != "" {
		t.Fatalf("status %+v", s)
	}
	size := m.View().Size
	f.cluster.Submit(f.cluster.Leader(), 0, f.cluster.Record(f.cluster.Council[0], "while it is full"))
	f.await("it follows on", all, func(m *member) bool { return m.View().Size > size })

	// Started while there is no room, and with nobody to ask, it begins from what it
	// had; with somebody, it goes on from there.
	m.stop()
	servers := m.config.API.Servers
	m.config.API.Servers = nil
	f.start(m)
	if m.View().Size < kept || m.View().State == nil {
		t.Fatalf("it began at size %d, %d was kept: %+v", m.View().Size, kept, m.Status())
	}
	m.saveNow()
	if s := m.Status(); !strings.Contains(s.Trouble[troubleDisk], "save state") {
		t.Errorf("status %+v", s)
	}
	m.stop()
	m.config.API.Servers = servers
	f.start(m)
	f.await("the decision is enforced after a start", all, standing("n2", fsm.NodeQuarantined))

	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	f.await("the state is kept again", all, func(m *member) bool {
		m.saveNow()
		return m.Status().Trouble[troubleDisk] == ""
	})
	m.stop()
	m.config.API.Servers = nil // what it has, it has from its disk
	f.start(m)
	if m.View().Standing("n2") != fsm.NodeQuarantined || m.View().Size < size {
		t.Errorf("it began at size %d: %+v", m.View().Size, m.Status())
	}
	if err := m.out.say(ledger.TypeObserve, func(seq uint64) any {
		return ledger.Observe{Counter: seq + 1, Kind: ledger.NodeUp, Subject: "n2"}
	}); err != nil {
		t.Errorf("it says nothing: %v", err)
	}
}

// fill leaves no byte free.
func fill(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		_, err := f.Write(bytes.Repeat([]byte{1}, size))
		if errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// inOwnMounts runs the test in a process that may mount, and whose mounts nobody
// sees.
func inOwnMounts(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inside := exec.CommandContext(t.Context(), self, "-test.run", "^TestFullDisk$", "-test.timeout", "5m")
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
	}
}
