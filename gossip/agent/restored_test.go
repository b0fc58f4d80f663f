package agent

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// The folder that a restored key comes with has its agent silent until two epochs after
// the one in force, with the reason, wherever it is put and over restarts; and nothing of
// an earlier life is taken over by it.
func TestRestoredKeyIsSilentAndSaysWhy(t *testing.T) {
	made := filepath.Join(t.TempDir(), "edge-7.state")
	if err := PrepareRestored(made, testKey); err != nil {
		t.Fatal(err)
	}
	if err := PrepareRestored(made, testKey); err == nil {
		t.Error("a folder that was there is taken over")
	}
	memoryDir := t.TempDir()
	open := func(boot string) *Seqs {
		s, err := OpenSeqs(filepath.Join(made, "seqs"), memoryDir, testKey, boot)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var silent *SilentError
	for _, boot := range []string{Machine(), "another machine"} {
		_, err := open(boot).Next(9, ledger.SpaceMain, 100)
		if !errors.As(err, &silent) || silent.Doubt != doubtRestored || silent.Until != 0 {
			t.Errorf("before a head is fresh: %v", err)
		}
	}
	s := open("another machine")
	if err := s.Fresh(9); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for epoch := uint64(9); epoch < 11; epoch++ {
			_, err := s.Next(epoch, ledger.SpaceMain, 100)
			if !errors.As(err, &silent) || silent.Until != 11 || !strings.Contains(err.Error(), "before epoch 11: this node's key was restored from a backup") {
				t.Errorf("in epoch %d: %v", epoch, err)
			}
		}
		s = open("another machine")
	}
	if _, err := s.Next(11, ledger.SpaceMain, 100); err != nil {
		t.Errorf("in epoch 11: %v", err)
	}
}
