package replica_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// originLines counts the lines of a note that the log's own keys made, by key id.
func originLines(t *testing.T, note []byte) map[string]bool {
	t.Helper()
	checkpoint, err := ledger.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, line := range checkpoint.LogLines {
		ids[strings.Fields(line)[2][:5]] = true
	}
	return ids
}

// After log.rekey the former pair's lines go on beside the present one's, also over
// a restart, and end with their time, when its secret is destroyed; the list of all
// keys stays.
func TestFormerLogKeyGoesOnForAWhile(t *testing.T) {
	overlap := 24 * time.Hour
	var ahead uint64 // milliseconds that the clock has gone on
	c := replicatest.Start(t, 1, func(cfg *replica.Config) {
		cfg.LogOverlap = overlap
		since := ahead
		cfg.Hooks = &replica.Hooks{Clock: func() uint64 { return uint64(time.Now().UnixMilli()) + since }}
	})
	n := c.Leader()
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "before"))
	note, _ := n.Replica.Checkpoint()
	before := originLines(t, note)
	if len(before) != 2 {
		t.Fatalf("%d lines of the log before", len(before))
	}
	if list := n.Replica.LogVKeys(); len(list) != 1 || list[0].From != 1 {
		t.Fatalf("keys before: %+v", list)
	}

	fresh, err := n.Replica.NewLogKey()
	if err != nil {
		t.Fatal(err)
	}
	c.Decide(n, "log.rekey", fresh)
	lines := func(want int) func(replica.Status) bool {
		return func(replica.Status) bool {
			note, _ := n.Replica.Checkpoint()
			return len(originLines(t, note)) == want
		}
	}
	both := func() {
		t.Helper()
		last := c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "after")).Last
		n.Await("both pairs sign", func(s replica.Status) bool { return s.Certified > last && lines(4)(s) })
		note, _ := n.Replica.Checkpoint()
		for id := range before {
			if !originLines(t, note)[id] {
				t.Fatalf("the former key %s does not sign", id)
			}
		}
	}
	both()
	list := n.Replica.LogVKeys()
	if len(list) != 2 || list[1].From <= 1 || list[1].Ed25519 != ledger.LogVKey(c.Genesis.Origin, fresh) {
		t.Fatalf("keys after: %+v", list)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n = c.Leader()
	both()

	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	ahead = uint64(overlap.Milliseconds()) + 1
	n.Start()
	n = c.Leader()
	n.Await("the present pair alone signs", lines(2))
	if _, err := os.Stat(filepath.Join(n.Dir, "logkey.old")); !os.IsNotExist(err) {
		t.Errorf("the former key's secret is there still: %v", err)
	}
	if len(n.Replica.LogVKeys()) != 2 {
		t.Error("the list forgot a key")
	}
}

// A former log key that was being destroyed, or is damaged, stops nobody.
func TestDamagedFormerLogKeyIsForgotten(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Leader()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.Dir, "logkey.old")
	if err := os.WriteFile(path, make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Start()
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after"))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is there still: %v", err)
	}
}

// A pending log key that got into use, and whose file could not be removed, is not given
// for another log.rekey, which the ledger would refuse; a fresh one takes its place.
func TestLogKeyInUseIsNotGivenAgain(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Leader()
	used, err := os.ReadFile(filepath.Join(n.Dir, "logkey"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "logkey.pending"), used, 0o600); err != nil {
		t.Fatal(err)
	}
	vkey := func() string {
		t.Helper()
		fresh, err := n.Replica.NewLogKey()
		if err != nil {
			t.Fatal(err)
		}
		return ledger.LogVKey(c.Genesis.Origin, fresh)
	}
	first := vkey()
	if first == ledger.LogVKey(c.Genesis.Origin, c.LogKey.Public(c.Genesis.Origin)) {
		t.Error("the key in use is given as a new one")
	}
	if vkey() != first {
		t.Error("a pending key is not given again")
	}
}

// A crash after a pending log key got into use leaves it in both files; the next
// start does not take it for pending.
func TestLogKeyInUseIsNotPending(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	n := c.Leader()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	used, err := os.ReadFile(filepath.Join(n.Dir, "logkey"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "logkey.pending"), used, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Start()
	fresh, err := n.Replica.NewLogKey()
	if err != nil || ledger.LogVKey(c.Genesis.Origin, fresh) == ledger.LogVKey(c.Genesis.Origin, c.LogKey.Public(c.Genesis.Origin)) {
		t.Errorf("the key in use is given as a new one: %v", err)
	}
}
