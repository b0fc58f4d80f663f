package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A flipped byte of the write-ahead log, in a segment or in what it keeps beside
// them, is refused by name, or lies where nothing is kept: the log read back is
// the same. It never panics, and a refused one can be opened once it is mended.
func TestFlippedBytesOfWALAreRefused(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.LogStore = replica.LogStoreWAL
		cfg.Raft.WALSegmentBytes = 64 << 10
	})
	n := c.Follower()
	for i := range 16 {
		text := fmt.Sprint(strings.Repeat("x", 2_000), i)
		last := c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], text), c.Record(c.Council[1], text)).Last
		if err := n.Replica.WaitCertified(c.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	open := func() (dump string, err error) {
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
	segments, err := filepath.Glob(filepath.Join(n.Dir, "raft", "wal", "*.wal"))
	if err != nil || len(segments) < 2 {
		t.Fatalf("segments %v: %v", segments, err)
	}
	for _, path := range append(segments, filepath.Join(n.Dir, "raft", "wal", "wal-meta.db")) {
		honest, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused, same, used := 0, 0, len(bytes.TrimRight(honest, "\x00"))
		step := max(used/20, 1) | 1 // odd: it meets every place in a frame
		for at := 0; at < used; at += step {
			b := bytes.Clone(honest)
			b[at] ^= 0x55
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := open()
			var damage *replica.FileError
			switch {
			case errors.As(err, &damage) && strings.HasPrefix(damage.File, "raft/wal"):
				refused++
			case err != nil:
				t.Errorf("%s, byte %d: %v", filepath.Base(path), at, err)
			case got != want:
				t.Errorf("%s, byte %d of %d: accepted, and the log is another", filepath.Base(path), at, used)
			default:
				same++
			}
			// What a refused or a wrong opening did to other files is no part of this.
			if err := os.WriteFile(path, honest, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := open(); err != nil || got != want {
				t.Fatalf("%s, byte %d: mended, and yet: %v", filepath.Base(path), at, err)
			}
		}
		t.Logf("%s: %d bytes used, %d flips refused, %d in unused bytes", filepath.Base(path), used, refused, same)
		if refused == 0 {
			t.Errorf("%s: no flip was refused", filepath.Base(path))
		}
	}
}
