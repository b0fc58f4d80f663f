package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// stateProof proves a record at the story's end.
func stateProof(t *testing.T, w *world, key string) []byte {
	t.Helper()
	h := w.history()
	m, s := h.source(t), h.tree(t)
	proof, err := w.state.Prove(key)
	must(t, err)
	p := ledger.StateProofFile{Checkpoint: string(m.files["checkpoint"]), Proof: *proof, Seal: h.entries[s.size-1], SealProof: s.inclusion(t, s.size-1, s.size)}
	for n := range len(h.handovers) + 1 {
		link, err := ledger.ParseLink(m.files["authority/"+itoa(uint64(n))])
		must(t, err)
		p.Authority = append(p.Authority, link)
	}
	data, err := p.Encode()
	must(t, err)
	return data
}

func TestSingleFiles(t *testing.T) {
	dir, h := exported(t)
	w := newWorld(t)
	w.record("alice", "one")
	w.seal()
	record, absent := filepath.Join(dir, "..", "record"), filepath.Join(dir, "..", "absent")
	must(t, os.WriteFile(record, stateProof(t, w, "council/bob"), 0o644))
	must(t, os.WriteFile(absent, stateProof(t, w, "node/edge-9"), 0o644))
	proofs, err := filepath.Glob(filepath.Join(dir, "proofs", "*"))
	must(t, err)
	var decision, statement string
	for _, p := range proofs {
		if strings.HasSuffix(p, proofEntry) {
			decision = p
		} else {
			statement = p
		}
	}
	genesis := ledger.LeafHash(w.entries[0]) // the same as the story's
	if genesis != h.genesis {
		t.Fatal("two worlds have two geneses")
	}
	for _, c := range []struct{ path, kind, text string }{
		{decision, FileEntryProof, `"type":"decision"`},
		{statement, FileTransparent, "by replica r1"},
		{record, FileStateProof, `"name":"bob"`},
		{absent, FileStateProof, "no such record"},
	} {
		report, err := VerifyFile(t.Context(), c.path, FileOptions{Genesis: genesis})
		if err != nil || !report.OK || report.Kind != c.kind {
			t.Errorf("%s: %+v, %v", c.path, report, err)
			continue
		}
		if text := report.Text(); !strings.Contains(text, c.text) || !strings.Contains(text, "proven at size ") || !strings.Contains(text, ", last signed 20") {
			t.Errorf("%s:\n%s", c.path, text)
		}
		data, err := os.ReadFile(c.path)
		must(t, err)
		for _, at := range []int{0, 30, len(data) / 4, len(data) / 2, len(data) - 2} {
			if c.kind == FileTransparent && at > len(data)-keysSignature {
				at = len(data) - 1
			}
			change(t, filepath.Dir(c.path), filepath.Base(c.path), flip(at), func() {
				var bad *BadError
				report, err := VerifyFile(t.Context(), c.path, FileOptions{Genesis: genesis})
				if !errors.As(err, &bad) || bad.File != filepath.Base(c.path) || report.OK || !strings.Contains(report.Text(), "BAD: ") {
					t.Errorf("byte %d of %s changed: %v", at, c.path, err)
				}
			})
		}
		other := genesis
		other[0] ^= 1
		if _, err := VerifyFile(t.Context(), c.path, FileOptions{Genesis: other}); !errors.As(err, new(*BadError)) {
			t.Errorf("%s under another genesis: %v", c.path, err)
		}
	}
	t.Run("alone", func(t *testing.T) {
		data, err := os.ReadFile(statement)
		must(t, err)
		alone := filepath.Join(t.TempDir(), filepath.Base(statement))
		must(t, os.WriteFile(alone, data, 0o644))
		if _, err := VerifyFile(t.Context(), alone, FileOptions{Genesis: genesis}); !errors.Is(err, errNoExport) {
			t.Errorf("a transparent statement alone: %v", err)
		}
		if report, err := VerifyFile(t.Context(), alone, FileOptions{Genesis: genesis, Export: dir}); err != nil || report.Signer != "r1" || report.Statement == "" {
			t.Errorf("with its export named: %+v, %v", report, err)
		}
	})
}

const keysSignature = 3309

// A receipt that a replica did not sign, or of another tree, stops the export.
func TestReceiptsAreChecked(t *testing.T) {
	h := told(t)
	m := h.source(t)
	m.signReceipts(t, h, "r2") // removed before the end
	dir := t.TempDir()
	export := func(name string) error {
		_, err := Export(t.Context(), m, filepath.Join(dir, name), ExportOptions{Genesis: h.genesis, Decisions: true})
		return err
	}
	var bad *BadError
	if err := export("a"); !errors.As(err, &bad) || bad.Step != StepProof || !strings.HasPrefix(bad.File, "receipts/") {
		t.Errorf("a removed replica's receipt: %v", err)
	}
	for path, data := range m.files {
		if strings.HasPrefix(path, "receipts/") {
			data[len(data)-1] ^= 1
		}
	}
	m.signReceipts(t, h, "r3")
	must(t, export("b"))
	for path, data := range m.files {
		if strings.HasPrefix(path, "receipts/") {
			data[len(data)-1] ^= 1
		}
	}
	if err := export("c"); !errors.As(err, &bad) || !strings.Contains(err.Error(), "signature") {
		t.Errorf("a signature that does not verify: %v", err)
	}
}
