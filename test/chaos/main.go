// Chaos runs real replicas in network namespaces that it makes itself, hurts
// them, and checks what clients were told against what is on the ledger.
// DESIGN.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/test/spacetest"
)

// options are what a run is told.
type options struct {
	program string        // bin/quorate
	replica string        // bin/chaos-replica: the same server with faults on demand
	older   string        // an earlier quorate, for upgrades; "" skips them
	last    time.Duration // of random nemeses; 0: the short run
	seed    uint64
	only    string

	founded int  // clusters so far
	behind  bool // the earlier quorate speaks an earlier format
}

func main() {
	var o options
	var list bool
	flag.StringVar(&o.program, "program", "bin/quorate", "the quorate to run")
	flag.StringVar(&o.replica, "replica", "bin/chaos-replica", "the replica with faults on demand")
	flag.StringVar(&o.older, "older", "", "an earlier quorate, for the rolling upgrade")
	flag.DurationVar(&o.last, "last", 0, "random nemeses for so long; 0: the short run, then the planted bugs")
	flag.Uint64Var(&o.seed, "seed", 0, "of all chance; 0: a new one")
	flag.StringVar(&o.only, "only", "", "only these nemeses and planted bugs, with commas")
	flag.BoolVar(&list, "list", false, "list the nemeses and the planted bugs")
	flag.Parse()
	if list {
		for _, n := range nemeses {
			fmt.Printf("%2d %-16s %s\n", n.number, n.name, n.what)
		}
		for _, b := range bugs {
			fmt.Printf("   %-16s %s\n", b.name, b.what)
		}
		return
	}
	if err := o.compare(); err != nil {
		fmt.Printf("chaos: %v\n", err)
		os.Exit(1)
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()%1_000_000 + 1
	}
	dir, inside := spacetest.Inside()
	if !inside {
		os.Exit(outside(o.seed))
	}
	run, err := spacetest.Furnish(dir)
	if err = errors.Join(err, spacetest.Hub()); err != nil {
		fmt.Printf("chaos: SKIPPED: this machine lacks something that the namespaces need: %v\n", err)
		return
	}
	os.Exit(inNamespaces(&o, run))
}

// inNamespaces runs everything and says how it went.
func inNamespaces(o *options, dir string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fmt.Printf("chaos: seed %d\n", o.seed)
	began := time.Now()
	var failed []string
	if o.last > 0 {
		failed = randomRun(ctx, o, dir)
	} else {
		failed = shortRun(ctx, o, dir)
	}
	took := time.Since(began).Round(time.Second)
	if len(failed) > 0 {
		fmt.Printf("chaos: FAILED: %s (seed %d, %s)\n", strings.Join(failed, ", "), o.seed, took)
		return 1
	}
	fmt.Printf("chaos: everything held (seed %d, %s)\n", o.seed, took)
	return 0
}

// wanted says whether a nemesis or planted bug takes part.
func (o *options) wanted(name string) bool {
	if o.only == "" {
		return true
	}
	for one := range strings.SplitSeq(o.only, ",") {
		if one == name {
			return true
		}
	}
	return false
}

// The short run has these and drawn ones of the others; `make chaos` draws from
// all for as long as it is told.
var always = []string{"kill-leader", "kill-all", "pause-leader", "power-cut", "split"}

const drawn = 2

// shortList is what the short run does: what is asked for, or the above.
func shortList(o *options) (list []nemesis) {
	var others []nemesis
	for _, n := range nemeses {
		switch {
		case o.only != "" && o.wanted(n.name), o.only == "" && slices.Contains(always, n.name):
			list = append(list, n)
		case o.only == "" && (n.name != "upgrade" || o.older != ""):
			others = append(others, n)
		}
	}
	chance := rand.New(rand.NewPCG(o.seed, 2))
	chance.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return append(list, others[:min(drawn, len(others))]...)
}

// shortRun runs nemeses one after another on one cluster, and then each planted
// bug on a cluster of its own.
func shortRun(ctx context.Context, o *options, dir string) (failed []string) {
	list := shortList(o)
	if len(list) > 0 {
		failed = runNemeses(ctx, o, filepath.Join(dir, "main"), func(i int, _ *rand.Rand) *nemesis {
			if i < len(list) {
				return &list[i]
			}
			return nil
		})
	}
	for i, b := range bugs {
		if !o.wanted(b.name) {
			continue
		}
		began := time.Now()
		found, err := runBug(ctx, o, filepath.Join(dir, "bug-"+b.name), uint64(i), b)
		took := time.Since(began).Round(100 * time.Millisecond)
		var skip *skipError
		switch {
		case asSkip(err, &skip):
			fmt.Printf("   %-16s SKIPPED: %s\n", b.name, skip.why)
		case err != nil:
			fmt.Printf("   %-16s FAILED in %s: %v\n", b.name, took, err)
			failed = append(failed, b.name)
		case found == nil:
			fmt.Printf("   %-16s FAILED in %s: the checker did not notice the planted bug\n", b.name, took)
			failed = append(failed, b.name)
		case !b.verdict.MatchString(found.Error()):
			fmt.Printf("   %-16s FAILED in %s: noticed, but not as what it is (%s): %v\n", b.name, took, b.verdict, firstLine(found))
			failed = append(failed, b.name)
		default:
			fmt.Printf("   %-16s noticed in %s, as it must be: %v\n", b.name, took, firstLine(found))
		}
	}
	return failed
}

// randomRun draws nemeses until the time is over.
func randomRun(ctx context.Context, o *options, dir string) []string {
	end := time.Now().Add(o.last)
	return runNemeses(ctx, o, filepath.Join(dir, "main"), func(i int, chance *rand.Rand) *nemesis {
		if time.Now().After(end) {
			return nil
		}
		// What comes after it finds the newest format.
		if i == 0 && o.behind && o.wanted("upgrade") {
			return &nemeses[slices.IndexFunc(nemeses, func(n nemesis) bool { return n.name == "upgrade" })]
		}
		for {
			if n := &nemeses[chance.IntN(len(nemeses))]; o.wanted(n.name) {
				return n
			}
		}
	})
}

// runNemeses founds a cluster and lets one nemesis after another at it. It
// stops at the first that fails: what comes after would say nothing.
func runNemeses(ctx context.Context, o *options, dir string, next func(int, *rand.Rand) *nemesis) []string {
	chance := rand.New(rand.NewPCG(o.seed, 1))
	plan := clusterPlan{members: startMembers}
	if o.behind && o.wanted("upgrade") {
		plan.founder = o.older
	}
	c, err := foundCluster(ctx, o, dir, plan)
	if err != nil {
		fmt.Printf("chaos: found the ledger: %v\n", err)
		return []string{"found"}
	}
	defer c.close()
	for i := 0; ; i++ {
		n := next(i, chance)
		if n == nil {
			break
		}
		began := time.Now()
		report, err := c.endure(ctx, n, chance)
		took := time.Since(began).Round(100 * time.Millisecond)
		var skip *skipError
		switch {
		case err == nil:
			fmt.Printf("%2d %-16s held in %s: %s\n", n.number, n.name, took, report)
		case asSkip(err, &skip):
			fmt.Printf("%2d %-16s SKIPPED: %s\n", n.number, n.name, skip.why)
		default:
			fmt.Printf("%2d %-16s FAILED in %s: %v\n", n.number, n.name, took, err)
			c.keepLogs(o.seed)
			return []string{n.name}
		}
	}
	if err := c.finish(ctx); err != nil {
		fmt.Printf("   %-16s FAILED: %v\n", "the end", err)
		c.keepLogs(o.seed)
		return []string{"the end"}
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
