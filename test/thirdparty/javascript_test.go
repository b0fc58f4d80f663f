package thirdparty

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
)

// demandNode is set by `make test`: then Node must be there.
const demandNode = "QUORATE_DEMAND_NODE"

// runVerifier runs the verifier in JavaScript, which shares no code with ours.
func runVerifier(t *testing.T, dir string, genesis ledger.Hash) (string, bool) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("../verifier-js/node_modules/.installed")
	}
	if err != nil {
		if os.Getenv(demandNode) != "" {
			t.Fatalf("run `make verifier-js` first: %v", err)
		}
		t.Skipf("no Node with the verifier's packages: %v; `make test` installs them", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "../verifier-js/cli.js", "export", dir, "--genesis", genesis.String()).CombinedOutput()
	return string(out), err == nil && strings.HasPrefix(string(out), "VERIFIED")
}

func TestJavaScriptVerifierAgrees(t *testing.T) {
	for _, size := range []int{2, 257} {
		s := serve(t, ledgerOfSize(t, size))
		if out, ok := runVerifier(t, exported(t, s), s.genesis); !ok {
			t.Errorf("size %d: %s", size, out)
		}
	}
}

func TestJavaScriptVerifierNamesTheBadEntry(t *testing.T) {
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
	if out, ok := runVerifier(t, dir, s.genesis); ok || !strings.Contains(out, "entry 100:") {
		t.Errorf("a flipped byte in entry 100: %s", out)
	}
}
