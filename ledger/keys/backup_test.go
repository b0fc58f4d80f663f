package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// escrow is a backup of a node's key with its holders' identities.
type escrow struct {
	file       *File
	backup     *Backup
	holders    []ShareHolder
	identities map[string]string
	shares     []Share // by holder's name, as in the backup
}

var escrowNames = []string{"alice", "bob", "carol", "dave", "erin"}

func newEscrow(t testing.TB, key byte, threshold int, names ...string) *escrow {
	t.Helper()
	e := &escrow{file: &File{Name: "edge-7", Role: "node", Operator: "fjord", Created: 1, Key: testKey(key)}, identities: map[string]string{}}
	for _, name := range names {
		identity, recipient, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		e.identities[name] = identity
		e.holders = append(e.holders, ShareHolder{Name: name, Recipient: recipient})
	}
	backup, err := NewBackup(e.file, [32]byte{9}, threshold, e.holders, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.backup = backup
	for _, s := range backup.Shares {
		plain, err := OpenWith(e.identities[s.Holder], s.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		body, err := parseShare(plain)
		if err != nil {
			t.Fatal(err)
		}
		e.shares = append(e.shares, body.share())
	}
	return e
}

func TestBackupComesBack(t *testing.T) {
	e := newEscrow(t, 7, 3, escrowNames...)
	content, err := e.backup.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseBackup(content)
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != e.backup.Hash() || again.FileName() != "edge-7-"+e.file.Key.ID().String()[:8]+".backup" {
		t.Errorf("hash %x, file %s", again.Hash(), again.FileName())
	}
	for bits := range 1 << 5 {
		part := subset(e.shares, bits)
		f, err := again.Open(part)
		if len(part) < 3 {
			if !errors.Is(err, ErrTooFewShares) {
				t.Fatalf("%d shares: %v", len(part), err)
			}
			continue
		}
		if err != nil || f.Key.Seed() != e.file.Key.Seed() || f.Name != "edge-7" || f.Role != "node" || f.Operator != "fjord" {
			t.Fatalf("%d shares give %v, %v", len(part), f, err)
		}
	}
	if id, err := again.Check(e.shares[:3]); err != nil || id != e.file.Key.ID() {
		t.Errorf("Check gives %v, %v", id, err)
	}
	// No secret can be read in it, in any form that people write secrets in.
	seed := e.file.Key.Seed()
	for _, form := range []string{string(seed[:]), fmt.Sprintf("%x", seed), mustJSON(t, seed[:])} {
		if bytes.Contains(content, []byte(form)) {
			t.Errorf("the file has the seed in it as %q", form)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(b), `"=`)
}

// A further recipient opens it alone; others do not.
func TestBackupOpensAlone(t *testing.T) {
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	e := newEscrow(t, 7, 2, "alice", "bob")
	b, err := NewBackup(e.file, [32]byte{9}, 2, e.holders, []string{recipient})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := b.OpenAlone(identity); err != nil || f.Key.ID() != e.file.Key.ID() {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := b.OpenAlone(e.identities["alice"]); !errors.Is(err, ErrNotForUs) {
		t.Errorf("a holder alone gets %v", err)
	}
	if len(b.Recipients) != 1 || b.Recipients[0] != sha256.Sum256([]byte(recipient)) {
		t.Errorf("recipients %x", b.Recipients)
	}
}

func TestBackupIsRefused(t *testing.T) {
	e := newEscrow(t, 7, 2, "alice", "bob", "carol")
	for _, c := range []struct {
		name      string
		threshold int
		holders   []ShareHolder
		also      []string
	}{
		{"threshold one", 1, e.holders, nil},
		{"threshold above the shares", 4, e.holders, nil},
		{"no holder", 2, nil, nil},
		{"one twice", 2, append(e.holders[:2:2], e.holders[0]), nil},
		{"no recipient", 2, append(e.holders[:2:2], ShareHolder{Name: "dave"}), nil},
		{"a wrong further recipient", 2, e.holders, []string{"age1"}},
	} {
		if b, err := NewBackup(e.file, [32]byte{9}, c.threshold, c.holders, c.also); err == nil {
			t.Errorf("%s: %v is made", c.name, b.FileName())
		}
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewBackup(e.file, [32]byte{9}, 2, e.holders, []string{classic.Recipient().String()}); err == nil {
		t.Error("a recipient that a quantum computer opens is taken")
	}
}

// A backup whose parts do not agree is not read.
func TestDamagedBackupIsNotRead(t *testing.T) {
	e, other := newEscrow(t, 7, 2, "alice", "bob", "carol"), newEscrow(t, 8, 2, "alice", "bob", "carol")
	for name, change := range map[string]func(b *Backup){
		"type":              func(b *Backup) { b.Type = "quorate/backup.v2" },
		"threshold":         func(b *Backup) { b.Threshold = 3 },
		"threshold of one":  func(b *Backup) { b.Threshold = 1 },
		"set":               func(b *Backup) { b.Set[0]++ },
		"a share less":      func(b *Backup) { b.Shares = b.Shares[:2] },
		"order":             func(b *Backup) { b.Shares[0], b.Shares[1] = b.Shares[1], b.Shares[0] },
		"no holder":         func(b *Backup) { b.Holder = "" },
		"ciphertext":        func(b *Backup) { b.Ciphertext = other.backup.Ciphertext },
		"no age file":       func(b *Backup) { b.Ciphertext = []byte("age-encryption.org/v1\n") },
		"recipient claimed": func(b *Backup) { b.Recipients = [][32]byte{{1}} },
		"huge share":        func(b *Backup) { b.Shares[0].Sealed = make([]byte, MaxSealedShare+1) },
	} {
		b := *e.backup
		b.Shares = append([]SealedShare(nil), e.backup.Shares...)
		change(&b)
		content, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseBackup(content); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
	content, err := e.backup.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty": nil, "cut": content[:len(content)/2], "no newline": content[:len(content)-1], "more": append(bytes.Clone(content), '\n'),
		"space": append([]byte(" "), content...), "large": make([]byte, MaxBackup+1),
	} {
		if _, err := ParseBackup(damaged); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "x.backup")
	if err := e.backup.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBackup(path); err != nil {
		t.Error(err)
	}
	if err := e.backup.Write(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("it is overwritten: %v", err)
	}
	if err := os.WriteFile(path, content[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	asFileError(t, mustFail(ReadBackup(path)))
}

func mustFail[T any](_ T, err error) error { return err }

// A backup whose shares are the recorded ones and belong to something else: only
// opening shows it.
func TestMadeWrongBackup(t *testing.T) {
	e, other := newEscrow(t, 7, 2, "alice", "bob"), newEscrow(t, 8, 2, "alice", "bob")
	// Shares of another file key under this set.
	foreign := []Share{other.shares[0], other.shares[1]}
	for i := range foreign {
		foreign[i].Set = e.backup.Set
	}
	if _, err := e.backup.Open(foreign); !errors.Is(err, ErrMismatch) {
		t.Errorf("another file key: %v", err)
	}
	if _, err := e.backup.Open([]Share{e.shares[0], foreign[1]}); !errors.Is(err, ErrMismatch) {
		t.Errorf("shares that do not fit: %v", err)
	}
	if _, err := e.backup.Open(other.shares); !errors.Is(err, ErrShares) {
		t.Errorf("another set: %v", err)
	}
	for name, change := range map[string]func(b *Backup){
		"key": func(b *Backup) { b.Key[0]++ }, "holder": func(b *Backup) { b.Holder = "edge-8" }, "role": func(b *Backup) { b.Role = "governor" },
	} {
		b := *e.backup
		change(&b)
		if f, err := b.Open(e.shares); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	// Every byte of the ciphertext is protected.
	for i := range e.backup.Ciphertext {
		b := *e.backup
		b.Ciphertext = bytes.Clone(b.Ciphertext)
		b.Ciphertext[i] ^= 1
		if f, err := b.Open(e.shares); err == nil {
			t.Fatalf("byte %d changed: %v", i, f)
		}
	}
}

func FuzzParseBackup(f *testing.F) {
	e := newEscrow(f, 7, 2, "alice", "bob")
	content, err := e.backup.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"type":"` + backupType + `"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBackup(data)
		if err != nil {
			return
		}
		if again, err := b.Bytes(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q comes out as %q, %v", data, again, err)
		}
	})
}
