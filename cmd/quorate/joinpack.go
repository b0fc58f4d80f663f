package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/gossip/agent"
)

// joinPackCommand makes what a new agent starts from. That its head is recent is
// the word of whoever makes the pack: the council's endorsement of heads is not
// built yet.
func (a *app) joinPackCommand() *cobra.Command {
	var server serverFlags
	var out string
	c := &cobra.Command{
		Use:   "join-pack --out FILE",
		Short: "write what a new agent starts from: the genesis hash and a recent head",
		Long: `join-pack verifies the newest certified head from the genesis hash and writes both
into a file for quorate agent init --join-pack. The genesis hash proves authority
and not recency: an agent that starts from it alone could be shown an old ledger
in which replicas that were removed still certify. An agent that starts from a
pack accepts no ledger that has not reached the pack's head. That the head is
recent is the word of whoever makes the pack and hands it over.`,
		Example: "  quorate join-pack --out fleet.pack --server https://r1.example:8100 --genesis genesis",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("say --out FILE", "the output file is missing")
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				head, err := l.Sync(ctx)
				if err != nil {
					return err
				}
				pack := agent.JoinPack{Genesis: l.genesis, Head: string(head.Note)}
				data, err := pack.Encode()
				if err != nil {
					return fmt.Errorf("encode join pack: %w", err)
				}
				if err := writeNew(out, data, 0o644); err != nil {
					return err
				}
				return a.print(map[string]any{"out": out, "ledger": l.genesis.String(), "size": head.Size, "root": head.Root.String(), "signed": head.Signed}, func(w io.Writer) {
					fmt.Fprintf(w, "wrote %s: ledger %s\n  words   %s\n  head    size %d, last signed %s\n", out, l.genesis, wordsOf(l.genesis), head.Size,
						time.Unix(int64(head.Signed), 0).UTC().Format("2006-01-02 15:04:05 UTC"))
					fmt.Fprintf(w, "next: quorate agent init NAME --operator OPERATOR --join-pack %s; compare the words with another governor\n", out)
				})
			})
		},
	}
	server.add(c.Flags())
	c.Flags().StringVar(&out, "out", "", "the file to write")
	return c
}
