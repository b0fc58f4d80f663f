package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The golden vectors of test/vectors, which a second implementation checks too.
// They are append-only: a change of format adds files, and SHA256SUMS holds
// what is there to what it was.

const vectorFolder = "../test/vectors"

var updateVectors = flag.Bool("update", false, "write the vector files that are missing; existing ones are never altered")

// vectorChecks says how each file is read and checked.
var vectorChecks = map[string]func(*testing.T, []byte){
	"canon.json":                       checks(checkCanon),
	"keys-with-test-keys.json":         checks(checkKeys),
	"statements-with-test-keys.json":   checks(checkStatements),
	"entries-with-test-keys.json":      checks(checkEntries),
	"commands-with-test-keys.json":     checks(checkCommands),
	"trie.json":                        checks(checkTrie),
	"checkpoints-with-test-keys.json":  checks(checkCheckpoints),
	"authority-with-test-keys.json":    checks(checkAuthority),
	"proofs-with-test-keys.json":       checks(checkProofs),
	"recover-with-test-keys.json":      checks(checkAuthority),
	"recoveruntil-with-test-keys.json": checks(checkAuthority),
	"protection-with-test-keys.json":   checks(checkProtection),
	"forks-with-test-keys.json":        checks(checkForks),
	"joinpacks-with-test-keys.json":    checks(checkPacks),
	"keyslife-with-test-keys.json":     checks(checkKeysLife),
	"rotation-with-test-keys.json":     checks(checkAuthority),
	"backups-with-test-keys.json":      checks(checkBackups),
	"keyat-with-test-keys.json":        checks(checkKeyAt),
}

func checks[V any](check func(*testing.T, V)) func(*testing.T, []byte) {
	return func(t *testing.T, b []byte) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var v V
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		check(t, v)
	}
}

func TestVectors(t *testing.T) {
	if *updateVectors {
		writeVectors(t)
	}
	sums := readSums(t)
	files, err := filepath.Glob(filepath.Join(vectorFolder, "*.json"))
	if err != nil || len(files) == 0 || len(sums) == 0 {
		t.Fatalf("no vectors in %s: %v", vectorFolder, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if sums[name] != hex.EncodeToString(hash(b)) {
				t.Fatal("SHA256SUMS has another hash: vectors are append-only")
			}
			delete(sums, name)
			check := vectorChecks[name]
			if check == nil {
				t.Fatal("no check for this file")
			}
			check(t, b)
		})
	}
	for name := range sums {
		t.Errorf("%s is in SHA256SUMS and gone", name)
	}
}

func hash(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

func readSums(t *testing.T) map[string]string {
	b, err := os.ReadFile(filepath.Join(vectorFolder, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || sums[name] != "" {
			t.Fatalf("SHA256SUMS: bad line %q", line)
		}
		sums[name] = sum
	}
	return sums
}

// writeVectors writes the files that are missing and appends their hashes.
func writeVectors(t *testing.T) {
	for _, name := range sortedKeys(vectorMakers) {
		path := filepath.Join(vectorFolder, name)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Logf("%s exists and stays as it is", name)
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(vectorMakers[name](t)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(vectorFolder, "SHA256SUMS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, "%x  %s\n", hash(b.Bytes()), name); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Texts that repeat the same keys and signatures are shortened: $N$ in them
// stands for string N of their file.
var (
	shortened = regexp.MustCompile(`\$[0-9]+\$`)
	long      = regexp.MustCompile(`[A-Za-z0-9_+/=-]{100,}`)
)

func lengthen(t *testing.T, text string, table []string) []byte {
	return shortened.ReplaceAllFunc([]byte(text), func(ref []byte) []byte {
		n, err := strconv.Atoi(strings.Trim(string(ref), "$"))
		if err != nil || n >= len(table) {
			t.Fatalf("no string %s", ref)
		}
		return []byte(table[n])
	})
}

// shorten moves into a table what texts repeat.
func shorten(texts ...*string) []string {
	count := map[string]int{}
	for _, text := range texts {
		for _, s := range long.FindAllString(*text, -1) {
			count[s]++
		}
	}
	table, index := []string{}, map[string]int{}
	for _, text := range texts {
		*text = long.ReplaceAllStringFunc(*text, func(s string) string {
			if count[s] < 2 {
				return s
			}
			if _, ok := index[s]; !ok {
				index[s] = len(table)
				table = append(table, s)
			}
			return fmt.Sprintf("$%d$", index[s])
		})
	}
	return table
}

// wants fails unless a vector file has cases of every sort that is named.
func wants(t *testing.T, counts map[string]int) {
	t.Helper()
	for what, n := range counts {
		if n == 0 {
			t.Errorf("no vector of sort %q", what)
		}
	}
}
