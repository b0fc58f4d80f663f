package replica_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// acknowledged submits records from several clients until stop, and gives the
// ids and seqs that were acknowledged.
func acknowledged(c *replicatest.Cluster, at *replicatest.Node, stop <-chan struct{}) (wait func() map[ledger.Hash]uint64) {
	var mu sync.Mutex
	acks := map[ledger.Hash]uint64{}
	var wg sync.WaitGroup
	for client := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), replicatest.Patience)
				receipt, err := at.Replica.Submit(ctx, [][]byte{c.Record(c.Council[client], fmt.Sprint(client, " ", i))}, replica.WaitCommitted)
				cancel()
				if err != nil {
					continue
				}
				mu.Lock()
				acks[receipt.Verdicts[0].ID] = receipt.Verdicts[0].Seq
				mu.Unlock()
				if i > 70 {
					return // below the 256 live nonces of an author
				}
			}
		})
	}
	return func() map[ledger.Hash]uint64 { wg.Wait(); return acks }
}

func holds(t *testing.T, n *replicatest.Node, acks map[ledger.Hash]uint64) {
	t.Helper()
	for id, seq := range acks {
		raw, err := n.Replica.Archive().Entry(seq)
		if err != nil {
			t.Fatalf("%s: acknowledged entry %d: %v", n.Record.Name, seq, err)
		}
		entry, err := ledger.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		st, err := ledger.ParseStatement(entry.Content)
		if err != nil || st.ID != id {
			t.Fatalf("%s: entry %d is not the acknowledged statement %s: %v", n.Record.Name, seq, id, err)
		}
	}
}

// sameDigest waits until all running nodes have applied what the leader has,
// and compares root and state digest.
func sameDigest(t *testing.T, c *replicatest.Cluster) {
	t.Helper()
	leader := c.Leader()
	last := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[2], fmt.Sprint("compare ", time.Now()))).Last
	var want *replica.View
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		if err := n.Replica.WaitCertified(c.Context(), last); err != nil {
			t.Fatalf("%s: %v", n.Record.Name, err)
		}
		view, err := n.Replica.View(c.Context(), replica.Certified)
		if err != nil {
			t.Fatalf("%s: %v", n.Record.Name, err)
		}
		if want == nil || want.Size != view.Size {
			want = view
			continue
		}
		if view.State.Digest() != want.State.Digest() || view.State.Prev() != want.State.Prev() {
			t.Fatalf("%s: digest %s prev %s at size %d, want %s %s", n.Record.Name, view.State.Digest(), view.State.Prev(), view.Size,
				want.State.Digest(), want.State.Prev())
		}
	}
}

func TestLeaderKilledUnderLoad(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	leader, at := c.Leader(), c.Follower()
	stop := make(chan struct{})
	wait := acknowledged(c, at, stop)
	at.Await("statements flow", func(s replica.Status) bool { return s.Applied > 20 })
	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	next := c.Leader()
	size := next.Replica.Status().Applied
	next.Await("statements flow again", func(s replica.Status) bool { return s.Applied > size+10 })
	close(stop)
	acks := wait()
	leader.Start()
	sameDigest(t, c)
	if len(acks) < 20 {
		t.Fatalf("only %d acknowledged", len(acks))
	}
	for _, n := range c.Nodes {
		holds(t, n, acks)
	}
}

func TestRestartAll(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before")).Last
	for round, end := range []func(*replicatest.Node) error{(*replicatest.Node).Kill, (*replicatest.Node).Stop} {
		for _, n := range c.Nodes {
			if err := end(n); err != nil {
				t.Fatalf("round %d: %s: %v", round, n.Record.Name, err)
			}
		}
		for _, n := range c.Nodes {
			n.Start()
			// The certified log is there before Raft has said a word.
			if note, size := n.Replica.Checkpoint(); note == nil || size == 0 {
				t.Fatalf("%s: no certified checkpoint at once", n.Record.Name)
			}
		}
		sameDigest(t, c)
	}
	if _, err := c.Nodes[0].Replica.Archive().Entry(last); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotAndRestart(t *testing.T) {
	for _, store := range []string{replica.LogStoreBolt, replica.LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			c := replicatest.Start(t, 3, func(cfg *replica.Config) {
				cfg.LogStore = store
				cfg.Raft.TrailingLogs = 4
			})
			for i := range 20 {
				c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[0], fmt.Sprint("record ", i)))
			}
			c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "sealed"))
			for i := range 5 {
				c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[1], fmt.Sprint("after ", i)))
			}
			for _, n := range c.Nodes {
				n.Await("it has a certified state", func(s replica.Status) bool { return s.Certified > 21 })
				if err := n.Replica.Snapshot(c.Context()); err != nil {
					t.Fatalf("%s: snapshot: %v", n.Record.Name, err)
				}
			}
			for _, n := range c.Nodes {
				if err := n.Kill(); err != nil {
					t.Fatal(err)
				}
				if kept, _ := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*")); len(kept) == 0 {
					t.Fatalf("%s: no snapshot on disk", n.Record.Name)
				}
			}
			for _, n := range c.Nodes {
				n.Start()
			}
			sameDigest(t, c)
		})
	}
}

func TestCorruptedFilesAreRefused(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "x"))
	n := c.Follower()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"head", "certified", "logkey", filepath.Join("archive", "tail")} {
		path := filepath.Join(n.Dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := append([]byte(nil), b...)
		broken[len(broken)/3] ^= 1
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		err = n.TryStart()
		if err == nil {
			t.Fatalf("%s: opened with a flipped bit", name)
		}
		if !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.Start()
	sameDigest(t, c)
}

// A replica that is started on an older copy of its disk finds its own, newer
// signature at its peers, and does not come back.
func TestOlderDataHalts(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	n := c.Follower()
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "old"))
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(n.Dir)); err != nil {
		t.Fatal(err)
	}
	n.Start()
	last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "new")).Last
	n.Await("it signed the new head", func(s replica.Status) bool {
		for _, p := range s.Peers {
			if p.Self && p.Cosigned > last {
				return true
			}
		}
		return false
	})
	c.Leader().Await("the leader saw that signature", func(s replica.Status) bool {
		for _, p := range s.Peers {
			if p.Name == n.Record.Name && p.Cosigned > last {
				return true
			}
		}
		return false
	})
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	n.Dir = copied
	n.Start()
	s := n.Await("it halts", func(s replica.Status) bool { return s.Role == replica.RoleHalted })
	if len(s.Alarms) == 0 || !strings.Contains(s.Alarms[0].Detail, "older data") {
		t.Fatalf("alarms %+v", s.Alarms)
	}
	if _, err := n.Replica.View(c.Context(), replica.Certified); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("a halted replica serves: %v", err)
	}
	if note, _ := n.Replica.Checkpoint(); note != nil {
		t.Fatal("a halted replica serves its checkpoint")
	}
	if err := n.Stop(); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("run: %v", err)
	}
}

// A replica that lost Raft's log and votes, and kept the rest of its disk, could
// vote twice in a term: it does not come back.
func TestLostRaftLogHalts(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	n := c.Follower()
	last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "x")).Last
	n.Await("it signed", func(s replica.Status) bool {
		for _, p := range s.Peers {
			if p.Self && p.Cosigned > last {
				return true
			}
		}
		return false
	})
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(n.Dir, "raft")); err != nil {
		t.Fatal(err)
	}
	n.Start()
	s := n.Await("it halts", func(s replica.Status) bool { return s.Role == replica.RoleHalted })
	if len(s.Alarms) == 0 || !strings.Contains(s.Alarms[0].Detail, "votes are lost") {
		t.Fatalf("alarms %+v", s.Alarms)
	}
	if err := n.Stop(); !errors.Is(err, replica.ErrHalted) {
		t.Fatalf("run: %v", err)
	}
	sameDigest(t, c)
}

// The other way round: the history is rebuilt from Raft's log.
func TestLostArchiveIsRebuilt(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	n := c.Follower()
	last := c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "x")).Last
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(n.Dir, "archive")); err != nil {
		t.Fatal(err)
	}
	n.Start()
	sameDigest(t, c)
	if _, err := n.Replica.Archive().Entry(last); err != nil {
		t.Fatal(err)
	}
}
