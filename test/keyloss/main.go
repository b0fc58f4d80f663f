// Command keyloss rehearses how keys are lost, stolen and come back: real
// processes and files, the commands that a person types, and what must be seen.
// It prints each story with PASS or FAIL, exports and verifies each ledger, alters
// the export, and searches everything that was written for every secret that was
// used. It exits 1 when anything was not as DESIGN.md says.
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
	bin := flag.String("bin", "bin", "where the program quorate is")
	only := flag.String("only", "", "only the stories of these letters, such as bdg")
	keep := flag.Bool("keep", false, "keep the directories")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var chosen []story
	for _, s := range stories {
		if *only == "" || strings.Contains(*only, s.letter) {
			chosen = append(chosen, s)
		}
	}
	if !rehearse(ctx, os.Stdout, options{bin: *bin, keep: *keep}, chosen) {
		fmt.Fprintln(os.Stderr, "keyloss: FAILED")
		os.Exit(1)
	}
}
