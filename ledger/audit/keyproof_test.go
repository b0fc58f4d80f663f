package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// proofWithKey is the proof of the entry of a statement, with that of the record under
// a key of the state at the end.
func (w *keysWorld) proofWithKey(h history, envelope []byte, key string) (seq uint64, file []byte) {
	t := w.t
	t.Helper()
	for seq = 0; ; seq++ {
		e, err := ledger.ParseEntry(h.entries[seq])
		must(t, err)
		if bytes.Equal(e.Content, envelope) {
			break
		}
	}
	s, m := h.tree(t), h.source(t)
	size := uint64(len(h.entries))
	p := &ledger.EntryProof{Seq: seq, Proof: s.inclusion(t, seq, size), Checkpoint: m.files["checkpoint"], Entry: h.entries[seq]}
	var links []*ledger.Link
	for n := range len(h.handovers) + 1 {
		link, err := ledger.ParseLink(m.files["authority/"+itoa(uint64(n))])
		must(t, err)
		links = append(links, link)
	}
	proof, err := w.state.Prove(key)
	must(t, err)
	p.With(&ledger.StateProofFile{Authority: links, Checkpoint: string(m.files["checkpoint"]), Proof: *proof, Seal: h.entries[size-1], SealProof: s.inclusion(t, size-1, size)})
	file, err = p.Encode()
	must(t, err)
	return seq, file
}

func keyRecordOf(name string) string {
	return ledger.KeyRecordPrefix + ledger.Hash(keyOf(name).ID()).String()
}

// TestEntryProofsWithKeys: one file shows that a statement is on the ledger and is its
// holder's word, as the ledger has the key later.
func TestEntryProofsWithKeys(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	for _, c := range []struct{ said, key, reason string }{
		{"the last word of the first key", "edge-1", ""},
		{"edge-1 in epoch 7", "edge-1 second", ""},
		{"edge-2 in epoch 7", "edge-2 second", ""},
		{"edge-2 in epoch 8", "edge-2 second", "signed in epoch 8 under a key that is revoked from epoch 8 on"},
		{"r4 in epoch 8", "r4", "signed in epoch 8 under a key that is revoked from epoch 8 on"},
		{"edge-1 in epoch 7", "edge-2", "the statement names key"},
		{"edge-1 in epoch 7", "mallory", "the statement names key"},
	} {
		_, file := w.proofWithKey(h, w.said[c.said], keyRecordOf(c.key))
		path := filepath.Join(t.TempDir(), "entry.tlog-proof")
		must(t, os.WriteFile(path, file, 0o644))
		report, err := VerifyFile(t.Context(), path, FileOptions{Genesis: h.genesis})
		if report == nil || report.OK != (c.reason == "") || !strings.Contains(report.Reason, c.reason) {
			t.Errorf("%s, with the record of %s: %v, %+v", c.said, c.key, err, report)
			continue
		}
		if text := report.Text(); report.OK && !strings.Contains(text, "as the ledger has it at size") {
			t.Errorf("%s: %s", c.said, text)
		}
	}
}

// TestJavaScriptReadsEntryProofsWithKeys: in an export, by the second verifier and by
// ours.
func TestJavaScriptReadsEntryProofsWithKeys(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	must(t, os.MkdirAll(filepath.Join(dir, "proofs"), 0o755))
	put := func(said, key string) string {
		seq, file := w.proofWithKey(h, w.said[said], keyRecordOf(key))
		path := filepath.Join(dir, "proofs", itoa(seq)+".tlog-proof")
		must(t, os.WriteFile(path, file, 0o644))
		return path
	}
	put("edge-1 in epoch 7", "edge-1 second")
	if _, err := Verify(t.Context(), dir, Options{Genesis: h.genesis}); err != nil {
		t.Fatal(err)
	}
	verifier := javaScript(t)
	if out, ok := verifier.Export(t, dir, h.genesis); !ok {
		t.Fatalf("%s", out)
	}
	for _, c := range []struct{ said, key, reason string }{
		{"edge-2 in epoch 8", "edge-2 second", "revoked from epoch 8 on"},
		{"edge-2 in epoch 7", "edge-2", "no record of the statement's key"},
	} {
		path := put(c.said, c.key)
		if bad := verifyBad(t, dir, h.genesis); bad.Step != StepProof {
			t.Errorf("%s, %s: %v", c.said, c.key, bad)
		}
		if out, ok := verifier.Export(t, dir, h.genesis); ok || !strings.Contains(out, c.reason) {
			t.Errorf("%s, %s: %s", c.said, c.key, out)
		}
		must(t, os.Remove(path))
	}
}
