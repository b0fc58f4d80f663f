package main

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadSummary: a summary comes from another machine. Whatever it holds, it
// is read or refused, and what is read can be shown.
func FuzzReadSummary(f *testing.F) {
	f.Add([]byte(`{"type":"quorate/summary.v1","ledger":"","generation":0,"size":1,"signed":2,"action":"epoch.advance","args":{},"base":{"epoch":1}}`))
	f.Add([]byte(`{"type":"quorate/summary.v1","action":"node.remove","args":{"name":"x"},"base":null,"rule":{"delay_millis":1,"threshold":2,"vetoers":["a"]},"council":[{"name":"a","operator":"o"}],"diff":{"code":"ok","words":["\u001b[2J"],"changes":[{"key":"k","before":{"a":[1,{"b":null}]},"after":"x"}]}}`))
	f.Add([]byte(`{"type":"quorate/summary.v2"}`))
	f.Add([]byte(`[]`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "s.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readSummary(path)
		if err != nil {
			if asFailure(err).exit != exitUsage || asFailure(err).next == "" {
				t.Errorf("no next step: %v", err)
			}
			return
		}
		view := &review{ID: "x", Key: "0123456789abcdef", Action: s.Action}
		if s.Diff != nil {
			view.Effect = effectOf(s.Diff, "as the summary says")
		}
		var out writeBuffer
		view.text(&out)
		for _, b := range out {
			if b < ' ' && b != '\n' {
				t.Fatalf("a control character %#x reaches the terminal", b)
			}
		}
	})
}
