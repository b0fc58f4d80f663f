// Package verifiertest runs the verifier in JavaScript (test/verifier-js), which shares
// no code with the product, on exports that tests make.
package verifiertest

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

// patience is more than any export of a test takes, on a busy machine.
const patience = 2 * time.Minute

// Verifier is the folder of the verifier.
type Verifier string

// New gives the verifier in a folder. Without Node, or without the verifier's packages,
// the test is skipped, unless `make test` runs it.
func New(t testing.TB, folder string) Verifier {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(folder, "node_modules", ".installed"))
	}
	if err != nil {
		if os.Getenv(demandNode) != "" {
			t.Fatalf("run `make verifier-js` first: %v", err)
		}
		t.Skipf("no Node with the verifier's packages: %v; `make test` installs them", err)
	}
	return Verifier(folder)
}

// Export verifies the export in a folder, and gives what the verifier says and whether
// it takes it.
func (v Verifier) Export(t testing.TB, dir string, genesis ledger.Hash) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", filepath.Join(string(v), "cli.js"), "export", dir, "--genesis", genesis.String()).CombinedOutput()
	return string(out), err == nil && strings.HasPrefix(string(out), "VERIFIED")
}
