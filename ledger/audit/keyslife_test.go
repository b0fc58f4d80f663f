package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// TestStatementsByThemselves: a statement that was caught anywhere is judged by its
// signature and by how its key stands at the end of an export.
func TestStatementsByThemselves(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	sign := func(key, author string, epoch, seq uint64) []byte {
		envelope, err := ledger.Sign(keyOf(key), ledger.Payload{Author: author, Epoch: &epoch, Seq: &seq, Ledger: h.genesis, Type: ledger.TypeRecord}, ledger.Record{Text: "caught"})
		must(t, err)
		return envelope
	}
	altered := bytes.Clone(w.said["edge-1 in epoch 7"])
	altered[len(altered)-9] ^= 1
	for _, c := range []struct {
		name     string
		envelope []byte
		word     fsm.KeyWord
		reason   string // "": it holds
		entry    bool
	}{
		{"before a rotation", w.said["the last word of the first key"], fsm.WordHolds, "", true},
		{"after it", w.said["edge-1 in epoch 7"], fsm.WordHolds, "", true},
		{"before the revocation's epoch", w.said["edge-2 in epoch 7"], fsm.WordHolds, "", true},
		{"in it", w.said["edge-2 in epoch 8"], fsm.WordDisputed, "signed in epoch 8 under a key that is revoked from epoch 8 on", true},
		{"after it, by the thief", sign("edge-2 second", "edge-2", 9, 900), fsm.WordDisputed, "signed in epoch 9 under a key that is revoked from epoch 8 on", false},
		{"dated back, by the thief", sign("edge-2 second", "edge-2", 7, 901), fsm.WordHolds, "", false},
		{"of the key after it, too early", sign("edge-1 second", "edge-1", 6, 902), fsm.WordNotYet, "signed in epoch 6 under a key that is valid from epoch 7 on", false},
		{"of a key rotated out", sign("edge-1", "edge-1", 7, 903), fsm.WordExpired, "signed in epoch 7, after the last one of its key", false},
		{"after the key's end", sign("edge-1 second", "edge-1", 40_000, 904), fsm.WordExpired, "signed in epoch 40000, after the last one of its key", false},
		{"of a stranger", sign("mallory", "edge-1", 7, 905), "", "had no role on this ledger", false},
		{"under another's name", sign("edge-3 another", "edge-1", 8, 906), fsm.WordHolds, "its key is edge-3's", false},
		{"altered", altered, fsm.WordHolds, "the signature of edge-1 does not verify", false},
	} {
		path := filepath.Join(t.TempDir(), "caught.cose")
		must(t, os.WriteFile(path, c.envelope, 0o644))
		report, err := VerifyFile(t.Context(), path, FileOptions{Genesis: h.genesis, Export: dir})
		if report == nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if report.Kind != FileStatement || report.OK != (c.reason == "") || !strings.Contains(report.Reason, c.reason) {
			t.Errorf("%s: %+v", c.name, report)
		}
		if c.word != "" && (report.Signed == nil || report.Signed.Word != string(c.word)) {
			t.Errorf("%s: %+v, want %s", c.name, report.Signed, c.word)
		}
		if report.OK && (report.Seq != nil) != c.entry {
			t.Errorf("%s: entry %v", c.name, report.Seq)
		}
	}
	path := filepath.Join(t.TempDir(), "caught.cose")
	must(t, os.WriteFile(path, w.said["edge-1 in epoch 7"], 0o644))
	if _, err := VerifyFile(t.Context(), path, FileOptions{Genesis: h.genesis}); !errors.Is(err, ErrNoExport) {
		t.Errorf("without an export: %v", err)
	}
}
