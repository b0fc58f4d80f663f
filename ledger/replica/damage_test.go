package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A flipped byte of Raft's log or of a snapshot's meta.json is refused by name,
// or lies where nothing is kept: the log read back is the same.
func TestFlippedBytesOfRaftAreRefused(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	n := c.Follower()
	write := func() {
		for i := range 8 {
			last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], fmt.Sprint("record ", i))).Last
			if err := n.Replica.WaitCertified(c.Context(), last); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	if err := n.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	open := func() (string, error) {
		r, err := replica.Open(n.Config())
		if err != nil {
			return "", err
		}
		defer r.Close()
		return r.DumpLog()
	}
	want, err := open()
	if err != nil || want == "" {
		t.Fatalf("undamaged: %v", err)
	}
	flips := func(name string, step int) (refused, same int) {
		path := filepath.Join(n.Dir, name)
		honest, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(honest); at += step {
			b := append([]byte(nil), honest...)
			b[at] ^= 0x55
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := open()
			var damage *replica.FileError
			switch {
			case errors.As(err, &damage) && damage.File == name:
				refused++
			case err != nil:
				t.Errorf("%s, byte %d: %v", name, at, err)
			case got != want:
				t.Errorf("%s, byte %d: accepted, and the log is another", name, at)
			default:
				same++
			}
		}
		if err := os.WriteFile(path, honest, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, %d flips refused, %d in unused bytes", name, len(honest), refused, same)
		return refused, same
	}
	if refused, _ := flips("raft/log.db", 499); refused == 0 {
		t.Error("no flip of log.db was refused")
	}
	found, err := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*", "meta.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	name, err := filepath.Rel(n.Dir, found[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, same := flips(name, 37); same > 0 {
		t.Errorf("%d flips of meta.json were accepted", same)
	}
	n.Start()
	write()
}
