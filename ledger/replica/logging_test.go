package replica

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// While a replica stops, peers that are gone are no error; its disk's still are.
func TestFarewellsAreQuiet(t *testing.T) {
	var out bytes.Buffer
	r := &Replica{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))}
	log := r.raftLogger("raft").With("of", "raft")
	say := func() int {
		out.Reset()
		log.Error("failed to heartbeat to", "peer", "r2")
		log.Error("failed to appendEntries to", "peer", "r2")
		log.Error("failed to commit logs", "error", "disk")
		return strings.Count(out.String(), "\n")
	}
	if n := say(); n != 3 {
		t.Errorf("running, %d lines, want 3", n)
	}
	r.stopping.Store(true)
	if n := say(); n != 1 || !strings.Contains(out.String(), "failed to commit logs") {
		t.Errorf("stopping, got %q", out.String())
	}
}
