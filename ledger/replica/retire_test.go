package replica_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// destroyedOnLedger gives the entry that says that a key is destroyed, 0 while none does,
// by the newest certified state.
func destroyedOnLedger(t *testing.T, n *replicatest.Node, id ledger.Hash) uint64 {
	t.Helper()
	view, err := n.Replica.View(t.Context(), replica.Certified)
	if err != nil {
		return 0
	}
	record, known := view.State.Key(id)
	if known && record.Destroyed > 0 && record.Ended != fsm.KeyRotated {
		t.Errorf("key %s is destroyed and %q", id, record.Ended)
	}
	return record.Destroyed
}

// rotateOnce begins an epoch, and waits until the only replica uses another key.
func rotateOnce(t *testing.T, c *replicatest.Cluster, n *replicatest.Node) (id ledger.Hash, file string) {
	t.Helper()
	was, _ := keyOf(t, n, n.Record.Name)
	nextEpoch(c, n)
	n.Await("it rotated, and uses the new key", func(replica.Status) bool {
		key, _ := keyOf(t, n, n.Record.Name)
		return key != was && n.Replica.UsesKey(key)
	})
	id, _ = keyOf(t, n, n.Record.Name)
	return id, filepath.Join(n.Dir, "keys", id.String()[:16]+".key")
}

// twoEpochs begins two epochs, after which nothing is heard that a former key said: that
// goes by the clock, and anew when the length of epochs changes.
func twoEpochs(t *testing.T, c *replicatest.Cluster) {
	t.Helper()
	n := c.Leader()
	nextEpoch(c, n)
	nextEpoch(c, n)
	view, err := n.Replica.View(c.Context(), replica.Linearizable)
	if err != nil {
		t.Fatal(err)
	}
	policy := view.State.Policy()
	policy.EpochMillis++
	c.Decide(n, "policy.change", map[string]any{"policy": policy})
}

// A key's secret is destroyed two epochs after it ended, and the ledger has one record of
// it, whatever of the two a crash, a disk that refuses, or a lost answer comes in between.
func TestDestroyedKeysAreOnTheLedger(t *testing.T) {
	for _, fault := range []string{"", "retired", "refused", "destroyed"} {
		t.Run("at "+fault, func(t *testing.T) {
			t.Parallel()
			var armed, off atomic.Bool
			struck := make(chan struct{})
			c := replicatest.Start(t, 1, func(cfg *replica.Config) {
				quickPins(cfg)
				cfg.Rotation.Off = off.Load()
				cfg.Hooks = &replica.Hooks{Rotation: func(at string) error {
					if at == fault && armed.CompareAndSwap(true, false) {
						close(struck)
						return errCrash
					}
					return nil
				}}
			}, rotating)
			n := c.Leader()
			c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "before"))
			first, _ := keyOf(t, n, "r1")
			second, file := rotateOnce(t, c, n)
			third, kept := rotateOnce(t, c, n)
			off.Store(true) // it has the keys that the test is about
			armed.Store(true)
			if err := n.Stop(); err != nil {
				t.Fatal(err)
			}
			n.Start()
			if fault == "refused" { // a folder that is not empty can't be removed, nor overwritten
				held := file + ".held"
				if err := os.Rename(file, held); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil {
					t.Fatal(err)
				}
				twoEpochs(t, c)
				n.Await("it tries", func(replica.Status) bool { return n.Replica.Unnamed(second) })
				c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "meanwhile"))
				if seq := destroyedOnLedger(t, n, second); seq > 0 {
					t.Errorf("entry %d says that the key is destroyed, whose file is there", seq)
				}
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(held, file); err != nil {
					t.Fatal(err)
				}
			} else {
				twoEpochs(t, c)
			}
			if fault == "retired" || fault == "destroyed" {
				select {
				case <-struck:
				case <-c.Context().Done():
					t.Fatal("it does not come to that step")
				}
				if err := n.Kill(); err != nil {
					t.Fatal(err)
				}
				n.Start()
			}
			n.Await("the ledger has it", func(replica.Status) bool { return destroyedOnLedger(t, n, second) > 0 })
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("the ledger says that it is destroyed: %v", err)
			}
			seq := destroyedOnLedger(t, n, second)
			// Nothing else is said, by it or at the next start: not of the first key, whose
			// file is people's, and of this one once.
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			n.Start()
			c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
			nextEpoch(c, n)
			c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "later"))
			if again := destroyedOnLedger(t, n, second); again != seq {
				t.Errorf("it is said again, in entry %d after %d", again, seq)
			}
			if seq := destroyedOnLedger(t, n, first) + destroyedOnLedger(t, n, third); seq > 0 {
				t.Errorf("entry %d says that a key is destroyed which is there", seq)
			}
			if _, err := os.Stat(kept); err != nil {
				t.Errorf("the key in use: %v", err)
			}
		})
	}
}

// A key file that the disk does not let it destroy keeps no replica from rotating.
func TestFilesThatStayStopNoRotation(t *testing.T) {
	c := replicatest.Start(t, 1, quickPins, rotating)
	n := c.Leader()
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "before"))
	second, file := rotateOnce(t, c, n)
	rotateOnce(t, c, n)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil { // neither written nor removed
		t.Fatal(err)
	}
	n.Start()
	c.Leader()
	for range 4 {
		rotateOnce(t, c, n)
	}
	if seq := destroyedOnLedger(t, n, second); !n.Replica.Unnamed(second) || seq > 0 {
		t.Errorf("the key whose file stays: named %v, destroyed by entry %d", !n.Replica.Unnamed(second), seq)
	}
}
