// Command byzantine stages what one replica with legitimate keys can do to the
// three others, to their clients and to their auditors, and what nodes with
// legitimate keys can do to the fleet: real processes, one ledger for each lie
// or attack. It prints what each did, and exits 1 when any got more than
// DESIGN.md says.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	bin := flag.String("bin", "bin", "where the programs quorate and liar are")
	only := flag.String("only", "", "only the stages whose name contains this")
	keep := flag.Bool("keep", false, "keep each stage's directory")
	quiet := flag.Bool("quiet", false, "do not show the replicas' logs of an attack by nodes that failed")
	nodes := flag.Int("nodes", 1, "nodes of each of ten operators, where agents run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var chosen []stage
	for _, s := range stages {
		if strings.Contains(s.name, *only) {
			chosen = append(chosen, s)
		}
	}
	var byNodes []nodeStage
	for _, s := range nodeStages {
		if strings.Contains(s.name, *only) {
			byNodes = append(byNodes, s)
		}
	}
	o := options{bin: *bin, keep: *keep, quiet: *quiet, nodes: *nodes}
	good := len(chosen)+len(byNodes) > 0
	if len(chosen) > 0 {
		good = attack(ctx, os.Stdout, o, chosen)
	}
	if len(byNodes) > 0 {
		good = attackByNodes(ctx, os.Stdout, o, byNodes) && good
	}
	if !good {
		fmt.Fprintln(os.Stderr, "byzantine: FAILED")
		os.Exit(1)
	}
}
