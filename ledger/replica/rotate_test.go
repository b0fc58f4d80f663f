package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// rotating founds a ledger whose replicas rotate in each epoch; epochs begin by
// decision alone.
func rotating(g *ledger.Genesis) {
	k := ledger.DefaultKeys()
	k.ReplicaKeyEpochs = 2
	g.Policy.Keys = &k
}

func quickPins(cfg *replica.Config) { cfg.Limits.PinLinger = 3 * time.Second }

// keyOf is the key under which the newest certified state knows a replica.
func keyOf(t *testing.T, n *replicatest.Node, name string) (key, server ledger.Hash) {
	t.Helper()
	view, err := n.Replica.View(t.Context(), replica.Certified)
	if err != nil {
		t.Fatal(err)
	}
	record, ok := view.State.Replica(name)
	if !ok {
		t.Fatalf("no replica %s", name)
	}
	return record.KeyID(), record.Server()
}

// shows says whether a replica shows the certificate that the newest certified
// state names, and no longer that of its seat.
func shows(t *testing.T, n *replicatest.Node) func(replica.Status) bool {
	return func(replica.Status) bool {
		pin, err := replica.CertificatePin(*n.Replica.Certificate())
		view, failed := n.Replica.View(t.Context(), replica.Certified)
		if err != nil || failed != nil {
			return false
		}
		record, _ := view.State.Replica(n.Record.Name)
		return record.TLSPin == pin && pin != n.Record.TLSPin
	}
}

// nextEpoch begins an epoch by decision.
func nextEpoch(c *replicatest.Cluster, n *replicatest.Node) {
	c.Decide(n, "epoch.advance", struct{}{})
}

// rotated waits until every running replica knows each of names under another key
// than that of its seat, certified.
func rotated(t *testing.T, c *replicatest.Cluster, names ...string) {
	t.Helper()
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		n.Await(fmt.Sprint(names, " rotated"), func(s replica.Status) bool {
			if s.Certified == 0 {
				return false
			}
			for _, name := range names {
				view, err := n.Replica.View(t.Context(), replica.Certified)
				if err != nil {
					return false
				}
				if record, ok := view.State.Replica(name); !ok || record.KeyID() == record.Server() {
					return false
				}
			}
			return true
		})
	}
}

// Replicas rotate by themselves when their keys are due, one at a time, over which
// every statement is certified, Raft's members stay, and each is in touch with all
// others under its new certificate; a restart finds the new keys.
func TestReplicasRotateByThemselves(t *testing.T) {
	c := replicatest.Start(t, 3, quickPins, rotating)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	nextEpoch(c, c.Leader())
	names := []string{"r1", "r2", "r3"}
	rotated(t, c, names...)
	for i := range 5 {
		c.Submit(c.Nodes[i%3], replica.WaitCertified, c.Record(c.Council[0], fmt.Sprint("after ", i)))
	}
	for _, n := range c.Nodes {
		if got := len(n.Replica.Status().Peers); got != 3 {
			t.Errorf("%s knows %d replicas", n.Record.Name, got)
		}
		if key, server := keyOf(t, n, n.Record.Name); key == n.Record.KeyID() || server != n.Record.KeyID() {
			t.Errorf("%s: key %s, server %s", n.Record.Name, key, server)
		}
		n.Await("its new certificate is in use", shows(t, n))
	}
	// Past the time in which peers take the former certificates, all are in touch.
	for _, n := range c.Nodes {
		for _, other := range c.Nodes {
			if other != n {
				other.Await("only present pins are taken", func(replica.Status) bool { return !other.Replica.Pins(n.Record.TLSPin) })
			}
		}
	}
	c.Submit(c.Follower(), replica.WaitCertified, c.Record(c.Council[0], "under new certificates"))
	for _, n := range c.Nodes {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	for i := range 3 {
		c.Submit(c.Nodes[i], replica.WaitCertified, c.Record(c.Council[0], fmt.Sprint("after all restarted ", i)))
	}
	sameDigest(t, c)
	// They rotate again, and two epochs later the key between is destroyed.
	second := map[string]string{}
	for _, n := range c.Nodes {
		key, _ := keyOf(t, n, n.Record.Name)
		second[n.Record.Name] = filepath.Join(n.Dir, "keys", key.String()[:16]+".key")
		if _, err := os.Stat(second[n.Record.Name]); err != nil {
			t.Error(err)
		}
	}
	nextEpoch(c, c.Leader())
	for _, n := range c.Nodes {
		n.Await("it has a third key", func(s replica.Status) bool {
			key, _ := keyOf(t, n, n.Record.Name)
			return filepath.Base(second[n.Record.Name]) != key.String()[:16]+".key" && shows(t, n)(s)
		})
	}
	for range 2 {
		nextEpoch(c, c.Leader())
	}
	for _, n := range c.Nodes {
		n.Await("its second key is destroyed", func(replica.Status) bool {
			_, err := os.Stat(second[n.Record.Name])
			return os.IsNotExist(err)
		})
	}
	sameDigest(t, c)
}

var errCrash = errors.New("a crash")

// A crash after any step of a rotation leaves exactly one way on: the replica comes
// back, and ends under one new key that it holds.
func TestRotationSurvivesACrashAtEachStep(t *testing.T) {
	for _, step := range []string{"file", "ring", "said", "accepted", "active"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			crashed := make(chan struct{})
			var armed bool
			c := replicatest.Start(t, 3, func(cfg *replica.Config) {
				quickPins(cfg)
				cfg.Rotation.Off = cfg.Name != "r2"
				if cfg.Name == "r2" && !armed {
					armed = true
					done := false
					cfg.Hooks = &replica.Hooks{Rotation: func(at string) error {
						if done || at == step {
							if !done {
								done = true
								close(crashed)
							}
							return errCrash
						}
						return nil
					}}
				}
			}, rotating)
			c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
			nextEpoch(c, c.Leader())
			<-crashed
			victim := c.Nodes[1]
			if err := victim.Kill(); err != nil {
				t.Fatal(err)
			}
			// The others go on; by now they may know it under its new certificate alone.
			survivor := c.Nodes[0]
			c.Submit(survivor, replica.WaitCertified, c.Record(c.Council[0], "while it is away"))
			if step == "accepted" || step == "active" {
				survivor.Await("the old pin is dropped", func(replica.Status) bool { return !survivor.Replica.Pins(victim.Record.TLSPin) })
			}
			victim.Start()
			rotated(t, c, "r2")
			c.Submit(victim, replica.WaitCertified, c.Record(c.Council[0], "after"))
			key, _ := keyOf(t, victim, "r2")
			files, err := filepath.Glob(filepath.Join(victim.Dir, "keys", "*"))
			if err != nil || len(files) != 1 || filepath.Base(files[0]) != key.String()[:16]+".key" {
				t.Errorf("key files %v, the ledger names %s", files, key)
			}
			sameDigest(t, c)
		})
	}
}

// A disk from before a rotation does not know the key under which the replica signed
// since, and so not those signatures. It is told by proof, and votes no more.
func TestDiskFromBeforeARotationIsRefused(t *testing.T) {
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Limits.PinLinger = time.Hour // or nobody talks to it, which would do as well
		cfg.Rotation.Off = cfg.Name != "r2"
	}, rotating)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	victim := c.Nodes[1]
	if err := victim.Stop(); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(victim.Dir)); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	nextEpoch(c, c.Leader())
	rotated(t, c, "r2")
	c.Submit(victim, replica.WaitCertified, c.Record(c.Council[0], "under the new key"))
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wipe()
	if err := os.CopyFS(victim.Dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	victim.Await("it halts", func(s replica.Status) bool {
		return s.Role == replica.RoleHalted && strings.Contains(s.Alarms[0].Detail, "its disk does not")
	})
	if err := victim.Stop(); err == nil {
		t.Error("a halted replica ends without an error")
	}
	c.Nodes = append(c.Nodes[:1:1], c.Nodes[2:]...)
	sameDigest(t, c)
}
