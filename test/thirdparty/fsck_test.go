package thirdparty

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
)

const fsckTimeout = 2 * time.Minute

// sizes lie around the places where the layout of tiles changes: a full bundle,
// and a full tile of full tiles.
var sizes = []int{2, 255, 256, 257, 65_535, 65_536, 65_537}

// fsck builds tessera's fsck from the module of the tools, whose version that
// pins.
var fsck = sync.OnceValues(func() (string, error) {
	bin, err := filepath.Abs("../../bin/fsck")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", bin, "github.com/transparency-dev/tessera/cmd/fsck")
	cmd.Dir = "../tools"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tessera's fsck in test/tools, which needs the Go module proxy once: %w\n%s", err, out)
	}
	return bin, nil
})

// runFsck gives what fsck printed. It exits 0 on failure and can hang, so its
// last word counts, within a time.
func runFsck(t *testing.T, storage, vkeyFile string) (string, bool) {
	t.Helper()
	bin, err := fsck()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), fsckTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, "--storage_url="+storage, "--public_key="+vkeyFile, "--ui=false", "--N=64").CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("fsck of %s took longer than %v:\n%s", storage, fsckTimeout, tail(out))
	}
	return tail(out), err == nil && strings.Contains(string(out), "Successfully fsck'd")
}

func tail(out []byte) string {
	if len(out) > 2000 {
		out = out[len(out)-2000:]
	}
	return string(out)
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func vkeyFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "log.vkey"), ledger.LogVKey(origin, logSigner().Keys()))
}

func exported(t *testing.T, s *served) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := audit.Export(t.Context(), api.LogSource{Backend: s}, dir, audit.ExportOptions{Genesis: s.genesis}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFsckAgrees(t *testing.T) {
	vkey := vkeyFile(t)
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := serve(t, ledgerOfSize(t, size))
			if out, ok := runFsck(t, s.url, vkey); !ok {
				t.Errorf("over HTTP:\n%s", out)
			}
			dir := exported(t, s)
			if out, ok := runFsck(t, "file://"+dir+"/", filepath.Join(dir, "log.vkey")); !ok {
				t.Errorf("over files:\n%s", out)
			}
		})
	}
}

// What fsck says is worth something only if it finds what is wrong.
func TestFsckDisagrees(t *testing.T) {
	dir := exported(t, serve(t, ledgerOfSize(t, 257)))
	bundle := filepath.Join(dir, "tile", "entries", "000")
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	writeFile(t, bundle, string(content))
	if out, ok := runFsck(t, "file://"+dir+"/", filepath.Join(dir, "log.vkey")); ok {
		t.Errorf("fsck passes over a flipped byte:\n%s", out)
	}
}
