package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// A line says of its entry what FORMAT.md section 12 lists, for any reader of
// JSON.
func TestLines(t *testing.T) {
	dir, h := exported(t)
	data, err := os.ReadFile(filepath.Join(dir, viewName))
	must(t, err)
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if len(lines) != len(h.entries) {
		t.Fatalf("%d lines of %d entries", len(lines), len(h.entries))
	}
	kinds := map[string]int{}
	for seq, text := range lines {
		var line struct {
			Bytes      int
			Hash, Kind string
			Seq, Stamp uint64
			View       json.RawMessage
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		must(t, d.Decode(&line))
		raw := h.entries[seq]
		e, err := ledger.ParseEntry(raw)
		must(t, err)
		if line.Bytes != len(raw) || line.Hash != ledger.LeafHash(raw).String() || line.Kind != e.Kind.String() || line.Seq != uint64(seq) || line.Stamp != e.Stamp {
			t.Fatalf("line of entry %d: %s", seq, text)
		}
		kinds[line.Kind]++
		if e.Kind != ledger.KindStatement {
			if !bytes.Equal(line.View, e.Content) {
				t.Fatalf("view of entry %d: %s", seq, line.View)
			}
			continue
		}
		st, err := ledger.ParseStatement(e.Content)
		must(t, err)
		var view struct {
			ID, Key string
			Payload json.RawMessage
		}
		must(t, json.Unmarshal(line.View, &view))
		if view.ID != st.ID.String() || view.Key != st.KeyID.String() || !bytes.Equal(view.Payload, st.PayloadBytes()) {
			t.Fatalf("view of entry %d: %s", seq, line.View)
		}
	}
	if len(kinds) != 4 {
		t.Errorf("there are lines of %v", kinds)
	}
}

// formerSink writes lines as earlier programs did.
type formerSink struct {
	*packedSink
	entries [][]byte
}

func (f *formerSink) addPieces(path string, sizes []int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var pieces []int64
	former := formerView(data, f.entries)
	for lines := bytes.SplitAfter(former, []byte("\n")); len(lines) > 0; {
		n := min(len(lines), archive.TileWidth)
		size := int64(0)
		for _, line := range lines[:n] {
			size += int64(len(line))
		}
		pieces, lines = append(pieces, size), lines[n:]
	}
	return f.packedSink.addPieces(path, pieces[:len(sizes)], bytes.NewReader(former))
}

// formerView gives lines as earlier programs wrote them.
func formerView(view []byte, entries [][]byte) (former []byte) {
	for i, line := range bytes.SplitAfter(view, []byte("\n")) {
		if len(line) > 0 {
			former = append(former, formerLine(line, entries[i])...)
		}
	}
	return former
}

// An export that was made before lines changed verifies, as a folder and in its
// frames, and its lines are compared as others are.
func TestFormerLines(t *testing.T) {
	dir, h := exported(t)
	change(t, dir, viewName, func(view []byte) []byte { return formerView(view, h.entries) }, func() {
		if report, err := Verify(t.Context(), dir, Options{Genesis: h.genesis}); err != nil || !report.View {
			t.Errorf("a folder: %v", err)
		}
		name := filepath.Join(dir, viewName)
		info, err := os.Stat(name)
		must(t, err)
		for at := int(info.Size()) / 3; at < int(info.Size()); at += int(info.Size()) / 5 {
			change(t, dir, viewName, flip(at), func() {
				if bad := verifyBad(t, dir, h.genesis); bad.Step != StepView || !bad.HasSeq {
					t.Errorf("byte %d changed: %v", at, bad)
				}
			})
		}
	})
	other := func(view []byte) []byte {
		lines := bytes.SplitAfter(view, []byte("\n"))
		lines[5] = formerLine(lines[5], h.entries[6])
		return bytes.Join(lines, nil)
	}
	change(t, dir, viewName, other, func() {
		if bad := verifyBad(t, dir, h.genesis); bad.Step != StepView || bad.Seq != 5 {
			t.Errorf("with another entry: %v", bad)
		}
	})
	var b bytes.Buffer
	p, err := newPackedSink(&b)
	must(t, err)
	_, err = export(t.Context(), h.source(t), &formerSink{p, h.entries}, ExportOptions{Genesis: h.genesis})
	must(t, errors.Join(err, p.close()))
	path := filepath.Join(t.TempDir(), "former"+PackedSuffix)
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
	if err := newVerifier(Options{Genesis: h.genesis, Workers: 2}).archive(t.Context(), path); err != nil {
		t.Errorf("in its frames: %v", err)
	}
}
