// Command bench measures a whole ledger: real processes, real peers over mTLS,
// real disks, beside etcd on the same machine in the same minutes. It prints a
// table and writes bench.json. DESIGN.md says what each line means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	program, etcdLoad string // binaries
	dir               string // scratch, removed at the end
	profiles          string // folder for CPU profiles; "" for none
	quick             bool
	size              int // bytes of a record's text and of an etcd value
	rounds            int
	warm, each        time.Duration // of a cell
	clients           []int
	systems           []string // of the throughput; all when empty
	observer          string   // binary: the agent with a hook
	nodes             int      // that rotate on a cluster; 0: by quick
	epoch             time.Duration

	speakers *speakers // the fleet that sections share; nil until one asks for it
	results  results
}

func (b *bench) note(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		if err := runBare(context.Background(), os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, "bench bare:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := execute(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func commas(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

// section is one part of the run, by the name that --only takes.
type section struct {
	name string
	run  func(context.Context) error
}

func (b *bench) sections() []section {
	return []section{
		{"throughput", b.throughput},
		{"four", b.four},
		{"overload", b.overloaded},
		{"seal", b.seals},
		{"size", b.lengths},
		{"growth", b.growth},
		{"rotation", b.rotation},
		{"rotating", b.rotating},
		{"agents", b.agentsAtRest},
		{"broadcast", b.broadcasts},
		{"quarantine", b.quarantines},
		{"judging", b.judging},
		{"lossy", b.lossy},
	}
}

func execute(ctx context.Context) error {
	b := &bench{}
	var only, out, dir string
	flag.BoolVar(&b.quick, "quick", false, "under three minutes: one round, shorter cells, fewer of everything")
	flag.StringVar(&only, "only", "", "sections to run, with commas; all when empty")
	flag.StringVar(&out, "out", "bench.json", "where the results go")
	flag.StringVar(&dir, "dir", "", "a folder on the disk to be measured; a temporary one when empty")
	flag.StringVar(&b.program, "quorate", "bin/quorate", "the program")
	flag.StringVar(&b.etcdLoad, "etcdload", "bin/etcdload", "etcd's load generator")
	flag.StringVar(&b.observer, "observer", "bin/observer", "the agent that says what it sees")
	flag.DurationVar(&b.each, "each", 0, "the counted time of a cell; 0: by --quick")
	flag.IntVar(&b.nodes, "nodes", 0, "nodes of the section rotating; 0: by --quick")
	flag.DurationVar(&b.epoch, "epoch", 0, "the epoch of the section rotating; 0: by --quick")
	flag.IntVar(&b.size, "size", 3072, "bytes of a record's text and of an etcd value")
	flag.StringVar(&b.profiles, "profiles", "", "a folder for CPU profiles of each cell's replicas")
	if len(os.Args) > 1 && os.Args[1] == lossyCommand {
		if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
			return err
		}
		return b.within(ctx)
	}
	systems := flag.String("systems", "", "systems of the throughput, with commas; all when empty")
	clients := flag.String("clients", "", "numbers of clients, with commas")
	flag.Parse()
	b.systems = commas(*systems)
	for _, n := range commas(*clients) {
		v, err := strconv.Atoi(n)
		if err != nil {
			return fmt.Errorf("--clients: %w", err)
		}
		b.clients = append(b.clients, v)
	}
	if len(b.clients) == 0 {
		b.clients = []int{1, 16, 64, 256}
	}
	b.rounds, b.warm = 3, 500*time.Millisecond
	standard := 4 * time.Second
	if b.quick {
		b.rounds, standard = 1, 2*time.Second
	}
	if b.each <= 0 {
		b.each = standard
	}
	var err error
	if b.dir, err = os.MkdirTemp(dir, "quorate-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.results.begin(b)
	failed := b.runSections(ctx, commas(only))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.results.Seconds = time.Since(b.results.Began).Seconds()
	fmt.Print(b.results.table())
	return errors.Join(append(failed, b.results.write(out))...)
}

// runSections runs those that are named, or all. One that fails does not hide what
// the others measure: it is named at the end, and the program fails.
func (b *bench) runSections(ctx context.Context, names []string) (failed []error) {
	for _, name := range names {
		if !slices.ContainsFunc(b.sections(), func(s section) bool { return s.name == name }) {
			return []error{fmt.Errorf("--only: there is no section %q", name)}
		}
	}
	for _, s := range b.sections() {
		if len(names) > 0 && !slices.Contains(names, s.name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		if err := s.run(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			b.note("== %s FAILED: %v", s.name, err)
			continue
		}
		b.note("== %s: %.0f s", s.name, time.Since(began).Seconds())
	}
	if err := b.speakers.stop(); err != nil {
		failed = append(failed, fmt.Errorf("the fleet: %w", err))
	}
	return failed
}
