package agent

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/freeport"
)

// Two agents on one folder would use each seq twice: the second does not begin, and the
// next does once the first ended.
func TestOneAgentOnAFolder(t *testing.T) {
	dir := t.TempDir()
	config := &Config{
		Name: "n1", Dir: dir, MemoryDir: t.TempDir(), KeyFile: "unused", Genesis: ledger.Hash{1}.String(),
		Gossip: GossipConfig{Listen: freeport.Address(t)},
		Local:  LocalConfig{Socket: filepath.Join(dir, "agent.sock")}, Log: LogConfig{Level: "info", Format: "text"},
	}
	o := Options{Key: keys.FromSeed([keys.SeedSize]byte{3})}
	first, err := New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(config, o); !errors.Is(err, ErrRuns) {
		t.Fatalf("another begins on it: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	bad := *config
	bad.Gossip.Peers = []string{"nobody"}
	if _, err := New(&bad, o); err == nil || errors.Is(err, ErrRuns) {
		t.Fatalf("with a peer that can't be read: %v", err)
	}
	again, err := New(config, o) // neither who ended nor who never began holds it
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := again.Run(ctx); err != nil {
		t.Fatal(err)
	}
}
