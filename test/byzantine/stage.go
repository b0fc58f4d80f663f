package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/test/stagehand"
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
		r.Says("heads", "%s", counted)
		if !r.Print(w, one.name, "the lie", one.lie) {
			failed = append(failed, one.name)
		}
	}
	fmt.Fprintf(w, "two inconsistent certified heads with four replicas and one liar, any staged lie: %d\n", total.inconsistent)
	fmt.Fprintf(w, "%s\n", total)
	fmt.Fprintf(w, "%d lies staged in %.0f s, %d failed%s\n", len(chosen), time.Since(began).Seconds(), len(failed), listed(failed))
	return ctx.Err() == nil && len(failed) == 0 && len(chosen) > 0
}

// begin founds a ledger in a directory of its own; end removes the directory. What
// goes wrong is a fault of the stage.
func begin(ctx context.Context, r *stagehand.Report, o options, f founding) (s *scene, end func()) {
	end, ok := r.Begin(o.bin, "byz-", o.keep, func(bin, dir string) (err error) {
		s, err = found(ctx, bin, dir, r, f)
		return err
	})
	if !ok {
		return nil, end
	}
	return s, end
}

// perform stages one lie: a new ledger, the lie, what is to be seen, the end.
func perform(ctx context.Context, o options, one stage) (*stagehand.Report, tally) {
	r := stagehand.NewReport()
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	s, end := begin(ctx, r, o, ofReplicas)
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
		r.Fail("%v", err)
	}
	s.stopAll()
	counted := s.heads.compare()
	if len(r.Faults) > 0 {
		s.logs()
	}
	return r, counted
}

// logs shows the ends of the logs of a stage that failed.
func (s *scene) logs() {
	for _, m := range s.members {
		s.Tail(m.name, replicaLogs)
	}
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}
