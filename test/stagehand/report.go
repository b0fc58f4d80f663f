// Package stagehand is the house of programs that stage something with real
// processes and say what was seen: a report in lines with PASS or FAIL, a scene
// in a directory of its own, processes and their ends. What is staged is its
// users' matter: test/byzantine (lies and attacks), test/keyloss (lost and stolen
// keys), test/rotation (keys that change).
package stagehand

import (
	"fmt"
	"io"
	"time"
)

// Report is what a stage found: what each party did, and what should not be. It
// is for one goroutine.
type Report struct {
	Lines   []Line
	Faults  []string
	Began   time.Time
	Refused map[string]int // statements that were to be refused, by the code of the rule
}

// Line says what somebody did.
type Line struct{ Who, What string }

// NewReport is the report of a stage that begins now.
func NewReport() *Report { return &Report{Began: time.Now(), Refused: map[string]int{}} }

// Says notes what somebody did.
func (r *Report) Says(who, format string, args ...any) {
	r.Lines = append(r.Lines, Line{who, fmt.Sprintf(format, args...)})
}

// Fail notes what must not be.
func (r *Report) Fail(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// Demand fails unless something holds.
func (r *Report) Demand(holds bool, format string, args ...any) {
	if !holds {
		r.Fail(format, args...)
	}
}

// Counts takes note of statements that a rule refused.
func (r *Report) Counts(code string, n int) { r.Refused[code] += n }

// Took is the time since the stage began.
func (r *Report) Took() time.Duration { return time.Since(r.Began) }

// Print tells what a stage found, and says whether it passed.
func (r *Report) Print(w io.Writer, name, kind, sentence string) bool {
	word := "PASS"
	if len(r.Faults) > 0 {
		word = "FAIL"
	}
	fmt.Fprintf(w, "%s  %s (%.1f s)\n", word, name, r.Took().Seconds())
	fmt.Fprintf(w, "      %-10s %s\n", kind, sentence)
	for _, l := range r.Lines {
		fmt.Fprintf(w, "      %-10s %s\n", l.Who, l.What)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "      %-10s %s\n", "FAULT", f)
	}
	fmt.Fprintln(w)
	return len(r.Faults) == 0
}
