package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Stages that fail in the ways of go test, of node and of a plain program.
const stagesMakefile = `.PHONY: first tests tap plain after beside hangs
first beside after:
	@echo $@ ran
tests:
	@seq -f 'ok  	example.com/before/p%g	0.1s' 1000
	@seq -f 'told before %g' 2000
	@printf -- '--- FAIL: TestGovernor (0.10s)\n    x_test.go:3: the governor is missing\n'
	@seq -f 'told after %g' 2000
	@printf 'the last words\nFAIL\nFAIL\texample.com/x\t1.0s\n'
	@printf 'panic: the disk is gone\n\ngoroutine 1 [running]:\nFAIL\texample.com/y\t1.0s\n'
	@seq -f 'ok  	example.com/after/p%g	0.1s' 1000; exit 1
tap:
	@for i in 1 2 3; do printf '# Subtest: passes %s\nok %s - passes %s\n  ---\n  duration_ms: 3\n  ...\n' $$i $$i $$i; done
	@printf '# Subtest: fails\nnot ok 4 - fails\n  ---\n  error: a byte too many\n  ...\n'; exit 1
plain:
	@echo 'gofmt: x.go'; exit 1
hangs:
	@echo it hangs here; echo $$$$ > began; sleep 600
`

// stages lays the script out beside a Makefile of its own and prepares a run.
func stages(t *testing.T, lists ...string) (dir string, cmd *exec.Cmd) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string][]byte{"Makefile": []byte(stagesMakefile), "test/stages.sh": read(t, "test/stages.sh")} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd = exec.Command("bash", append([]string{filepath.Join(dir, "test", "stages.sh")}, lists...)...)
	// Of a make that runs this test the stages want nothing.
	for _, one := range os.Environ() {
		if name, _, _ := strings.Cut(one, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" {
			cmd.Env = append(cmd.Env, one)
		}
	}
	return dir, cmd
}

// Whoever sees only the end of the output learns which stages failed and why.
func TestStagesTellWhatFailed(t *testing.T) {
	_, cmd := stages(t, "first plain", "tests after", "tap beside")
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("stages.sh: %v\n%s", err, out)
	}
	text := string(out)
	for _, ran := range []string{"first ran", "after ran", "beside ran"} {
		if !strings.Contains(text, ran) {
			t.Errorf("a stage was kept from running: no %q in\n%s", ran, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	for _, want := range []string{"FAILED", "plain", "tests", "tap"} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line %q does not say %s", last, want)
		}
	}
	end := text[strings.Index(text, "== why "):]
	for _, want := range []string{"--- FAIL: TestGovernor", "the governor is missing", "told before 2000", "the last words", "panic: the disk is gone",
		"a byte too many", "# Subtest: fails", "gofmt: x.go", "FAIL\texample.com/x", "FAIL\texample.com/y"} {
		if !strings.Contains(end, want) {
			t.Errorf("the end does not tell %q", want)
		}
	}
	for _, noise := range []string{"example.com/before", "example.com/after", "passes", "told before 3\n", "told after 1000\n"} {
		if strings.Contains(end, noise) {
			t.Errorf("the end tells %q", noise)
		}
	}
	if len(end) > 16<<10 {
		t.Errorf("the end is %d bytes long", len(end))
	}
}

func TestStagesThatPass(t *testing.T) {
	_, cmd := stages(t, "first", "after", "beside")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("every stage passed")) {
		t.Fatalf("stages.sh: %v\n%s", err, out)
	}
}

// What the stages say is told also where there is no flock.
func TestStagesWithoutFlock(t *testing.T) {
	dir, cmd := stages(t, "first", "after", "beside")
	tools := filepath.Join(dir, "tools")
	if err := os.Mkdir(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"awk", "bash", "basename", "cat", "dirname", "echo", "grep", "make", "mkdir", "renice", "rm", "sh", "tail", "tr", "wc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+tools) // the last one counts
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"== first\n", "first ran\n", "== after: passed", "beside ran\n", "every stage passed"} {
		if err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("stages.sh: %v, no %q in\n%s", err, want, out)
		}
	}
}

// Whoever ends the script ends what its stages started, and learns how far they
// came.
func TestStagesEndTogether(t *testing.T) {
	dir, cmd := stages(t, "first plain", "hangs", "beside")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for end := time.Now().Add(time.Minute); pid == 0; time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(dir, "began"))
		if pid, _ = strconv.Atoi(strings.TrimSpace(string(b))); pid == 0 && time.Now().After(end) {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			t.Fatalf("the stage does not begin: %v\n%s", cmd.Wait(), out.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "ended by a signal") {
		t.Errorf("stages.sh: %v\n%s", err, out.String())
	}
	for _, want := range []string{"== hangs had not ended", "it hangs here", "== why plain failed", "failed until then: plain"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "first had not ended") {
		t.Error("a stage that ended is said not to have")
	}
	for end := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d of a stage lives on", pid)
		}
	}
}
