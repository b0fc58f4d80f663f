package replica_test

import (
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
