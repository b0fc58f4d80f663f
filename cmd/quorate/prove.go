package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
)

func (a *app) proveCommand() *cobra.Command {
	var server serverFlags
	var out string
	var withKey bool
	c := &cobra.Command{
		Use:   "prove SEQ | prove node NAME | prove key ID | prove record KEY",
		Short: "write a proof that others check offline",
		Long: `prove SEQ writes a C2SP .tlog-proof of an entry; prove node NAME a proof of the
node's standing, or that there is no such node; prove key ID a proof of how a key
stands, beside that of a statement under it; prove record KEY the same of any
record of the state. With --key the proof of a statement's entry says how its key
stands now, so that one file shows that it was its holder's word. Each carries the authority chain, so that
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
				data, what, err := l.prove(ctx, args, withKey)
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
	c.Flags().BoolVar(&withKey, "key", false, "of SEQ, a statement: prove how its key stands, too")
	return c
}

// prove makes a proof file and says what it proves. It is checked here before
// it is written, so that a bad one is found while a server can still be asked.
func (l *link) prove(ctx context.Context, args []string, withKey bool) (data []byte, what string, err error) {
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
		what := "entry " + args[0]
		if withKey {
			if what, err = l.addKey(ctx, proof); err != nil {
				return nil, "", err
			}
		}
		found, err := proof.Verify(l.genesis)
		if err != nil {
			return nil, "", refused("ask another server", "the server's proof is wrong: %w", err)
		}
		if _, err := audit.CheckKey(found); err != nil {
			return nil, "", refused("leave --key out to prove that the ledger has the entry", "entry %s is on the ledger, and not its holder's word: %w", args[0], err)
		}
		data, err = proof.Encode()
		return data, what, err
	}
	if withKey {
		return nil, "", usage("quorate prove SEQ --key", "--key is of an entry that is a statement")
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

// addKey adds to the proof of a statement's entry how the key stands that it names.
func (l *link) addKey(ctx context.Context, proof *ledger.EntryProof) (what string, err error) {
	e, err := ledger.ParseEntry(proof.Entry)
	if err != nil {
		return "", err
	}
	if e.Kind != ledger.KindStatement {
		return "", usage("leave --key out", "entry %d is no statement, and names no key", e.Seq)
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return "", err
	}
	key, err := l.ProveState(ctx, ledger.KeyRecordPrefix+st.KeyID.String())
	if err != nil {
		return "", err
	}
	proof.With(key)
	return fmt.Sprintf("entry %d, and how its key stands", e.Seq), nil
}
