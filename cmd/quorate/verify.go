package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
)

type verifyFlags struct {
	server  serverFlags // only its genesis
	atLeast string
	export  string
	json    bool
	workers int
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify PATH --genesis HEX",
		Short: "verify an export or a proof file offline; exit 0 or 1",
		Long: `verify proves an export (a directory or .tar.zst) from the genesis hash alone:
every link of the chain, leaf, root, cosignature quorum and statement signature;
then it replays the whole log through the rules and derives every effect and
state digest again. The first bad entry is named, and the exit code is 1.

A .tlog-proof, a state proof or a transparent statement is verified the same way.
With --export a statement alone (.cose), caught anywhere, is judged too: by its
signature, and by how its key stands at the export's end. Under a key that is
revoked from an epoch on, what bears that epoch or a later one is refused.

Genesis proves authority, not recency: an old export verifies too. The report
says "complete to size N, last signed T"; --at-least CHECKPOINT refuses an export
that does not reach a head that you know.`,
		Example: "  quorate verify ledger.tar.zst --genesis genesis --at-least head.txt\n  quorate verify 17.tlog-proof --genesis $(cat genesis)\n  quorate verify caught.cose --export ledger.tar.zst --genesis genesis",
		Args:    exactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.json {
				a.output = "json"
			}
			trusted, err := a.requireGenesis(f.server.genesis)
			if err != nil {
				return err
			}
			whole, err := isExport(args[0])
			if err != nil {
				return usage("check the path", "verify %s: %w", args[0], causeOf(err))
			}
			if whole {
				return a.verifyExport(c, args[0], trusted.hash, &f)
			}
			return a.verifyFile(c, args[0], trusted.hash, &f)
		},
	}
	f.server.addGenesis(c.Flags())
	c.Flags().StringVar(&f.atLeast, "at-least", "", "a checkpoint that the export must extend")
	c.Flags().StringVar(&f.export, "export", "", "the export that a statement is judged by, or that a transparent statement belongs to")
	c.Flags().BoolVar(&f.json, "json", false, "the report as JSON; the same as --output json")
	c.Flags().IntVar(&f.workers, "workers", 0, "how many cores to use (default: all)")
	return c
}

// zstdMagic begins every zstd frame (RFC 8878 section 3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// isExport says whether path is an export rather than a proof file.
func isExport(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	begin := make([]byte, len(zstdMagic))
	_, err = io.ReadFull(f, begin)
	return err == nil && bytes.Equal(begin, zstdMagic), nil
}

func (a *app) verifyExport(c *cobra.Command, path string, genesis ledger.Hash, f *verifyFlags) error {
	options := audit.Options{Genesis: genesis, Workers: f.workers, Progress: a.progress("verifying")}
	if f.atLeast != "" {
		var err error
		if options.AtLeast, err = readBounded(f.atLeast, ledger.MaxCheckpointBytes); err != nil {
			return usage("check --at-least", "read %s: %w", f.atLeast, err)
		}
	}
	report, err := audit.Verify(c.Context(), path, options)
	if report == nil {
		return err
	}
	return a.verified(report, report.Text(), err, "do not rely on it; export again from another server and compare")
}

func (a *app) verifyFile(c *cobra.Command, path string, genesis ledger.Hash, f *verifyFlags) error {
	if f.atLeast != "" {
		return usage("verify an export to prove that it extends a head", "--at-least is for exports: a proof file holds no consistency proof")
	}
	report, err := audit.VerifyFile(c.Context(), path, audit.FileOptions{Genesis: genesis, Export: f.export, Workers: f.workers})
	if errors.Is(err, audit.ErrNoExport) {
		return usage("quorate export --out DIR takes the ledger away; then say --export DIR", "%w", err)
	}
	if report == nil {
		return err
	}
	return a.verified(report, report.Text(), err, "do not rely on it; ask for another proof")
}

// verified prints a report, and fails if what it is about is bad.
func (a *app) verified(report any, text string, err error, next string) error {
	printed := a.print(report, func(w io.Writer) {
		for line := range bytes.Lines([]byte(text)) {
			fmt.Fprintln(w, clean(string(bytes.TrimSuffix(line, []byte("\n")))))
		}
	})
	var bad *audit.BadError
	if errors.As(err, &bad) {
		return refused(next, "verification failed: %w", bad)
	}
	return errors.Join(err, printed)
}
