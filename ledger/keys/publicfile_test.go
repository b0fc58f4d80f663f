package keys

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testPublicFile(t testing.TB) *PublicFile {
	identity, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	f := &File{Name: "r1", Role: "replica", Operator: "north", Created: 1, Key: testKey(3), Identity: identity}
	p, err := f.Public()
	if err != nil {
		t.Fatal(err)
	}
	p.Address, p.API, p.TLSPin = "10.0.0.1:7000", "https://r1.example", [32]byte{1}
	return p
}

func TestPublicFileRoundTrip(t *testing.T) {
	p, path := testPublicFile(t), filepath.Join(t.TempDir(), "r1.pub")
	if len(p.Cosigner44) != Cosigner44PublicKeySize {
		t.Errorf("a replica's file has a cosigning key of %d bytes", len(p.Cosigner44))
	}
	if err := WritePublicFile(path, p); err != nil {
		t.Fatal(err)
	}
	back, err := ReadPublicFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(p)
	if got, _ := json.Marshal(back); !bytes.Equal(got, want) {
		t.Errorf("gives %s\nwanted %s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(content, []byte("\n  \"words\": \""+testKey(3).ID().Words())) {
		t.Errorf("a person cannot read it: %v\n%s", err, content)
	}
	key, err := back.Key()
	if err != nil || key.ID() != testKey(3).ID() {
		t.Errorf("the key is another, %v", err)
	}
}

func TestPublicFileRefuses(t *testing.T) {
	for name, change := range map[string]func(*PublicFile){
		"key_id":     func(p *PublicFile) { p.KeyID = testKey(4).ID().String() },
		"words":      func(p *PublicFile) { p.Words = testKey(4).ID().Words() },
		"1952":       func(p *PublicFile) { p.PublicKey = p.PublicKey[1:] },
		"public_key": func(p *PublicFile) { p.PublicKey = testKey(4).Public().Bytes() },
		"recipient":  func(p *PublicFile) { p.Recipient = "age1x" },
		"cosigner44": func(p *PublicFile) { p.Cosigner44 = p.Cosigner44[1:] },
		"peer":       func(p *PublicFile) { p.Peer = []byte{1} },
		"type":       func(p *PublicFile) { p.Type = "quorate/public-key.v2" },
	} {
		p, path := testPublicFile(t), filepath.Join(t.TempDir(), "r1.pub")
		change(p)
		if err := WritePublicFile(path, p); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: writing gives %v", name, err)
		}
		content, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = ReadPublicFile(path)
		asFileError(t, err)
	}
	for name, content := range map[string]string{
		"nothing": "", "no JSON": "hello", "unknown field": `{"zoo":1}`, "too large": strings.Repeat(" ", maxPublicFile+1),
	} {
		path := filepath.Join(t.TempDir(), "r1.pub")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPublicFile(path); err == nil {
			t.Errorf("%s is accepted", name)
		} else {
			asFileError(t, err)
		}
	}
}

// FuzzParsePublicFile: what is taken is consistent, and is taken again when it
// is written again.
func FuzzParsePublicFile(f *testing.F) {
	content, err := json.MarshalIndent(map[string]any{"type": publicFileType, "name": "x"}, "", " ")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	path := filepath.Join(f.TempDir(), "r1.pub")
	if err := WritePublicFile(path, testPublicFile(f)); err != nil {
		f.Fatal(err)
	}
	if content, err = os.ReadFile(path); err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePublicFile(data)
		if err != nil {
			return
		}
		key, err := p.Key()
		if err != nil || key.ID().String() != p.KeyID || key.ID().Words() != p.Words {
			t.Errorf("an inconsistent file is taken: %v", err)
		}
	})
}
