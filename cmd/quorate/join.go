package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

func (a *app) joinCommand() *cobra.Command {
	var server serverFlags
	var key, passphraseFile, operator, out string
	var generation uint64
	c := &cobra.Command{
		Use:   "join --key NODE.key --out FILE",
		Short: "make a node's statement that it asks to be admitted",
		Long: `join signs, with the node's own key, the statement that node.admit names. It
binds the node's name, operator and peer key to that key. The node needs no
network; a governor bundles the file beside the proposal.`,
		Example: "  quorate join --key edge-7.key --genesis genesis --out joins/edge-7.cose",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			trusted, err := a.requireGenesis(server.genesis)
			if err != nil {
				return err
			}
			if out == "" {
				return usage("say --out FILE.cose", "the output file is missing")
			}
			file, err := a.readKey(key, passphraseFile)
			if err != nil {
				return err
			}
			defer file.Wipe()
			if file.Role != fsm.RoleNode {
				return usage("make one with quorate keygen node NAME", "%s is the key of a %s, not of a node", key, file.Role)
			}
			if operator != "" && operator != file.Operator {
				return usage("leave --operator out, or make a key for that operator", "the key file belongs to operator %s, not %s", file.Operator, operator)
			}
			envelope, err := a.signJoin(file, spot{genesis: trusted.hash, generation: generation})
			if err != nil {
				return err
			}
			if err := writeStatements(out, [][]byte{envelope}); err != nil {
				return err
			}
			s, err := ledger.ParseStatement(envelope)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"id": s.ID.String(), "name": file.Name, "operator": file.Operator, "out": out,
				"key": file.Key.ID().String(), "words": file.Key.ID().Words()}, func(w io.Writer) {
				fmt.Fprintf(w, "join of %s of %s: %s\n  key words %s\n  wrote %s\n", file.Name, file.Operator, s.ID, file.Key.ID().Words(), out)
			})
		},
	}
	server.addGenesis(c.Flags())
	c.Flags().StringVar(&key, "key", "", "the node's key file (or QUORATE_KEY)")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "read its passphrase from this file")
	c.Flags().StringVar(&operator, "operator", "", "the operator to join under; must be the key file's")
	c.Flags().StringVar(&out, "out", "", "the file to write")
	c.Flags().Uint64Var(&generation, "generation", 0, "the ledger's generation, after a recovery")
	return c
}

func (a *app) recordCommand() *cobra.Command {
	var sign signFlags
	var server serverFlags
	var file, text, name, media string
	c := &cobra.Command{
		Use:     "record --file F | --text T",
		Short:   "put a signed note or a document's digest on the ledger",
		Long:    "record changes no state. Of a file only its SHA-256, name and media type go on\nthe ledger; keep the file.",
		Example: "  quorate record --file audit-2026.pdf --media application/pdf\n  quorate record --text \"handover call held\" --wait certified",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if (file == "") == (text == "") {
				return usage("say --file F or --text T", "want a file or a text, and not both")
			}
			body, err := recordBody(file, text, name, media)
			if err != nil {
				return err
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				envelope, err := a.signRecord(ctx, l, body, &sign)
				if err != nil {
					return err
				}
				if sign.out != "" {
					if err := writeStatements(sign.out, [][]byte{envelope}); err != nil {
						return err
					}
					return a.print(map[string]any{"out": sign.out}, func(w io.Writer) { fmt.Fprintf(w, "wrote %s\n", sign.out) })
				}
				answer, err := a.submitAll(ctx, l, [][]byte{envelope}, sign.wait)
				if err != nil {
					return err
				}
				return a.print(answer, answer.text)
			})
		},
	}
	sign.add(c.Flags())
	server.add(c.Flags())
	c.Flags().StringVar(&file, "file", "", "record the digest of this file")
	c.Flags().StringVar(&text, "text", "", "record this text")
	c.Flags().StringVar(&name, "name", "", "the document's name (default: the file's)")
	c.Flags().StringVar(&media, "media", "", "its media type")
	return c
}

// signRecord signs a record as its author's role demands: governors with a
// nonce, nodes and replicas with epoch and seq.
func (a *app) signRecord(ctx context.Context, l *link, body *ledger.Record, f *signFlags) ([]byte, error) {
	key, err := a.author(ctx, f)
	if err != nil {
		return nil, err
	}
	defer key.close()
	if err := key.seated(ctx, l); err != nil {
		return nil, err
	}
	status, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	p := spot{genesis: l.genesis, generation: status.Generation}.payload(key.Name, ledger.TypeRecord)
	switch key.Role {
	case fsm.RoleGovernor:
		p = a.withNonce(p)
	case fsm.RoleNode, fsm.RoleReplica:
		if p.Epoch, p.Seq, err = l.nextSeq(ctx, key.Name); err != nil {
			return nil, err
		}
	default:
		return nil, usage("sign with the key of a governor, node or replica", "a %s makes no records", key.Role)
	}
	return key.sign(ctx, p, body, "record "+orText(body.Text, body.Name))
}

// nextSeq is the seq after the last one that the ledger has of an author in
// this epoch. A node whose agent runs must not be signed for by hand: two
// statements under one epoch and seq convict it.
func (l *link) nextSeq(ctx context.Context, name string) (epoch, seq *uint64, err error) {
	current, err := l.CurrentEpoch(ctx, client.Read{Consistency: client.Linearizable})
	if err != nil {
		return nil, nil, err
	}
	window, err := provenRecord[fsm.WindowRecord](ctx, l, "window/"+name)
	if err != nil {
		return nil, nil, err
	}
	next := uint64(0)
	if window != nil && window.Epoch == current.Epoch {
		next = window.Top + 1
	}
	return &current.Epoch, &next, nil
}
