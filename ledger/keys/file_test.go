package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const passphrase = "correct horse battery staple"

func give(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

func testFile(t *testing.T) *File {
	t.Helper()
	identity, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return &File{Name: "alice", Role: "governor", Operator: "north", Created: 1790000000000, Key: testKey(1), Identity: identity}
}

// asFileError gives the error as the type that ReadFile promises, which must
// name the file and what is wrong with it.
func asFileError(t *testing.T, err error) *FileError {
	t.Helper()
	problem := new(FileError)
	if !errors.As(err, &problem) {
		t.Fatalf("error %v is no *FileError", err)
	}
	if problem.Problem == "" || !strings.Contains(problem.Error(), problem.Path) {
		t.Errorf("error %v does not say what is wrong with what", err)
	}
	return problem
}

func sameFile(a, b *File) bool {
	return a.Name == b.Name && a.Role == b.Role && a.Operator == b.Operator && a.Created == b.Created &&
		a.Identity == b.Identity && a.Key.Seed() == b.Key.Seed()
}

func TestFileRoundTrip(t *testing.T) {
	for _, f := range []*File{testFile(t), {Name: "n1", Role: "node", Key: testKey(2)}} {
		path := filepath.Join(t.TempDir(), "a.key")
		if err := WriteFile(path, f, []byte(passphrase), WorkFactor(2)); err != nil {
			t.Fatal(err)
		}
		back, err := ReadFile(path, give(passphrase))
		if err != nil || !sameFile(f, back) {
			t.Errorf("gives %v, %v", back, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the mode is %v, %v", info.Mode(), err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(content, []byte(armor.Header)) || bytes.Contains(content, []byte(f.Name+`"`)) {
			t.Errorf("the file is not encrypted: %s", content)
		}
		leftOnly(t, path)
	}
}

// leftOnly says that nothing is beside the file: no temporary one.
func leftOnly(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file there is more: %v, %v", entries, err)
	}
}

func TestFileOpensWithAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	if err := WriteFile(path, testFile(t), []byte(passphrase), WorkFactor(2)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(armor.NewReader(bytes.NewReader(content)), identity); err != nil {
		t.Error(err)
	}
}

func TestInsecureFile(t *testing.T) {
	f, path := testFile(t), filepath.Join(t.TempDir(), "a.key")
	if err := WriteInsecureFile(path, f); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(content), "\n"); !strings.Contains(first, "UNENCRYPTED") || !strings.Contains(first, "DEVELOPMENT") {
		t.Errorf("the first line is %q", first)
	}
	never := func() ([]byte, error) { t.Error("a passphrase was asked for"); return nil, nil }
	if back, err := ReadFile(path, never); err != nil || !sameFile(f, back) {
		t.Errorf("gives %v, %v", back, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = ReadFile(path, nil)
	if problem := asFileError(t, err); !strings.Contains(problem.Remedy, "chmod") {
		t.Errorf("a file that others read gives %v", err)
	}
}

func TestFileIsNeverOverwritten(t *testing.T) {
	f, path := testFile(t), filepath.Join(t.TempDir(), "a.key")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := f.Public()
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"WriteFile":         WriteFile(path, f, []byte(passphrase), WorkFactor(1)),
		"WriteInsecureFile": WriteInsecureFile(path, f),
		"WritePublicFile":   WritePublicFile(path, public),
	} {
		if asFileError(t, err); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file is now %q, %v", content, err)
	}
	leftOnly(t, path)
}

// TestWritersRace: of many that write one path, one wins, and its file is
// whole. The second round is a file system that cannot link.
func TestWritersRace(t *testing.T) {
	noLink := func(string, string) error { return errors.ErrUnsupported }
	for name, link := range map[string]func(string, string) error{"link": os.Link, "no link": noLink} {
		path := filepath.Join(t.TempDir(), "a.key")
		var wins atomic.Int32
		var winner atomic.Value
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				content := fmt.Sprintf("writer %d", i)
				temporary := fmt.Sprintf("%s.%d", path, i)
				if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
					t.Error(err)
				}
				switch err := publish(link, temporary, path); {
				case err == nil:
					wins.Add(1)
					winner.Store(content)
				case !errors.Is(err, fs.ErrExist):
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
		content, err := os.ReadFile(path)
		if err != nil || wins.Load() != 1 || string(content) != winner.Load() {
			t.Errorf("%s: %d win, and the file is %q, %v", name, wins.Load(), content, err)
		}
	}
}

func TestWriteFileFails(t *testing.T) {
	f, dir := testFile(t), t.TempDir()
	if err := WriteFile(filepath.Join(dir, "none", "a.key"), f, []byte(passphrase), WorkFactor(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there gives %v", err)
	}
	for name, err := range map[string]error{
		"empty passphrase": WriteFile(filepath.Join(dir, "a"), f, nil, WorkFactor(1)),
		"work factor 0":    WriteFile(filepath.Join(dir, "b"), f, []byte(passphrase), WorkFactor(0)),
		"work factor 21":   WriteFile(filepath.Join(dir, "c"), f, []byte(passphrase), WorkFactor(21)),
		"no key":           WriteInsecureFile(filepath.Join(dir, "d"), &File{Name: "x", Role: "node"}),
		"no identity":      WriteInsecureFile(filepath.Join(dir, "e"), &File{Name: "x", Role: "node", Key: testKey(1), Identity: "AGE-SECRET-KEY-1X"}),
		"invalid UTF-8":    WriteInsecureFile(filepath.Join(dir, "f"), &File{Name: "\xff", Role: "node", Key: testKey(1)}),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("failing leaves %v, %v", entries, err)
	}
}

// encrypted gives a key file's bytes, for tests to damage.
func encrypted(t testing.TB, content string, recipient age.Recipient) []byte {
	t.Helper()
	if recipient == nil {
		scrypt, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			t.Fatal(err)
		}
		scrypt.SetWorkFactor(1)
		recipient = scrypt
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	if err := errors.Join(encryptTo(armored, []byte(content), recipient), armored.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadFileRefuses(t *testing.T) {
	f := testFile(t)
	content, err := f.content()
	if err != nil {
		t.Fatal(err)
	}
	good := string(content.Bytes())
	change := func(old, new string) []byte {
		changed := strings.Replace(good, old, new, 1)
		if changed == good {
			t.Fatalf("nothing is %q", old)
		}
		return []byte(insecureWarning + changed)
	}
	pair, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	whole := encrypted(t, good, nil)
	other := testKey(9).ID().String()
	canned := errors.New("no terminal")
	// The header alone decides here: scrypt with 2^21 is refused before it is
	// run, or a file could take any amount of memory.
	costly := armored(t, "age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 21\n"+strings.Repeat("A", 43)+"\n--- "+strings.Repeat("A", 43)+"\n"+strings.Repeat("x", 40))
	for _, c := range []struct {
		name       string
		content    []byte
		passphrase func() ([]byte, error)
		says       string
		is         error
	}{
		{"wrong passphrase", whole, give("wrong"), "passphrase is wrong", ErrPassphrase},
		{"empty passphrase", whole, give(""), "empty", ErrPassphrase},
		{"no passphrase", whole, nil, "encrypted", nil},
		{"failing passphrase", whole, func() ([]byte, error) { return nil, canned }, "no terminal", canned},
		{"another recipient", encrypted(t, good, pair.Recipient()), give(passphrase), "not with a passphrase", nil},
		{"too costly", costly, give(passphrase), "work factor", nil},
		{"empty", nil, nil, "empty", nil},
		{"another file", []byte("hello\n"), nil, "no key file", nil},
		{"too large", bytes.Repeat([]byte("#"), maxKeyFile+1), nil, "larger", nil},
		{"cut", whole[:len(whole)/2], give(passphrase), "damaged", nil},
		{"more after it", append(bytes.Clone(whole), "more"...), give(passphrase), "damaged", nil},
		{"encrypted nonsense", encrypted(t, "nonsense", nil), give(passphrase), "damaged", nil},
		{"warning alone", []byte(insecureWarning), nil, "damaged", nil},
		{"comment without end", []byte(insecureMark + "# and"), nil, "damaged", nil},
		{"another type", change("key-file.v1", "key-file.v2"), nil, "key-file.v2", nil},
		{"another key id", change(f.Key.ID().String(), other), nil, "key id", nil},
		{"another seed", change(`"seed":"AQ`, `"seed":"Ag`), nil, "key id", nil},
		{"identity of another kind", change(`"identity":"AGE-SECRET-KEY-PQ-1`, `"identity":"AGE-SECRET-KEY-1`), nil, "identity", nil},
		{"unknown field", change(`,"type"`, `,"status":1,"type"`), nil, "status", nil},
		{"missing field", change(`"role":"governor",`, ``), nil, "role", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.key")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadFile(path, c.passphrase)
			asFileError(t, err)
			if !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("gives %v, which should say %q", err, c.says)
			}
			if c.is != ErrPassphrase && errors.Is(err, ErrPassphrase) {
				t.Errorf("blames the passphrase: %v", err)
			}
			if strings.Contains(err.Error(), f.Identity[20:40]) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	dir := t.TempDir()
	_, err = ReadFile(dir, nil)
	asFileError(t, err)
	_, err = ReadFile(filepath.Join(dir, "none"), nil)
	if asFileError(t, err); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file gives %v", err)
	}
}

func armored(t *testing.T, binary string) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := armor.NewWriter(&out)
	if _, err := writer.Write([]byte(binary)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestDamagedFile: no single changed byte of an encrypted file goes unnoticed.
func TestDamagedFile(t *testing.T) {
	f := testFile(t)
	content, err := f.content()
	if err != nil {
		t.Fatal(err)
	}
	whole := encrypted(t, string(content.Bytes()), nil)
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		back, err := parseFile("a.key", damaged, 0o600, give(passphrase))
		if err == nil && !sameFile(f, back) {
			t.Fatalf("byte %d changed gives another key", at)
		}
		if err != nil {
			asFileError(t, err)
		}
	}
}

// FuzzParseFile: a file from anywhere gives a key file or a *FileError. There
// is no passphrase: what is behind it was made by someone who knows it.
func FuzzParseFile(f *testing.F) {
	key := File{Name: "alice", Role: "governor", Key: testKey(1)}
	content, err := key.content()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(insecureWarning + string(content.Bytes())))
	f.Add([]byte(insecureMark + string(content.Bytes())))
	f.Add([]byte(insecureMark))
	f.Add(encrypted(f, string(content.Bytes()), nil))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseFile("a.key", data, 0o600, nil)
		if err != nil {
			asFileError(t, err)
			return
		}
		again, err := file.content()
		if err != nil || !bytes.Contains(data, bytes.TrimSuffix(again.Bytes(), []byte("\n"))) {
			t.Errorf("%q is taken as %q, %v", data, again.Bytes(), err)
		}
	})
}
