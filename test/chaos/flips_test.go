package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Every kind of file comes up, each before one comes up again, whatever the seed
// and however many files of one kind there are.
func TestEachKindOfFlipIsDrawn(t *testing.T) {
	dir := t.TempDir()
	names := []string{"archive/tail", "raft/log.db", "raft/snapshots/2-17-1/state.bin", "raft/snapshots/2-17-1/meta.json",
		"raft/snapshots/2-17-1/meta.sum", "head", "certified", "authority/1.json", "handover/1", "logkey", "lock", "seq"}
	for _, n := range []string{"000", "001", "002", "003", "x001/000", "x001/067"} {
		names = append(names, "archive/tile/entries/"+n, "archive/tile/0/"+n)
	}
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("bits"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(20) {
		deck, chance := flipDeck{}, rand.New(rand.NewPCG(seed, 1))
		for range 2 * len(flipKinds) {
			if _, _, err := deck.deal(dir, chance); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range flipKinds {
			if deck[k.name] != 2 {
				t.Errorf("seed %d: %s was drawn %d times, want 2: %s", seed, k.name, deck[k.name], deck)
			}
		}
	}
	if _, _, err := (flipDeck{}).deal(t.TempDir(), rand.New(rand.NewPCG(1, 1))); err == nil {
		t.Error("an empty directory gives a file")
	}
}
