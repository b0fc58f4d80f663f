package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// smallDisk gives each replica a disk of its own, of so many MiB.
func smallDisk(t *testing.T, megabytes int) func(*replica.Config) {
	mounted := map[string]bool{}
	return func(cfg *replica.Config) {
		if mounted[cfg.Dir] {
			return
		}
		mounted[cfg.Dir] = true
		if err := errors.Join(os.MkdirAll(cfg.Dir, 0o700), syscall.Mount("tmpfs", cfg.Dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))); err != nil {
			t.Fatal(err)
		}
		dir := cfg.Dir
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
}

// fill leaves not a byte free on the disk of a folder; free gives the space back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "of-others")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is really full, under bolt and under raft-wal: the leader says so
// and another leads; what the others acknowledge meanwhile it lacks; once there is
// space it goes on by itself, with all of it, and what it has written then is read
// at the next start.
func TestFullDiskOfItsOwn(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	for _, store := range []string{replica.LogStoreBolt, replica.LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			disk := smallDisk(t, 32)
			c := replicatest.Start(t, 3, func(cfg *replica.Config) {
				cfg.LogStore = store
				disk(cfg)
			})
			leader, acks := c.Leader(), map[ledger.Hash]uint64{}
			text, written := strings.Repeat("x", 3<<10), 0
			write := func(n *replicatest.Node) error {
				written++
				receipt, err := n.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[written%3], fmt.Sprint(text, written))}, replica.WaitCommitted)
				if err == nil {
					acks[receipt.Verdicts[0].ID] = receipt.Last
				}
				return err
			}
			for range 10 {
				if err := write(leader); err != nil {
					t.Fatal(err)
				}
			}
			free := fill(t, leader.Dir)
			other := c.Nodes[0]
			if other == leader {
				other = c.Nodes[1]
			}
			for leader.Replica.Status().Role == replica.RoleLeader && written < 300 {
				_ = write(leader) // refused, or forwarded once another leads
			}
			leader.Await("it says that its disk is full", func(s replica.Status) bool { return alarmed(s, "disk_full") })
			other.Await("another leads", func(s replica.Status) bool { return s.Leader != "" && s.Leader != leader.Record.Name && s.Ready })
			for before := written; written < before+200; {
				if err := write(other); err != nil {
					t.Fatalf("write %d, with one full disk of three: %v", written, err)
				}
			}
			s := leader.Replica.Status()
			if !alarmed(s, "disk_full") || s.Ready || s.Role == replica.RoleLeader {
				t.Errorf("a %s with a full disk says %+v", s.Role, s.Alarms)
			}
			if _, err := leader.Replica.View(c.Context(), replica.Certified); err != nil {
				t.Errorf("reads do not go on: %v", err)
			}
			t.Logf("at Raft's entry %d of %d: %+v", s.RaftIndex, other.Replica.Status().RaftIndex, s.Alarms)
			free()
			leader.Await("its disk is well", func(s replica.Status) bool { return !alarmed(s, "disk_full") && s.Ready })
			sameDigest(t, c)
			for _, n := range c.Nodes {
				holds(t, n, acks)
			}
			if err := c.Leader().Replica.TransferLeadership(c.Context(), leader.Record.Name); err != nil {
				t.Fatal(err)
			}
			leader.Await("it leads again", func(s replica.Status) bool { return s.Role == replica.RoleLeader && s.Ready })
			if err := write(leader); err != nil {
				t.Fatal(err)
			}
			if err := leader.Kill(); err != nil {
				t.Fatal(err)
			}
			leader.Start()
			sameDigest(t, c)
			holds(t, leader, acks)
		})
	}
}

// raft-wal begins its next segment by itself, before anybody needs it; what fails of that,
// the next write alone hears. On a full disk the replica then stops and says why, and goes on
// once it is started again and there is space, with all that was acknowledged.
func TestFullDiskAtTheNextSegment(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	// A disk for r3's segments alone, which has room for the first, for its last write,
	// which goes beyond its end, and not for a second.
	wal := ""
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.LogStore, cfg.Raft.WALSegmentBytes = replica.LogStoreWAL, 512<<10
		if cfg.Name != "r3" || wal != "" {
			return
		}
		wal = filepath.Join(cfg.Dir, "raft", "wal")
		if err := errors.Join(os.MkdirAll(wal, 0o700), syscall.Mount("tmpfs", wal, "tmpfs", 0, "size=960k")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(wal, syscall.MNT_DETACH) })
	})
	full, acks := c.Nodes[2], map[ledger.Hash]uint64{}
	if c.Leader() == full {
		if err := full.Replica.TransferLeadership(c.Context(), "r1"); err != nil {
			t.Fatal(err)
		}
	}
	text, written, last := strings.Repeat("x", 3<<10), 0, uint64(0)
	write := func() {
		t.Helper()
		written++
		receipt := c.Submit(c.Nodes[0], replica.WaitCommitted, c.Record(c.Council[written%3], fmt.Sprint(text, written)))
		acks[receipt.Verdicts[0].ID], last = receipt.Last, receipt.Last
	}
	until := func(what string, holds func(replica.Status) bool) {
		t.Helper()
		for reached := false; !reached; {
			if written > 300 { // a seventy-eighth of a segment each
				t.Fatalf("after %d writes it runs on, and not until %s: %+v", written, what, full.Replica.Status())
			}
			write() // one by one: many at once may go too far beyond the segment's end
			full.Await("it has that, or "+what, func(s replica.Status) bool {
				reached = holds(s)
				return reached || s.Applied > last
			})
		}
	}
	until("it stopped", func(s replica.Status) bool { return s.Role == replica.RoleStopped })
	if err := full.Stop(); !errors.Is(err, replica.ErrDiskFailed) || !strings.Contains(err.Error(), "next segment") {
		t.Errorf("it stopped: %v", err)
	}
	write()
	// Started on the full disk it goes on as far as that has room, and then waits.
	full.Start()
	until("it says that its disk is full", func(s replica.Status) bool { return alarmed(s, "disk_full") })
	if err := syscall.Mount("tmpfs", wal, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	full.Await("its disk is well", func(s replica.Status) bool { return !alarmed(s, "disk_full") && s.Ready })
	sameDigest(t, c)
	for _, n := range c.Nodes {
		holds(t, n, acks)
	}
	if err := full.Kill(); err != nil {
		t.Fatal(err)
	}
	full.Start()
	write()
	sameDigest(t, c)
	holds(t, full, acks)
}
