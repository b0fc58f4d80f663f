package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A snapshot that passes every checksum and still lies is refused: each claim
// in it is proven against genesis alone.
func TestSnapshotLiesAreRefused(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	for i := range 6 {
		c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], fmt.Sprint("record ", i)))
	}
	n := c.Follower()
	if err := n.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	honest, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.ProveSnapshot(honest, c.Entry, nil); err != nil {
		t.Fatalf("an honest snapshot is refused: %v", err)
	}
	other := replicatest.NewCeremony(t, 3)
	if err := replica.ProveSnapshot(honest, other.Entry, nil); err == nil {
		t.Error("a snapshot of another ledger was taken")
	}
	for name, lie := range replica.SnapshotLies {
		if err := replica.ProveSnapshot(honest, c.Entry, lie); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: refused for its form, not for its lie: %v", name, err)
		}
	}
}

// What a leader sends on after its snapshot was refused does not reach the disk,
// however much it is; nor does more than the limit.
func TestForgedSnapshotTakesNoDisk(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Nodes[0]
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "x"))
	if err := n.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	honest, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	const limit, flood, slack = 4 << 20, 64 << 20, 1 << 20
	if written, kept, err := replica.Install(c.Entry, limit, bytes.NewReader(honest)); err != nil || !kept || written != int64(len(honest)) {
		t.Fatalf("an honest one: %d of %d bytes, kept %t: %v", written, len(honest), kept, err)
	}
	flipped := bytes.Clone(honest)
	flipped[len(flipped)/2] ^= 1
	for name, forged := range map[string][]byte{
		"noise from the start":  nil,
		"noise after a half":    honest[:len(honest)/2],
		"a flipped bit, noise":  flipped,
		"noise after the whole": honest,
	} {
		stream := io.MultiReader(bytes.NewReader(forged), io.LimitReader(zeros{}, flood))
		written, kept, err := replica.Install(c.Entry, limit, stream)
		if err == nil || kept || written > int64(len(forged))+slack {
			t.Errorf("%s: %d bytes on the disk, kept %t: %v", name, written, kept, err)
		}
	}
	if written, kept, err := replica.Install(c.Entry, int64(len(honest))-1, bytes.NewReader(honest)); err == nil || kept {
		t.Errorf("beyond the limit: %d bytes on the disk, kept %t: %v", written, kept, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A head that enough replicas certified and that is not ours stops us: we are
// the one that went astray. One liar alone is an alarm.
func TestConflictingCertifiedHeadHalts(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	n := c.Follower()
	receipt := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "x"))
	if err := n.Replica.WaitCertified(c.Context(), receipt.Last); err != nil {
		t.Fatal(err)
	}
	_, size := n.Replica.Checkpoint()
	lie := ledger.Head{Origin: c.Genesis.Origin, Size: size, Root: ledger.Hash{0xbd}}
	var liars []*replicatest.Identity
	for _, i := range c.Replicas {
		if i != n.Identity {
			liars = append(liars, i)
		}
	}
	sign := func(count int) []byte {
		note := ledger.Checkpoint{Head: lie}
		for _, i := range liars[:count] {
			note.Add(ledger.Cosign(c.Hash, i.Key, i.Key.Cosigner44(), i.Record.Name, lie, 1_800_000_000))
		}
		return note.Note()
	}
	if err := n.Replica.Offer(sign(1)); err != nil {
		t.Fatal(err)
	}
	s := n.Await("an alarm names the liar", func(s replica.Status) bool { return len(s.Alarms) > 0 })
	if s.Alarms[0].Code != "fork" || !strings.Contains(s.Alarms[0].Detail, liars[0].Record.Name) || s.Role == replica.RoleHalted {
		t.Fatalf("role %s, alarms %+v", s.Role, s.Alarms)
	}
	if err := n.Replica.Offer(sign(3)); err != nil {
		t.Fatal(err)
	}
	n.Await("it halts", func(s replica.Status) bool { return s.Role == replica.RoleHalted })
	if _, err := n.Replica.Submit(context.Background(), [][]byte{c.Record(c.Council[0], "y")}, replica.WaitCommitted); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("got %v", err)
	}
	// The other three go on without it.
	if err := n.Stop(); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("run: %v", err)
	}
	sameDigest(t, c)
	// Nor does a restart bring it back: it would sign its own history again.
	n.Start()
	n.Await("it is still halted", func(s replica.Status) bool {
		return s.Role == replica.RoleHalted && slices.ContainsFunc(s.Alarms, func(a replica.Alarm) bool { return a.Code == "halted" })
	})
	if err := n.Stop(); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("run: %v", err)
	}
}

// What a liar says that others cosigned is not kept: it would push out what
// they sent themselves, or fill the memory.
func TestForgedHearsayIsDropped(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Leader()
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "x"))
	liar := replicatest.Key(t)
	for i := range 100 {
		head := ledger.Head{Origin: c.Genesis.Origin, Size: 1 << 40, Root: ledger.Hash{byte(i)}}
		for _, name := range []string{n.Record.Name, fmt.Sprint("made-up-", i)} {
			heads, replicas := n.Replica.Hear(head, ledger.Cosign(c.Hash, liar, liar.Cosigner44(), name, head, 1<<40))
			if heads > 8 || replicas > 1 {
				t.Fatalf("%d heads of %d replicas are kept", heads, replicas)
			}
		}
	}
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "y"))
}
