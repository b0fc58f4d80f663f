package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
)

func (a *app) proveCommand() *cobra.Command {
	var server serverFlags
	var out string
	c := &cobra.Command{
		Use:   "prove SEQ | prove node NAME | prove key ID | prove record KEY",
		Short: "write a proof that others check offline",
		Long: `prove SEQ writes a C2SP .tlog-proof of an entry; prove node NAME a proof of the
node's standing, or that there is no such node; prove key ID a proof of how a key
stands, beside that of a statement under it; prove record KEY the same of any
record of the state. Each carries the authority chain, so that
quorate verify FILE --genesis HEX needs nothing else.`,
		Example: "  quorate prove 17 --out 17.tlog-proof\n  quorate prove node edge-7 --out edge-7.proof",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 2 && (args[0] == "node" || args[0] == "key" || args[0] == "record") {
				return nil
			}
			return usage("usage: "+c.UseLine(), "say what to prove")
		},
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return usage("say --out FILE", "the output file is missing")
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				data, what, err := l.prove(ctx, args)
				if err != nil {
					return err
				}
				if err := writeNew(out, data, 0o644); err != nil {
					return err
				}
				return a.print(map[string]any{"out": out, "proves": what}, func(w io.Writer) {
					fmt.Fprintf(w, "wrote %s, which proves %s\nnext: quorate verify %s --genesis %s\n", out, what, out, l.genesis)
				})
			})
		},
	}
	server.add(c.Flags())
	c.Flags().StringVar(&out, "out", "", "the file to write")
	return c
}

// prove makes a proof file and says what it proves. It is checked here before
// it is written, so that a bad one is found while a server can still be asked.
func (l *link) prove(ctx context.Context, args []string) (data []byte, what string, err error) {
	if len(args) == 1 {
		seq, err := strconv.ParseUint(args[0], 10, 53)
		if err != nil {
			return nil, "", usage("give the seq of an entry, or node NAME", "%q is no seq", args[0])
		}
		if err := l.reach(ctx, seq); err != nil {
			return nil, "", err
		}
		proof, err := l.ProveEntry(ctx, seq)
		if err != nil {
			return nil, "", err
		}
		if _, err := proof.Verify(l.genesis); err != nil {
			return nil, "", refused("ask another server", "the server's proof is wrong: %w", err)
		}
		data, err = proof.Encode()
		return data, "entry " + args[0], err
	}
	key := args[1]
	if args[0] == "node" {
		if err := ledger.ValidName(args[1]); err != nil {
			return nil, "", usage("give a node's name", "%w", err)
		}
		key = "node/" + args[1]
	}
	if args[0] == "key" {
		id, err := ledger.ParseHash(strings.ToLower(args[1]))
		if err != nil {
			return nil, "", usage("quorate explain key shows whole ids", "%q is no key id of 64 hex digits", args[1])
		}
		key = "key/" + id.String()
	}
	proof, err := l.ProveState(ctx, key)
	if err != nil {
		return nil, "", err
	}
	report, err := proof.Verify(l.genesis)
	if err != nil {
		return nil, "", refused("ask another server", "the server's proof is wrong: %w", err)
	}
	what = fmt.Sprintf("the record %s at size %d", key, report.Head.Size)
	if report.Value == nil {
		what = fmt.Sprintf("that there is no record %s at size %d", key, report.Head.Size)
	}
	data, err = proof.Encode()
	return data, what, err
}
