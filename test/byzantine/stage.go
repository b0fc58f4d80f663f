package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stage is one lie, told to a ledger of its own.
type stage struct {
	name  string
	lie   string // in a sentence
	short bool   // among those of make test
	run   func(ctx context.Context, s *scene) error
}

// options say how to stage.
type options struct {
	bin   string // folder of the programs
	keep  bool
	nodes int  // of each operator, where agents run
	quiet bool // do not show the logs of a stage of nodes that failed
}

// report is what a stage found: what each party did, and what should not be.
type report struct {
	lines   []line
	faults  []string
	began   time.Time
	refused map[string]int // statements of attackers, by the code of the rule
}

type line struct{ who, what string }

// says notes what somebody did.
func (r *report) says(who, format string, args ...any) {
	r.lines = append(r.lines, line{who, fmt.Sprintf(format, args...)})
}

// fail notes what DESIGN.md rules out.
func (r *report) fail(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// demand fails unless something holds.
func (r *report) demand(holds bool, format string, args ...any) {
	if !holds {
		r.fail(format, args...)
	}
}

// counts takes note of statements that a rule refused.
func (r *report) counts(code string, n int) { r.refused[code] += n }

func (r *report) took() time.Duration { return time.Since(r.began) }

// attack stages lies one after the other, and says whether all got what they
// should.
func attack(ctx context.Context, w io.Writer, o options, chosen []stage) bool {
	began, total := time.Now(), tally{}
	failed := []string{}
	for _, one := range chosen {
		if ctx.Err() != nil {
			break
		}
		r, counted := perform(ctx, o, one)
		total.add(counted)
		r.says("heads", "%s", counted)
		if !r.print(w, one.name, "the lie", one.lie) {
			failed = append(failed, one.name)
		}
	}
	fmt.Fprintf(w, "two inconsistent certified heads with four replicas and one liar, any staged lie: %d\n", total.inconsistent)
	fmt.Fprintf(w, "%s\n", total)
	fmt.Fprintf(w, "%d lies staged in %.0f s, %d failed%s\n", len(chosen), time.Since(began).Seconds(), len(failed), listed(failed))
	return ctx.Err() == nil && len(failed) == 0 && len(chosen) > 0
}

// print tells what a stage found, and says whether it passed.
func (r *report) print(w io.Writer, name, kind, sentence string) bool {
	word := "PASS"
	if len(r.faults) > 0 {
		word = "FAIL"
	}
	fmt.Fprintf(w, "%s  %s (%.1f s)\n", word, name, r.took().Seconds())
	fmt.Fprintf(w, "      %-10s %s\n", kind, sentence)
	for _, l := range r.lines {
		fmt.Fprintf(w, "      %-10s %s\n", l.who, l.what)
	}
	for _, f := range r.faults {
		fmt.Fprintf(w, "      %-10s %s\n", "FAULT", f)
	}
	fmt.Fprintln(w)
	return len(r.faults) == 0
}

// begin founds a ledger in a directory of its own; end removes the directory. What
// goes wrong is a fault of the stage.
func (r *report) begin(ctx context.Context, o options, f founding) (s *scene, end func()) {
	dir, err := os.MkdirTemp("", "byz-")
	if err != nil {
		r.fail("%v", err)
		return nil, func() {}
	}
	end = func() { _ = os.RemoveAll(dir) }
	if o.keep {
		end = func() {}
		r.says("kept", "%s", dir)
	}
	bin, err := filepath.Abs(o.bin)
	if err == nil {
		s, err = found(ctx, bin, dir, r, f)
	}
	if err != nil {
		r.fail("found the ledger: %v", err)
		return nil, end
	}
	return s, end
}

// perform stages one lie: a new ledger, the lie, what is to be seen, the end.
func perform(ctx context.Context, o options, one stage) (*report, tally) {
	r := &report{began: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	s, end := r.begin(ctx, o, ofReplicas)
	defer end()
	if s == nil {
		return r, tally{}
	}
	err := s.startAll(ctx)
	if err == nil {
		watching, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); s.heads.watch(watching) }()
		if err = s.goesOn(ctx, 1); err == nil {
			err = one.run(ctx, s)
		}
		s.heads.hear(ctx)
		stop()
		<-done
	}
	if err != nil {
		r.fail("%v", err)
	}
	s.stopAll()
	counted := s.heads.compare()
	if len(r.faults) > 0 {
		s.logs()
	}
	return r, counted
}

// logs shows the ends of the logs of a stage that failed.
func (s *scene) logs() {
	for _, m := range s.members {
		b, err := os.ReadFile(filepath.Join(s.dir, m.name+".log"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.says(m.name, "%v", err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		for _, text := range lines[max(0, len(lines)-replicaLogs):] {
			s.says(m.name+" log", "%.300s", text)
		}
	}
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}
