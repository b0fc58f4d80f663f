package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/test/freeport"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"quorate": main, "brokensigner": brokenSigner})
}

// TestScripts runs the stories of test/script: what a user types, and what
// must come of it.
func TestScripts(t *testing.T) {
	dir := filepath.Join("..", "..", "test", "script")
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			port := freeport.Take(t, devAgentOffset+2*devMaxAgents)
			e.Setenv("PORT", strconv.Itoa(port))
			for i := range devReplicas {
				e.Setenv(fmt.Sprintf("PORT%d", i), strconv.Itoa(port+i))
			}
			for i := range 2 { // the agents' ports for other programs
				e.Setenv(fmt.Sprintf("AGENT%d", i), strconv.Itoa(port+devAgentOffset+devMaxAgents+i))
			}
			e.Setenv("LATE", strconv.Itoa(port+devAgentOffset+2*devMaxAgents-1))
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":    exits,
			"await":    await,
			"answers":  answers,
			"flip":     flip,
			"capture":  capture,
			"eventual": eventual,
			"reseal":   reseal,
			"agent":    agents().command,
			"observes": observes,
			"convicts": convicts,
			"refuses":  refuses,
			"request":  askShare,
			"lossy":    lossy,
		},
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("no condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// exits CODE PROGRAM ARGS…: the program must exit with this very code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// await URL: wait until it answers 200.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await URL")
	}
	client := http.Client{Timeout: 2 * time.Second}
	last := "never answered"
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		response, err := client.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
		last = response.Status
	}
	ts.Fatalf("%s: %s", args[0], last)
}

// answers URL TEXT: wait until its body holds the text.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: answers URL TEXT")
	}
	client := http.Client{Timeout: 2 * time.Second}
	last := "never answered"
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		response, err := client.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if last = string(body); err == nil && strings.Contains(last, args[1]) {
			return
		}
	}
	ts.Fatalf("%s: %s", args[0], last)
}

// eventual PATTERN PROGRAM ARGS…: run it until its output matches.
func eventual(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventual PATTERN program args…")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("the output never matched %q", args[0])
}

// flip FILE: change one bit in the middle of it.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(name, data, 0o644))
}

// capture NAME FIELD: put a field of the JSON on stdout into a variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME FIELD")
	}
	mark := `"` + args[1] + `": `
	_, rest, ok := strings.Cut(ts.ReadFile("stdout"), mark)
	if !ok {
		ts.Fatalf("no field %s on stdout", args[1])
	}
	value, _, _ := strings.Cut(rest, "\n")
	ts.Setenv(args[0], strings.Trim(strings.TrimSuffix(value, ","), `"`))
}
