package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// TestLookAtRing: what an agent wrote is read as it is, and what was changed since is
// refused by name.
func TestLookAtRing(t *testing.T) {
	c := &Config{Dir: t.TempDir(), KeyFile: "/keys/first.key"}
	if _, err := LookAtRing(c); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a ring: %v", err)
	}
	first, second, ended := ledger.Hash{1}, ledger.Hash{2}, uint64(9)
	r := newRing(first)
	r.Keys[0].Ended = &ended
	r.add(ringKey{ID: second, File: "02.key"})
	r.Active = second
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.Dir, "keys")
	path := filepath.Join(dir, ringName)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	look, err := LookAtRing(c)
	if err != nil {
		t.Fatal(err)
	}
	one, two := look.Key(first), look.Key(second)
	if look.Active != second || one == nil || one.Path != c.KeyFile || !one.Ended || two == nil || two.Path != filepath.Join(dir, "02.key") || two.Ended {
		t.Errorf("%+v", look)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := LookAtRing(c); !errors.As(err, &damaged) {
		t.Errorf("altered: %v", err)
	}
}
