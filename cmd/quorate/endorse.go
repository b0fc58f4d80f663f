package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// oldHead is how long ago the replicas may have signed a head before endorsing it
// comes with a warning: newcomers take it for the present.
const oldHead = 24 * time.Hour

func (a *app) endorseCommand() *cobra.Command {
	var sign signFlags
	var server serverFlags
	c := &cobra.Command{
		Use:   "endorse PACK --key FILE --out NEW.pack",
		Short: "endorse a head for newcomers to start from, after showing it",
		Long: `endorse takes the file that quorate join-pack wrote, or one that other governors
endorsed. It verifies the authority chain and the head in it from the genesis hash,
shows the head, the council in force and who has endorsed it, and asks; then it
writes the file with your endorsement to --out. It needs no server.

You say by it that this head is on the ledger as you know it, now. Newcomers accept
no history without it, so do not sign a head that you have not seen yourself: with
--server it is compared with what a server shows, as far as your own trust folder
goes; without one, compare size and words with what quorate status says where you
have one.`,
		Example: "  quorate endorse head.pack --key alice.key --out alice.pack\n  quorate endorse alice.pack --key bob.key --out both.pack --server https://r1.example:8100",
		Args:    exactArgs("PACK"),
		RunE: func(c *cobra.Command, args []string) error {
			if sign.out == "" {
				return usage("say --out NEW.pack", "the output file is missing")
			}
			return a.endorse(c, args[0], &sign, &server)
		},
	}
	sign.addKey(c.Flags(), "the governor's key file (or QUORATE_KEY)")
	c.Flags().StringVar(&sign.out, "out", "", "the file to write")
	c.Flags().BoolVarP(&sign.yes, "yes", "y", false, "sign without asking")
	server.add(c.Flags())
	return c
}

func (a *app) endorse(c *cobra.Command, path string, f *signFlags, server *serverFlags) error {
	if server.atLeast != "" {
		return usage("leave it out", "--at-least is not for endorse: what a server shows must contain the head of %s", path)
	}
	pack, report, err := a.readPack(path, server)
	if err != nil {
		return err
	}
	compared := "with no server: compare size and words yourself"
	if len(a.servers(server)) > 0 {
		if compared, err = a.compareHead(c, pack, report, server); err != nil {
			return err
		}
	}
	key, err := a.governor(c.Context(), f)
	if err != nil {
		return err
	}
	defer key.close()
	at := slices.IndexFunc(report.Authority.Council, func(m ledger.AuthorityMember) bool {
		return m.Name == key.Name && m.KeyID() == ledger.Hash(key.keyID())
	})
	if key.Role != fsm.RoleGovernor || at < 0 {
		return refused("only governors of the council in force endorse", "%s is not in the council at size %d with this key", key.Name, report.Head.Size)
	}
	view := viewPack(pack, report)
	show := func(w io.Writer) {
		view.text(w)
		fmt.Fprintf(w, "  compared %s\n", compared)
		if age := a.now().Sub(time.UnixMilli(int64(view.Signed))); age > oldHead {
			fmt.Fprintf(w, "  WARNING  the replicas signed it %s ago: newcomers would start from the past\n", age.Round(time.Hour))
		}
	}
	if ok, err := a.agreeTo(show, "Endorse this head as "+key.Name+"?", f.yes); err != nil || !ok {
		return err
	}
	endorsement, err := ledger.EndorseWith(report.Authority.Branch(), key.Name, report.Head, uint64(a.now().UnixMilli()), func(message []byte) ([]byte, error) {
		return key.signer.Sign(c.Context(), keys.PurposeEndorsement, message,
			[]string{fmt.Sprintf("endorse the head of size %d", report.Head.Size), "root " + report.Head.Root.String(), "ledger " + report.Genesis.String()})
	})
	if err != nil {
		return err
	}
	pack.Add(endorsement)
	if report, err = pack.Check(report.Genesis); err != nil {
		return err
	}
	data, err := pack.Encode()
	if err != nil {
		return err
	}
	if err := writeNew(f.out, data, 0o644); err != nil {
		return err
	}
	view = viewPack(pack, report)
	view.Out = f.out
	return a.print(view, func(w io.Writer) {
		var by []signer
		for _, e := range view.By {
			by = append(by, e.signer)
		}
		fmt.Fprintf(w, "wrote %s, endorsed by %s\n", f.out, signersText(by))
		if view.Endorsed > 0 {
			fmt.Fprintf(w, "next: quorate join-pack %s --out fleet.pack\n", f.out)
			return
		}
		fmt.Fprintf(w, "next, by a governor of another operator: quorate endorse %s --key FILE --out NEW.pack\n", f.out)
	})
}

// compareHead checks that what a server shows, and this user verified before,
// contains the head.
func (a *app) compareHead(c *cobra.Command, pack *ledger.JoinPack, report *ledger.JoinPackReport, f *serverFlags) (string, error) {
	f.genesis, f.minHead = report.Genesis.String(), []byte(pack.Checkpoint)
	var compared string
	err := a.withServer(c, f, func(ctx context.Context, l *link) error {
		head, err := l.Sync(ctx)
		if err != nil {
			return refused("do not endorse it; ask whoever made the file, by another way", "the ledger that the server shows does not contain this head: %w", err)
		}
		compared = fmt.Sprintf("it is on the ledger that %s shows, of size %d now", l.Servers()[0], head.Size)
		return nil
	})
	return compared, err
}
