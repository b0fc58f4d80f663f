package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

type keyShareFlags struct {
	sign   signFlags
	server serverFlags
	asker  string
	out    string
	yes    bool
}

func (a *app) keyShareCommand() *cobra.Command {
	var f keyShareFlags
	c := &cobra.Command{
		Use:   "share REQUEST.cose --key FILE --out FILE.share.age",
		Short: "answer a request for your share of a backup, after showing it; needs no network",
		Long: `share verifies who asks, shows for whose key, on which ledger, for what and until
when, and asks. Then it opens your share, which is in the request, and seals it to
the recipient of the request alone. It writes nothing else.

Compare the twelve words with whoever asks, by another way than the file came: they
are of the recipient that your share is sealed to.

Who asks is verified by the council that this machine knows: of the trust folder that
earlier commands kept (with --genesis), of a server, or by --asker PUBLIC.pub.`,
		Example: "  quorate key share bob.request.cose --key bob.key --genesis genesis --out bob.share.age",
		Args:    exactArgs("REQUEST.cose"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.out == "" {
				return usage("say --out FILE.share.age", "the output file is missing")
			}
			return a.shareFor(c.Context(), args[0], &f)
		},
	}
	f.sign.addKey(c.Flags(), "your key file (or QUORATE_KEY)")
	f.server.add(c.Flags())
	c.Flags().StringVar(&f.asker, "asker", "", "the public file of the governor who asks, if you have it from its owner")
	c.Flags().StringVar(&f.out, "out", "", "the answer's file to write")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "answer without asking")
	return c
}

func (a *app) shareFor(ctx context.Context, path string, f *keyShareFlags) error {
	raw, err := readBounded(path, keys.MaxEnvelope)
	if err != nil {
		return refused("check the path", "read %s: %w", path, err)
	}
	request, err := keys.ParseShareRequest(raw)
	if err != nil {
		return refused("ask whoever sent it again: quorate key restore writes requests", "%s is no request for a share: %w", path, err)
	}
	if exists(f.out) {
		return refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.out)
	}
	by, err := a.verifyAsker(ctx, request, f)
	if err != nil {
		return err
	}
	now := uint64(a.now().UnixMilli())
	if request.Expires <= now {
		return refused("ask for a new request", "the request could be answered until %s", moment(request.Expires))
	}
	author, err := a.governor(ctx, &f.sign)
	if err != nil {
		return err
	}
	defer author.close()
	if author.Name != request.Holder {
		return refused("give the request to "+clean(request.Holder), "the request asks %s for a share, and the key is %s's", clean(request.Holder), author.Name)
	}
	if author.unwrapper == nil {
		return refused("use the key file or signer that holds it", "the key of %s holds no age identity, so it opens no share", author.Name)
	}
	if ok, err := a.agreeTo(func(w io.Writer) { requestText(w, request, by) }, "Give your share as "+author.Name+"?", f.yes); err != nil || !ok {
		return err
	}
	answer, err := request.Answer(ctx, author.unwrapper)
	if err != nil {
		return refused("ask whoever sent it: the request does not fit your share", "%s: %w", path, err)
	}
	if err := writeNew(f.out, answer, 0o600); err != nil {
		return err
	}
	return a.print(map[string]any{"out": f.out, "holder": request.Holder, "for": request.Author, "key": request.Key.String()}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s, which only %s's restoring can open\nnext: send it to %s\n", f.out, clean(request.Author), clean(request.Author))
	})
}

func requestText(w io.Writer, r *keys.SignedRequest, by string) {
	what := "to restore it"
	if r.Purpose == keys.TestPurpose {
		what = "to test that the backup opens (who asks could keep the key: a share that is given is given)"
	}
	fmt.Fprintf(w, "request for a share\n")
	fmt.Fprintf(w, "  asked by %s (%s)\n", clean(r.Author), by)
	fmt.Fprintf(w, "  of key   %s, of %s\n", r.Key, clean(r.Name))
	fmt.Fprintf(w, "  purpose  %s\n", what)
	fmt.Fprintf(w, "  ledger   %s generation %d\n", ledger.Hash(r.Ledger), r.Generation)
	fmt.Fprintf(w, "  until    %s\n", moment(r.Expires))
	fmt.Fprintf(w, "  words    %s\n", r.Words())
}

// verifyAsker verifies the request's signature by whatever this machine knows of
// the council, and says by what.
func (a *app) verifyAsker(ctx context.Context, r *keys.SignedRequest, f *keyShareFlags) (string, error) {
	stranger := func(what string) error {
		return refused("do not answer it; ask whoever sent it, by another way", "the request is not signed by %s: %s", clean(r.Author), what)
	}
	if f.asker != "" {
		public, err := keys.ReadPublicFile(f.asker)
		if err != nil {
			return "", err
		}
		key, err := public.Key()
		if err != nil {
			return "", err
		}
		if public.Name != r.Author || public.Role != fsm.RoleGovernor || !r.Verify(key) {
			return "", stranger(fmt.Sprintf("%s is of the %s %s, key %s…", f.asker, public.Role, public.Name, public.KeyID[:16]))
		}
		return "the signature is verified by " + f.asker, nil
	}
	if len(a.servers(&f.server)) > 0 && a.getenv("QUORATE_GENESIS") == "" {
		f.server.genesis = orText(f.server.genesis, ledger.Hash(r.Ledger).String())
	}
	council, source, err := a.councilKnown(ctx, r, &f.server)
	if err != nil {
		return "", err
	}
	for _, m := range council {
		if m.Name != r.Author {
			continue
		}
		key, err := keys.ParsePublicKey(m.Public)
		if err != nil {
			return "", err
		}
		if !r.Verify(key) {
			return "", stranger(fmt.Sprintf("the council has key %s… for that name (%s)", key.ID().String()[:16], source))
		}
		return fmt.Sprintf("governor of %s; the signature is verified by %s", m.Operator, source), nil
	}
	return "", stranger("no governor has that name (" + source + ")")
}

// councilKnown is the council that a server proves, or that the trust folder has.
func (a *app) councilKnown(ctx context.Context, r *keys.SignedRequest, f *serverFlags) (council []ledger.AuthorityMember, source string, err error) {
	if len(a.servers(f)) > 0 {
		err = a.withServerContext(ctx, f, func(ctx context.Context, l *link) error {
			if l.genesis != ledger.Hash(r.Ledger) {
				return refused("answer it where that ledger is known", "the request is for ledger %s, not %s", ledger.Hash(r.Ledger), l.genesis)
			}
			members, head, err := l.VerifiedCouncil(ctx)
			if err == nil {
				council, source = members, fmt.Sprintf("the certified head of size %d", head.Size)
			}
			return err
		})
		return council, source, err
	}
	genesis, err := a.readGenesis(f.genesis)
	if err != nil {
		return nil, "", err
	}
	if genesis == nil {
		return nil, "", usage("say --genesis FILE where this machine's trust folder knows the ledger, --server URL, or --asker PUBLIC.pub", "nothing says who the council is, so the request could be anybody's")
	}
	if genesis.hash != ledger.Hash(r.Ledger) {
		return nil, "", refused("answer it where that ledger is known", "the request is for ledger %s, not %s", ledger.Hash(r.Ledger), genesis.hash)
	}
	chain, err := trustedChain(a.trustDir(f.trustDir), genesis.hash)
	if err != nil {
		return nil, "", err
	}
	return chain.Latest.Council, fmt.Sprintf("authority %d of the trust folder", chain.Latest.Index), nil
}

// maxTrustLinks bounds the links that are read of a trust folder.
const maxTrustLinks = 1 << 16

// trustedChain reads the authority chain that earlier commands verified and kept,
// and verifies it again.
func trustedChain(trustDir string, genesis ledger.Hash) (*ledger.Chain, error) {
	none := func(err error) error {
		return refused("run quorate status --server URL once on this machine, or say --asker PUBLIC.pub", "the trust folder knows nothing of ledger %s…: %w", genesis.String()[:16], err)
	}
	if trustDir == "" {
		return nil, none(os.ErrNotExist)
	}
	var links []*ledger.Link
	for n := range maxTrustLinks {
		raw, err := readBounded(filepath.Join(trustDir, genesis.String(), strconv.Itoa(n)+".json"), ledger.MaxProofFileBytes)
		if err != nil {
			if n == 0 {
				return nil, none(err)
			}
			break
		}
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil, none(err)
		}
		links = append(links, link)
	}
	chain, err := ledger.WalkChain(genesis, links)
	if err != nil {
		return nil, none(err)
	}
	return chain, nil
}
