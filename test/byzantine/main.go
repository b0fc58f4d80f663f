// Command byzantine stages what one replica with legitimate keys can do to the
// three others, to their clients and to their auditors: real processes, one
// ledger for each lie. It prints what each did, and exits 1 when any lie got
// more than DESIGN.md says.
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
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var chosen []stage
	for _, s := range stages {
		if strings.Contains(s.name, *only) {
			chosen = append(chosen, s)
		}
	}
	if !attack(ctx, os.Stdout, options{bin: *bin, keep: *keep}, chosen) {
		fmt.Fprintln(os.Stderr, "byzantine: FAILED")
		os.Exit(1)
	}
}
