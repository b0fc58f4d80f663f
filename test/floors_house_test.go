package test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const longestFile = 600 // lines of Go; longer ones are reported, not refused

// files lists what git tracks or would track, from the root of the repository.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var list []string
	for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join("..", f)); err == nil && info.Mode().IsRegular() {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		t.Fatal("git lists no files: nothing was checked")
	}
	return list
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var secrets = []*regexp.Regexp{
	regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}`),
	regexp.MustCompile(`AGE-SECRET-KEY-[A-Z0-9-]*1[A-Z0-9]{40}`),
	regexp.MustCompile(`(?i)"(seed|private|secret)(_?key)?"\s*:\s*"[A-Za-z0-9+/_=-]{40}`),
}

// looksSecret says why a file looks as if it held a private key; "" when it
// does not. Encrypted key files are no more welcome than plain ones.
func looksSecret(name string, content []byte) string {
	if strings.HasPrefix(name, "test/vectors/") {
		return "" // keys made for tests, known to all
	}
	if ext := filepath.Ext(name); ext == ".key" || ext == ".pem" || ext == ".age" {
		return "is named like a key file"
	}
	if bytes.HasPrefix(content, []byte("age-encryption.org/")) || bytes.HasPrefix(content, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		return "is an age file"
	}
	for _, secret := range secrets {
		if secret.Match(content) {
			return "matches " + secret.String()
		}
	}
	return ""
}

func TestNoPrivateKeyIsCommitted(t *testing.T) {
	for _, f := range files(t) {
		if why := looksSecret(f, read(t, f)); why != "" {
			t.Errorf("%s %s", f, why)
		}
	}
}

func TestSecretsAreRecognised(t *testing.T) {
	key := strings.Repeat("QW", 40)
	for _, c := range []struct {
		name, content string
		want          bool
	}{
		{"run/alice.key", "", true},
		{"a.txt", "-----BEGIN " + "EC PRIVATE KEY-----\n" + key, true},
		{"a.txt", "AGE-SECRET-" + "KEY-PQ-1" + key, true},
		{"a.json", `{"se` + `ed": "` + key + `"}`, true},
		{"a.txt", "age-encryption" + ".org/v1\n-> scrypt", true},
		{"test/vectors/keys.json", `{"se` + `ed": "` + key + `"}`, false},
		{"README.md", "keep the private key offline", false},
		{"a.json", `{"public": "` + key + `"}`, false},
	} {
		if got := looksSecret(c.name, []byte(c.content)) != ""; got != c.want {
			t.Errorf("%s %.30q: secret %v, want %v", c.name, c.content, got, c.want)
		}
	}
}

// Paths of the machine that something was written on mean nothing elsewhere.
var machinePath = regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(home|Users|root|work)/[A-Za-z0-9._-]+`)

func machinePaths(name string, content []byte) []string {
	if bytes.IndexByte(content, 0) >= 0 {
		return nil // not text
	}
	var found []string
	for i, line := range bytes.Split(content, []byte("\n")) {
		if m := machinePath.Find(line); m != nil {
			found = append(found, fmt.Sprintf("%s:%d: names %s", name, i+1, bytes.TrimSpace(m)))
		}
	}
	return found
}

func TestNoPathOfAMachineIsNamed(t *testing.T) {
	for _, f := range files(t) {
		for _, m := range machinePaths(f, read(t, f)) {
			t.Error(m)
		}
	}
	sample := "cd /ho" + "me/alice/quorate\n" // the check can fail
	if len(machinePaths("x", []byte(sample))) != 1 || len(machinePaths("x", []byte("GET /authority/1 under /tmp/x"))) != 0 {
		t.Error("the check for paths is blind")
	}
}

// A lockfile that says where packages were fetched from ties every reader to
// that place; the integrity hashes are what binds.
func TestLockfilesNameNoHost(t *testing.T) {
	for _, f := range files(t) {
		if filepath.Base(f) == "package-lock.json" && bytes.Contains(read(t, f), []byte(`"resolved"`)) {
			t.Errorf(`%s has "resolved" fields: install with omit-lockfile-registry-resolved=true`, f)
		}
	}
}

func TestDocumentsExist(t *testing.T) {
	for _, f := range []string{
		"README.md", "NEWS.md", "ledger/FORMAT.md", "fsm/DESIGN.md", "ledger/replica/DESIGN.md", "test/vectors/README.md",
	} {
		if info, err := os.Stat(filepath.Join("..", f)); err != nil || info.Size() < 100 {
			t.Errorf("%s is missing or empty", f)
		}
	}
}

func TestLongFilesAreReported(t *testing.T) {
	for _, f := range files(t) {
		if filepath.Ext(f) != ".go" {
			continue
		}
		if lines := bytes.Count(read(t, f), []byte("\n")); lines > longestFile {
			t.Logf("%s has %d lines: split it along the words of the domain", f, lines)
		}
	}
}

// source is one parsed Go package: what it parses, and how that is fuzzed.
type source struct {
	parsers []string        // exported functions that read foreign bytes
	fuzz    map[string]bool // fuzz target: has a seed
}

var parserName = regexp.MustCompile(`^(Parse|Decode|Unmarshal|Read)`)

// scan adds one file to s.
func (s *source) scan(file *ast.File, isTest bool) {
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		name := f.Name.Name
		switch {
		case isTest && strings.HasPrefix(name, "Fuzz"):
			s.fuzz[name] = hasSeed(f)
		case !isTest && ast.IsExported(name) && parserName.MatchString(name) && takesBytes(f):
			s.parsers = append(s.parsers, name)
		}
	}
}

// takesBytes reports whether a parameter is []byte or an io.Reader.
func takesBytes(f *ast.FuncDecl) bool {
	return slices.ContainsFunc(f.Type.Params.List, func(p *ast.Field) bool {
		switch typ := p.Type.(type) {
		case *ast.ArrayType:
			elem, ok := typ.Elt.(*ast.Ident)
			return ok && typ.Len == nil && elem.Name == "byte"
		case *ast.SelectorExpr:
			return typ.Sel.Name == "Reader"
		}
		return false
	})
}

// hasSeed reports whether a fuzz target adds a seed, itself or by a helper that
// is handed the *testing.F.
func hasSeed(f *ast.FuncDecl) bool {
	if len(f.Type.Params.List) != 1 || len(f.Type.Params.List[0].Names) != 1 {
		return false
	}
	param, found := f.Type.Params.List[0].Names[0].Name, false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == param {
				found = true
			}
		}
		for _, arg := range call.Args {
			if x, ok := arg.(*ast.Ident); ok && x.Name == param {
				found = true
			}
		}
		return true
	})
	return found
}

// fuzzBreaches lists what is not fuzzed in a package, or fuzzed from nothing.
func (s *source) fuzzBreaches(room string) []string {
	var found []string
	if len(s.parsers) > 0 && len(s.fuzz) == 0 {
		found = append(found, fmt.Sprintf("%s parses foreign bytes (%s) and has no fuzz target", room, strings.Join(s.parsers, ", ")))
	}
	for name, seeded := range s.fuzz {
		if !seeded {
			found = append(found, fmt.Sprintf("%s: %s starts from no seed: add one with f.Add", room, name))
		}
	}
	return found
}

func TestEveryParserIsFuzzed(t *testing.T) {
	targets := 0
	for _, p := range listPackages(t) {
		s := source{fuzz: map[string]bool{}}
		for i, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			s.scan(file, i >= len(p.GoFiles))
		}
		targets += len(s.fuzz)
		for _, b := range s.fuzzBreaches(p.room()) {
			t.Error(b)
		}
	}
	if targets == 0 {
		t.Error("no fuzz target was found")
	}
}

func TestUnfuzzedParsersAreFound(t *testing.T) {
	for _, c := range []struct{ name, code, test, want string }{
		{"not fuzzed", "func ParseX(b []byte) {}", "", "no fuzz target"},
		{"not fuzzed reader", "func ReadX(r io.Reader) {}", "", "no fuzz target"},
		{"no seed", "func ParseX(b []byte) {}", "func FuzzX(f *testing.F) { f.Fuzz(nil) }", "starts from no seed"},
		{"seed", "func ParseX(b []byte) {}", "func FuzzX(f *testing.F) { f.Add(1); f.Fuzz(nil) }", ""},
		{"seed by a helper", "func ParseX(b []byte) {}", "func FuzzX(f *testing.F) { seeds(f); f.Fuzz(nil) }", ""},
		{"no parser", "func Parse(n int) {}", "", ""},
	} {
		s := source{fuzz: map[string]bool{}}
		for i, code := range []string{c.code, c.test} {
			file, err := parser.ParseFile(token.NewFileSet(), "", "package x\n"+code, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			s.scan(file, i == 1)
		}
		got := strings.Join(s.fuzzBreaches("x"), "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

var hooked = regexp.MustCompile(`\bHooks\b`)

// usesHooks says whether a room's own code touches the hooks that let tests alter
// a replica.
func usesHooks(name string, content []byte) bool {
	if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") ||
		strings.HasPrefix(name, "ledger/replica/") {
		return false
	}
	return hooked.Match(content)
}

// No program lets anybody alter a replica: hooks are for what lies under test/.
func TestNoProgramHasHooks(t *testing.T) {
	for _, f := range files(t) {
		if usesHooks(f, read(t, f)) {
			t.Errorf("%s uses a replica's Hooks, which are for tests", f)
		}
	}
	if !usesHooks("cmd/quorate/server.go", []byte("cfg.Hooks = nil")) || usesHooks("test/sim/x.go", []byte("Hooks")) {
		t.Error("the check finds nothing, or too much")
	}
}

// callsRestore lists where a Go file that knows Raft calls, or takes as a value,
// a method named Restore: raft.Restore forces a state on all replicas past the
// log, the chain and every signature. To define the FSM's own is no call.
func callsRestore(name string, content []byte) (lines []string, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, content, 0)
	if err != nil {
		return nil, err
	}
	knows := false
	for _, one := range file.Imports {
		knows = knows || one.Path.Value == `"github.com/hashicorp/raft"`
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if use, ok := n.(*ast.SelectorExpr); ok && knows && use.Sel.Name == "Restore" {
			lines = append(lines, set.Position(use.Sel.Pos()).String())
		}
		return true
	})
	return lines, nil
}

func TestRaftRestoreIsNeverUsed(t *testing.T) {
	for _, f := range files(t) {
		if !strings.HasSuffix(f, ".go") {
			continue
		}
		lines, err := callsRestore(f, read(t, f))
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		for _, line := range lines {
			t.Errorf("%s uses Restore: a lost quorum is recovered by the statement recover", line)
		}
	}
	const head = "package x\nimport \"github.com/hashicorp/raft\"\n"
	for planted, want := range map[string]int{
		head + "func f(r *raft.Raft) { _ = r.Restore(nil, nil, 0) }": 1,
		head + "func f(r *raft.Raft) any { return r.Restore }":       1,
		head + "type s struct{ raft.FSM }; func (s) Restore() {}":    0,
	} {
		if lines, err := callsRestore("x.go", []byte(planted)); err != nil || len(lines) != want {
			t.Errorf("%q: %v, %v", planted, lines, err)
		}
	}
}
