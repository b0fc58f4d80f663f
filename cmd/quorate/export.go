package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/quorate/quorate/ledger/audit"
)

func (a *app) exportCommand() *cobra.Command {
	var server serverFlags
	var out string
	var decisions bool
	c := &cobra.Command{
		Use:     "export --out PATH",
		Short:   "take the whole ledger away, to verify it offline",
		Long:    "export writes the certified ledger to a directory, or to an archive when PATH ends\nin .tar.zst. What it fetches it checks against the certified head.",
		Example: "  quorate export --out ledger.tar.zst --server https://r1.example:8100 --genesis genesis.cbor",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("say --out DIR or --out FILE.tar.zst", "the output path is missing")
			}
			l, err := a.connect(c.Context(), &server)
			if err != nil {
				return err
			}
			defer l.Close()
			report, err := audit.Export(c.Context(), l, out, audit.ExportOptions{Genesis: l.genesis, Decisions: decisions, Progress: a.progress("exporting")})
			if err != nil {
				return l.explain(err)
			}
			return a.print(report, func(w io.Writer) {
				fmt.Fprintf(w, "wrote %s: %s, %d entries, %d links of authority, %d files\n", report.Path, report.Origin, report.Size, report.Links, report.Files)
				fmt.Fprintf(w, "next: quorate verify %s --genesis %s\n", report.Path, l.genesis)
			})
		},
	}
	server.add(c.Flags())
	_ = c.Flags().MarkHidden("timeout") // this takes as long as it takes
	c.Flags().StringVar(&out, "out", "", "a directory, or an archive that ends in .tar.zst")
	c.Flags().BoolVar(&decisions, "decisions", false, "also write a proof file for each decision")
	return c
}

// progress draws a bar on a terminal; elsewhere it is nil.
func (a *app) progress(what string) func(done, total uint64) {
	f, ok := a.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	const width = 40
	shown := -1
	return func(done, total uint64) {
		cells := width
		if total > 0 {
			cells = int(done * width / total)
		}
		if cells == shown && done != total {
			return
		}
		shown = cells
		bar := make([]byte, width)
		for i := range bar {
			bar[i] = ' '
			if i < cells {
				bar[i] = '='
			}
		}
		fmt.Fprintf(f, "\r%s [%s] %d/%d", what, bar, done, total)
		if done == total {
			fmt.Fprintln(f)
		}
	}
}

// auditorCommands are what an auditor uses.
func (a *app) auditorCommands() []*cobra.Command {
	return []*cobra.Command{a.exportCommand(), a.verifyCommand(), a.proveCommand()}
}
