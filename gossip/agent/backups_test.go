package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// A backup's name says whose it is, of which key and which one; when one is recorded, the
// others of that key go, in both folders, and nothing else does.
func TestOldBackupsAreTidiedAway(t *testing.T) {
	key, other := ledger.Hash{0xab, 0xcd, 0xef, 0x12, 0x34}, ledger.Hash{0xab, 0xcd, 0xef, 0x13}
	newest := backupName("n1", key, ledger.Hash{1, 2, 3, 4, 5})
	if newest != "n1-abcdef12-01020304.backup" {
		t.Fatalf("it is called %s", newest)
	}
	before := backupName("n1", key, ledger.Hash{9})
	stay := []string{
		newest, backupName("n1", other, ledger.Hash{9}), backupName("n2", key, ledger.Hash{9}), backupName("n1-abcdef12", key, ledger.Hash{9}),
		"n1-abcdef12.backup", "n1-abcdef12-restored.backup", "n1-abcdef12-09000000.backup.old", "ring",
	}
	a := &Agent{config: &Config{Name: "n1", Dir: t.TempDir(), Backup: BackupConfig{Copy: t.TempDir()}}}
	b := newBackups(a)
	for _, dir := range b.folders() {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range append(slices.Clone(stay), before) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("sealed"), 0o400); err != nil {
				t.Fatal(err)
			}
		}
	}
	names := func(dir string) (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	slices.Sort(stay)
	if err := b.clear(key, newest); err != nil {
		t.Fatal(err)
	}
	for _, dir := range b.folders() {
		if got := names(dir); !slices.Equal(got, stay) {
			t.Errorf("%s has %q, want %q", dir, got, stay)
		}
	}
	if err := b.clear(key, ""); err != nil {
		t.Fatal(err)
	}
	for _, dir := range b.folders() {
		if got := names(dir); slices.Contains(got, newest) || len(got) != len(stay)-1 {
			t.Errorf("once the key is destroyed %s has %q", dir, got)
		}
	}
	if err := os.RemoveAll(b.folders()[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.clear(key, ""); err != nil {
		t.Errorf("without a folder: %v", err)
	}
}

// A backup that the ledger did not record is trouble as long as its key is in use, and no
// longer.
func TestUnrecordedBackupIsTroubleOfAKeyInUse(t *testing.T) {
	synctest.Test(t, unrecordedBackup)
}

func unrecordedBackup(t *testing.T) {
	n := newNodeKeys(t)
	k1, k2 := n.file(1, fsm.RoleNode), n.file(2, fsm.RoleNode)
	n.place(n.config, k1)
	k := n.open()
	id := ledger.Hash(k1.Key.ID())
	if err := k.write(k.ring.backed(id, "n1.backup", ledger.Hash{1}, ledger.Hash{2})); err != nil {
		t.Fatal(err)
	}
	w := newLagging(t)
	b := newBackups(&Agent{config: &Config{Name: "n1", Dir: t.TempDir()}, keyring: k})
	b.first[id] = w.ledger.State.Epoch()
	if err := b.refused(w.ledger.State); err != nil {
		t.Errorf("in its time: %v", err)
	}
	w.pass(sayAgain)
	if err := b.refused(w.ledger.State); err == nil || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("after its time: %v", err)
	}
	if err := k.make(func() (*keys.File, error) { return k2, nil }, func(ledger.Hash) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := k.turn(ledger.Hash(k2.Key.ID()), 10, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.refused(w.ledger.State); err != nil {
		t.Errorf("of a key that ended: %v", err)
	}
}
