package replica_test

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// After an error other than a full disk nothing more is written to Raft's log,
// although the disk would take it; the replica stops and says why; the others go
// on; what was acknowledged is there; and a restart reads what the disk has.
func TestFailedFsyncOfLogStops(t *testing.T) {
	for _, part := range []string{partLog, partStable} {
		t.Run(part, func(t *testing.T) {
			disk := newFaultyDisk()
			c := replicatest.Start(t, 3, disk.config)
			leader := c.Leader()
			acks := map[ledger.Hash]uint64{}
			keep := func(receipt *replica.Receipt) { acks[receipt.Verdicts[0].ID] = receipt.Last }
			keep(c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before")))
			disk.failOnce(leader.Record.Name, part, syscall.EIO)
			if part == partStable { // a new term makes it write its own
				if err := leader.Replica.TransferLeadership(c.Context(), ""); err != nil {
					t.Fatal(err)
				}
			} else if _, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "into the failure")}, replica.WaitCommitted); err == nil {
				t.Error("acknowledged by a leader whose fsync failed")
			}
			leader.Await("it stopped", func(s replica.Status) bool { return s.Role == replica.RoleStopped })
			if err := leader.Stop(); !errors.Is(err, replica.ErrDiskFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("run: %v", err)
			}
			if n := disk.since(leader.Record.Name); n > 0 {
				t.Errorf("%d writes to Raft's log after it failed", n)
			}
			keep(c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "without it")))
			leader.Start()
			sameDigest(t, c)
			for _, n := range c.Nodes {
				holds(t, n, acks)
			}
		})
	}
}

// A full disk under Raft's log, its term and votes, and the archive: writes are
// refused, reads go on, and all recovers when there is space.
func TestFullDiskRecovers(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "raft/log.db", Err: syscall.ENOSPC}
	disk := newFaultyDisk()
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		disk.config(cfg)
		cfg.Limits.LeaderHold = 2 * time.Second
	})
	before := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	for _, n := range c.Nodes {
		if err := n.Replica.WaitCertified(c.Context(), before.Last); err != nil {
			t.Fatal(err)
		}
	}
	all := func(err error) {
		for _, n := range c.Nodes {
			for _, part := range []string{partLog, partStable, partArchive} {
				disk.fail(n.Record.Name, part, err)
			}
		}
	}
	all(full)
	for i, n := range c.Nodes {
		_, err := n.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], fmt.Sprint("refused ", i))}, replica.WaitCommitted)
		if err == nil {
			t.Fatalf("%s: acknowledged on full disks", n.Record.Name)
		}
	}
	for _, n := range c.Nodes {
		view, err := n.Replica.View(c.Context(), replica.Certified)
		if err != nil || view.Size <= before.Last {
			t.Fatalf("%s: reads do not go on: %v", n.Record.Name, err)
		}
	}
	all(nil)
	for _, n := range c.Nodes {
		n.Await("its disk is well", func(s replica.Status) bool { return !alarmed(s, "disk_full") && !alarmed(s, "disk_stalled") && s.Ready })
	}
	sameDigest(t, c)
	holds(t, c.Leader(), map[ledger.Hash]uint64{before.Verdicts[0].ID: before.Last})
}
