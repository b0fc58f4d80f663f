package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// ringPath is the ring of a node.
func ringPath(n *replicatest.Node) string {
	return filepath.Join(n.Dir, "ring-"+n.Record.KeyID().String()[:16])
}

// A second process on a running replica's directory is told so before it reads the
// keys, which the first may be changing: with what it read, it would go on later.
func TestRingIsReadUnderTheLock(t *testing.T) {
	c := replicatest.Start(t, 1, func(cfg *replica.Config) { cfg.Rotation.Off = true })
	n := c.Leader()
	if err := os.WriteFile(ringPath(n), []byte("half of a ring"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Open(n.Config()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("it is told: %v", err)
	}
}

// stoppedRing opens, and does not run, a replica that has not rotated.
func stoppedRing(t *testing.T) (*replicatest.Node, *replica.Replica) {
	t.Helper()
	c := replicatest.Start(t, 1, func(cfg *replica.Config) { cfg.Rotation.Off = true })
	n := c.Leader()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	r, err := replica.Open(n.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return n, r
}

func keyFiles(t *testing.T, n *replicatest.Node) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Dir, "keys", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A rotation that the disk refuses is tried again, and leaves no key file each time.
func TestFailedRotationLeavesNoKeyFile(t *testing.T) {
	n, r := stoppedRing(t)
	for _, path := range []string{filepath.Join(n.Dir, "seq"), ringPath(n)} {
		if err := os.Mkdir(path+".tmp", 0o700); err != nil { // so that it can't be written
			t.Fatal(err)
		}
		for range 3 {
			if err := r.PrepareKey(); err == nil || r.NextKey() {
				t.Errorf("%s: a key was made: %v", filepath.Base(path), err)
			}
		}
		if files := keyFiles(t, n); len(files) > 0 {
			t.Errorf("%s: key files %v", filepath.Base(path), files)
		}
		if err := os.Remove(path + ".tmp"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.PrepareKey(); err != nil || !r.NextKey() || len(keyFiles(t, n)) != 1 {
		t.Errorf("once the disk takes it: %v, key files %v", err, keyFiles(t, n))
	}
}

// A write of the ring may fail after the new one got its name: that one counts.
func TestRingOnTheDiskCounts(t *testing.T) {
	n, r := stoppedRing(t)
	if err := r.PrepareKey(); err != nil {
		t.Fatal(err)
	}
	if err := r.SettleRing(); err != nil || !r.NextKey() || len(keyFiles(t, n)) != 1 {
		t.Errorf("the next key that is on the disk: %v, %v, key files %v", err, r.NextKey(), keyFiles(t, n))
	}
}

// rotatedTwice founds a ledger of one replica, which has rotated as often; it gives
// the key file that ended and the one in use.
func rotatedTwice(t *testing.T) (c *replicatest.Cluster, ended, used string) {
	t.Helper()
	c = replicatest.Start(t, 1, quickPins, rotating)
	n := c.Leader()
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "before"))
	for range 2 {
		was, _ := keyOf(t, n, "r1")
		nextEpoch(c, n)
		n.Await("it rotated, and uses the new key", func(replica.Status) bool {
			key, _ := keyOf(t, n, "r1")
			return key != was && n.Replica.UsesKey(key)
		})
		now, _ := keyOf(t, n, "r1")
		ended, used = used, filepath.Join(n.Dir, "keys", now.String()[:16]+".key")
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	return c, ended, used
}

// A damaged key file stops the start if its key is in use, and not if it ended.
func TestFormerKeyFileMayBeDamaged(t *testing.T) {
	c, ended, used := rotatedTwice(t)
	n := c.Nodes[0]
	secret, err := os.ReadFile(used)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{ended, used} {
		if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.TryStart(); err == nil {
		t.Fatal("it starts without the key in use")
	}
	if err := os.WriteFile(used, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Start()
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
}

// A ring that got lost takes no key file with it: the replica, whose configured key
// is not its own any more, halts, and goes on once the ring is back.
func TestKeyFilesOutliveALostRing(t *testing.T) {
	c, _, used := rotatedTwice(t)
	n := c.Nodes[0]
	secret, err := os.ReadFile(used)
	if err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(n.Dir, "aside")
	if err := os.Rename(ringPath(n), aside); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.Await("it halts", func(s replica.Status) bool { return s.Role == replica.RoleHalted })
	_ = n.Kill()
	if now, err := os.ReadFile(used); err != nil || string(now) != string(secret) {
		t.Fatalf("the key in use: %d bytes of %d, %v", len(now), len(secret), err)
	}
	if err := os.Rename(aside, ringPath(n)); err != nil {
		t.Fatal(err)
	}
	n.Start()
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
}

// The key files of a line that ended are destroyed, its ring or not.
func TestKeyFilesOfAFormerLineAreDestroyed(t *testing.T) {
	c, _, used := rotatedTwice(t)
	n := c.Nodes[0]
	former := filepath.Join("keys", "0123456789abcdef.key")
	if err := os.WriteFile(filepath.Join(n.Dir, former), []byte("a secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replica.WriteFormerRing(n.Dir, former); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.Await("the former line's key is destroyed", func(replica.Status) bool {
		_, err := os.Stat(filepath.Join(n.Dir, former))
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(used); err != nil {
		t.Error(err)
	}
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
}

// A recovery from a head that knows the replica under a key whose secret is gone is
// refused before it changes anything.
func TestRecoverWantsTheKeyOfTheHead(t *testing.T) {
	c, _, used := rotatedTwice(t)
	n := c.Nodes[0]
	statements := c.Recovery(n.Survey(), []string{"r1"}, nil, nil)
	if err := os.Rename(used, used+".away"); err != nil {
		t.Fatal(err)
	}
	var refused *replica.RecoverError
	if _, err := n.Recover(statements, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "whose secret is not here") {
		t.Errorf("without the secret: %v", err)
	}
	if err := os.Rename(used+".away", used); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Recover(statements, nil); err != nil {
		t.Fatal(err)
	}
	c.Generation = 1
	n.Start()
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
}
