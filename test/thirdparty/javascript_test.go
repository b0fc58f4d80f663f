package thirdparty

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/test/verifiertest"
)

func TestJavaScriptVerifierAgrees(t *testing.T) {
	verifier := verifiertest.New(t, "../verifier-js")
	for _, size := range []int{2, 257} {
		s := serve(t, ledgerOfSize(t, size))
		if out, ok := verifier.Export(t, exported(t, s), s.genesis); !ok {
			t.Errorf("size %d: %s", size, out)
		}
	}
}

func TestJavaScriptVerifierNamesTheBadEntry(t *testing.T) {
	verifier := verifiertest.New(t, "../verifier-js")
	s := serve(t, ledgerOfSize(t, 257))
	dir := exported(t, s)
	bundle := filepath.Join(dir, "tile", "entries", "000")
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, entry := range s.entries[:100] {
		at += 2 + len(entry)
	}
	content[at+1000] ^= 1
	writeFile(t, bundle, string(content))
	if out, ok := verifier.Export(t, dir, s.genesis); ok || !strings.Contains(out, "entry 100:") {
		t.Errorf("a flipped byte in entry 100: %s", out)
	}
}
