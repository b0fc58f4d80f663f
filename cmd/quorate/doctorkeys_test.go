package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// has says whether there is a finding of that result and text.
func (f findings) has(result, text string) bool {
	for _, x := range f {
		if x.Result == result && strings.Contains(x.Detail, text) {
			return true
		}
	}
	return false
}

func TestDoctorLooksAtRings(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.key"), filepath.Join(dir, "second.key")
	for _, path := range []string{first, second} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ring := &agent.RingLook{Active: ledger.Hash{2}, Keys: []agent.RingKey{{ID: ledger.Hash{1}, Path: first, Ended: true}, {ID: ledger.Hash{2}, Path: second}, {Gone: true}}}
	var f findings
	examineRing(&f, ring)
	if len(f) != 1 || !f.has(resultOK, "2 keys on the disk, in use is 0200000000000000…; no next one is announced") {
		t.Errorf("as it should be: %+v", f)
	}
	if err := os.Chmod(first, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	f, ring.Next = nil, &ledger.Hash{3}
	examineRing(&f, ring)
	if !f.has(resultFail, "the key in use, 0200000000000000…, is lost") || !f.has(resultWarn, "others may read "+first) || !f.has(resultOK, "the next one is 0300") {
		t.Errorf("a key lost, another open to all: %+v", f)
	}
}

func TestDoctorFindsBackupsBesideKeys(t *testing.T) {
	dir := t.TempDir()
	var holders []keys.ShareHolder
	for _, name := range []string{"alice", "bob"} {
		_, recipient, err := keys.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, keys.ShareHolder{Name: name, Recipient: recipient})
	}
	file := &keys.File{Role: fsm.RoleNode, Name: "edge-7", Key: keys.FromSeed([32]byte{7})}
	b, err := keys.NewBackup(file, [32]byte{1}, 2, holders, nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "backups", "edge-7.backup")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var f findings
	examineBackups(&f, dir, dir)
	if len(f) != 1 || !f.has(resultWarn, "of edge-7, lies beside the key") {
		t.Errorf("beside the key: %+v", f)
	}
	if err := os.WriteFile(path, content[:len(content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	f = nil
	examineBackups(&f, dir)
	if len(f) != 1 || f[0].Result != resultFail {
		t.Errorf("cut: %+v", f)
	}
}

// TestAlarmsHaveWords: each alarm of the rules says what to do.
func TestAlarmsHaveWords(t *testing.T) {
	for _, kind := range fsm.AlarmKinds() {
		if text := alarmWords(&client.Alarm{Kind: kind, Count: 1, Names: []string{"edge-7"}}); len(text) < len("edge-7")+20 {
			t.Errorf("%s: %q", kind, text)
		}
	}
}
