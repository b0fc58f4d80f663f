package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build makes the programs that the stages need.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", bin+string(filepath.Separator),
		"../../cmd/quorate", "./liar", "./observer").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// The lies of the short run, with real processes; make attack tells all.
func TestLies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	var chosen []stage
	for _, s := range stages {
		if s.short {
			chosen = append(chosen, s)
		}
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	if !attack(t.Context(), &out, options{bin: build(t)}, chosen) {
		t.Errorf("a lie got more than it should")
	}
	t.Log("\n" + out.String())
}

// The comparison of heads is shown a fork, so that its zero means something.
func TestInconsistentPairsAreFound(t *testing.T) {
	a, b, c, fork := headName{1, "a"}, headName{2, "b"}, headName{3, "c"}, headName{2, "x"}
	honest := map[headName]bool{a: true, b: true, c: true}
	astray := map[headName]bool{a: true, fork: true}
	for _, one := range []struct {
		name  string
		found map[headName]bool
		trees []map[headName]bool
		want  int
	}{
		{"one history", honest, []map[headName]bool{honest, honest}, 0},
		{"a fork that is not certified", honest, []map[headName]bool{honest, astray}, 0},
		{"a fork", map[headName]bool{a: true, b: true, c: true, fork: true}, []map[headName]bool{honest, astray}, 2},
		{"a head that no history has", map[headName]bool{a: true, fork: true}, []map[headName]bool{honest}, 1},
	} {
		if _, got := comparePairs(one.found, one.trees); got != one.want {
			t.Errorf("%s: %d inconsistent pairs, want %d", one.name, got, one.want)
		}
	}
}

// The attacks of nodes of the short run.
func TestAttacksByNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	var chosen []nodeStage
	for _, s := range nodeStages {
		if s.short {
			chosen = append(chosen, s)
		}
	}
	// An excluded node that nobody calls guilty must make its stage fail, or the
	// zero that the others print means nothing.
	planted := nodeStage{name: "planted", run: func(ctx context.Context, f *fleet) error {
		err := equivocated(ctx, f)
		clear(f.guilty)
		return err
	}}
	t.Setenv("TMPDIR", t.TempDir())
	bin := build(t)
	var out strings.Builder
	if !attackByNodes(t.Context(), &out, options{bin: bin}, chosen) {
		t.Errorf("an attack got more than it should")
	}
	if attackByNodes(t.Context(), &out, options{bin: bin, quiet: true}, []nodeStage{planted}) ||
		!strings.Contains(out.String(), "honest nodes that were quarantined or excluded, in any staged attack: 2\n") {
		t.Errorf("honest nodes were excluded and nobody noticed")
	}
	t.Log("\n" + out.String())
}

func TestPercentile(t *testing.T) {
	var list []time.Duration
	for i := range 200 {
		list = append(list, time.Duration(200-i))
	}
	for p, want := range map[int]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := percentileOf(list, p); got != want {
			t.Errorf("p%d of 1 to 200 is %d, want %d", p, got, want)
		}
	}
	if percentileOf(nil, 99) != 0 {
		t.Error("nothing has a percentile")
	}
}
