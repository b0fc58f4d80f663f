package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exported is a copy of an export of the story, with proofs of its decisions.
func exported(t testing.TB) (string, history) {
	t.Helper()
	h := told(t)
	theStory.export.Do(func() {
		parent, err := os.MkdirTemp("", "quorate-audit-test-*")
		must(t, err)
		theStory.dir = parent
		exportStory(t, filepath.Join(parent, "export"))
	})
	path := filepath.Join(t.TempDir(), "export")
	must(t, os.CopyFS(path, os.DirFS(filepath.Join(theStory.dir, "export"))))
	return path, h
}

func exportStory(t testing.TB, path string) {
	t.Helper()
	h := told(t)
	m := h.source(t)
	m.signReceipts(t, h, "r1")
	report, err := Export(t.Context(), m, path, ExportOptions{Genesis: h.genesis, Decisions: true})
	must(t, err)
	if report.Size != uint64(len(h.entries)) || report.Links != 5 || report.Proofs != 12 || report.Files < 30 {
		t.Fatalf("report: %+v", report)
	}
}

func TestExportVerifies(t *testing.T) {
	for _, name := range []string{"export", "export.tar.zst"} {
		t.Run(name, func(t *testing.T) {
			h := told(t)
			path := filepath.Join(t.TempDir(), name)
			exportStory(t, path)
			var last, calls uint64
			report, err := Verify(t.Context(), path, Options{Genesis: h.genesis, Progress: func(done, total uint64) {
				if done < last || total != uint64(len(h.entries)) {
					t.Errorf("progress %d of %d after %d", done, total, last)
				}
				last, calls = done, calls+1
			}})
			must(t, err)
			size := uint64(len(h.entries))
			if !report.OK || report.Size != size || report.Entries != size || last != size || calls < 2 || !report.View {
				t.Errorf("report: %+v, progress %d in %d calls", report, last, calls)
			}
			if report.Cosigners != 4 || report.Threshold != 3 || report.Links != 5 || report.Proofs < 10 || report.Digests < 20 || report.Signatures < 580 {
				t.Errorf("report: %+v", report)
			}
			for _, typ := range []string{"propose", "approve", "reject", "withdraw", "join", "ready", "record"} {
				if report.Statements[typ] == 0 {
					t.Errorf("the story has no %s", typ)
				}
			}
			for _, typ := range []string{"decision", "executed", "rejected", "withdrawn", "epoch", "replica.active"} {
				if report.Effects[typ] == 0 {
					t.Errorf("the story has no %s", typ)
				}
			}
			want := "complete to size " + itoa(size) + ", last signed " + time.Unix(int64(h.seconds), 0).UTC().Format(time.RFC3339) + "\n"
			if text := report.Text(); !strings.HasSuffix(text, want) {
				t.Errorf("text:\n%swant at its end %s", text, want)
			}
		})
	}
}

// The names of the report's fields are for programs to rely on.
func TestReportJSONIsStable(t *testing.T) {
	seq := uint64(7)
	raw, err := json.Marshal(&Report{Bad: &Bad{Step: "tree", File: "tile/entries/000", Seq: &seq, Reason: "why"}, AtLeast: 3})
	must(t, err)
	const want = `{"ok":false,"bad":{"step":"tree","file":"tile/entries/000","seq":7,"reason":"why"},"genesis":"","words":"","origin":"","size":0,"root":"",` +
		`"last_signed":"0001-01-01T00:00:00Z","at_least":3,"cosigners":0,"cosign_threshold":0,"authority_links":0,"entries_verified":0,"signatures_verified":0,` +
		`"digests_derived":0,"proofs_verified":0,"kinds":null,"statements":null,"effects":null,"entries_jsonl_compared":false,"seconds":0}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}
