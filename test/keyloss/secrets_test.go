package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/secretscan"
	"github.com/quorate/quorate/test/stagehand"
)

// furnished is a house without processes, which has one of everything that is secret:
// five governors' keys, a node's and its backup, an answer, a TLS key and the log's seeds.
func furnished(t *testing.T) *house {
	t.Helper()
	h := &house{Ledger: &stagehand.Ledger{Scene: &stagehand.Scene{Report: stagehand.NewReport(), Dir: t.TempDir()}}}
	var holders []keys.ShareHolder
	for _, g := range governors {
		f := h.plants(t, filepath.Join("keys", g.name), fsm.RoleGovernor)
		recipient, err := keys.RecipientOf(f.Identity)
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, keys.ShareHolder{Name: g.name, Recipient: recipient})
	}
	node := h.plants(t, "nodes/n1/n1", fsm.RoleNode)
	backup, err := keys.NewBackup(node, [32]byte{1}, 3, holders, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(h.Dir, "backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := backup.Write(filepath.Join(h.Dir, "backups", "n1.backup")); err != nil {
		t.Fatal(err)
	}
	h.writes(t, "answers/bob.share.age", backup.ShareOf("bob").Sealed)
	_, channel, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(channel)
	if err != nil {
		t.Fatal(err)
	}
	h.writes(t, "keys/r1.tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := h.tlsKeyOf("keys/r1.tls.key"); err != nil {
		t.Fatal(err)
	}
	h.writes(t, "ledger/r1/logkey", fmt.Appendf(nil, "sum\n{\"ed25519\":\"%s\",\"mldsa44\":\"%s\"}", drawn(), drawn()))
	if err := h.logSeeds(); err != nil {
		t.Fatal(err)
	}
	backups, answers, err := h.sealedIn()
	if err != nil || backups != 1 || answers != 1 {
		t.Fatalf("%d backups and %d answers were opened, %v; want one each", backups, answers, err)
	}
	return h
}

func drawn() string {
	b := make([]byte, seedBytes)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (h *house) writes(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(h.Dir, path)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Writes(path, b); err != nil {
		t.Fatal(err)
	}
}

// plants writes an encrypted key file as the program does, and takes note of its secrets.
func (h *house) plants(t *testing.T, path, role string) *keys.File {
	t.Helper()
	key, err := keys.Generate()
	if err != nil {
		t.Fatal(err)
	}
	f := &keys.File{Name: filepath.Base(path), Role: role, Operator: "aurora", Created: 1, Key: key}
	if role == fsm.RoleGovernor {
		if f.Identity, _, err = keys.NewIdentity(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.passphrase(path); err != nil {
		t.Fatal(err)
	}
	word, err := os.ReadFile(filepath.Join(h.Dir, path+".pass"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteFile(filepath.Join(h.Dir, path+".key"), f, bytes.TrimSpace(word), keys.WorkFactor(1)); err != nil {
		t.Fatal(err)
	}
	if err := h.secretsOf(path); err != nil {
		t.Fatal(err)
	}
	return f
}

// Whatever is secret in a house is known, is found nowhere else while all is well, and is
// found wherever it leaks to, of each kind and in each way of writing.
func TestEachKindOfSecretIsFoundWhereItLeaks(t *testing.T) {
	h := furnished(t)
	search := func() *secretscan.Report {
		s, err := secretscan.New(h.secrets)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Folder(h.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := search(); len(r.Found) != 0 {
		t.Fatalf("nothing has leaked: %v", r.Found)
	}
	ways := map[string]func(b []byte) []byte{
		"raw":       func(b []byte) []byte { return b },
		"hex":       func(b []byte) []byte { return []byte(hex.EncodeToString(b)) },
		"HEX":       func(b []byte) []byte { return []byte(strings.ToUpper(hex.EncodeToString(b))) },
		"base64":    func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) },
		"base64url": func(b []byte) []byte { return []byte(base64.RawURLEncoding.EncodeToString(b)) },
		"lines": func(b []byte) []byte {
			text := base64.StdEncoding.EncodeToString(b)
			return []byte(text[:len(text)/4] + "\n" + text[len(text)/4:len(text)*3/4] + "\n" + text[len(text)*3/4:])
		},
	}
	want := map[string]string{} // by the file that it leaks to
	for k, kind := range secretKinds {
		i := slices.IndexFunc(h.secrets, func(s secretscan.Secret) bool { return strings.HasPrefix(s.Name, kind) })
		if i < 0 {
			t.Errorf("no secret is known of the kind %q", kind)
			continue
		}
		for way, written := range ways {
			for _, path := range []string{"r%d-%s.log", "journal/%d-%s", "export/tile/entries/%d-%s", "debug-%d-%s.tar.zst"} {
				path = fmt.Sprintf(path, k, way)
				want[path] = h.secrets[i].Name
				h.writes(t, path, append([]byte("level=INFO key="), append(written(h.secrets[i].Bytes), " and so on\n"...)...))
			}
		}
	}
	found := map[string]string{}
	for _, f := range search().Found {
		if _, twice := found[f.Path]; twice {
			t.Errorf("%s: another one is found too: %s", f.Path, f.Secret)
		}
		found[f.Path] = f.Secret
	}
	for path, name := range want {
		if found[path] != name {
			t.Errorf("%s in %s: found %q", name, path, found[path])
		}
	}
	if len(found) != len(want) {
		t.Errorf("found in %d files, planted in %d", len(found), len(want))
	}
}

// The secrets that are looked for are those that open things, not something like them.
func TestSecretsAreTheTrueOnes(t *testing.T) {
	h := furnished(t)
	count := func(begin string) (n int) {
		for _, s := range h.secrets {
			if strings.HasPrefix(s.Name, begin) {
				n++
			}
		}
		return n
	}
	for begin, want := range map[string]int{"the passphrase": 6, "the seed in": 6, "the age identity": 5, "the seed of the age": 5,
		"the file key of keys/": 5, "the file key of nodes/": 1, "the file key of backups/": 1, "the file key of the share": 4, "the file key of the answer": 1, "the value of": 5, "the log's": 2, "the TLS key": 1} {
		if got := count(begin); got != want {
			t.Errorf("%d secrets %q, want %d", got, begin, want)
		}
	}
	var shares []keys.Share
	b, err := keys.ReadBackup(filepath.Join(h.Dir, "backups/n1.backup"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Shares {
		share, err := h.shareOf("a share", b.Shares[i].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, share)
	}
	if f, err := b.Open(shares[:3]); err != nil || f.Name != "n1" {
		t.Errorf("the shares that are looked for do not open the backup: %v", err)
	}
	h.identities = h.identities[:1]
	if _, _, err := h.sealedIn(); err == nil {
		t.Error("shares that nobody can open were passed over")
	}
}
