package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

type keyBackupFlags struct {
	key, passphraseFile string
	sign                signFlags
	server              serverFlags
	threshold           int
	holders, recipients []string
	generation          uint64
	out, statement      string
}

func (a *app) keyBackupCommand() *cobra.Command {
	var f keyBackupFlags
	c := &cobra.Command{
		Use:   "backup --key FILE --out FILE.backup",
		Short: "back a key up, so that K governors together can restore it",
		Long: `backup encrypts a key file and splits its file key: any K of the shares open it,
fewer tell nothing. Each share is sealed to one governor, and all travel in the
backup's file; so governors keep nothing but their own keys. The hashes of file
and shares go on the ledger, by which a wrong share is named later.

By default one governor of each operator holds a share, and more than half of them
open it; of a governor's or recovery holder's key not fewer than council.change
needs. The file is no secret, but keep copies of it where the key is not.

The statement is signed by the key itself if it is a governor's, or by --sign: a
governor of the holder's operator or of its sponsor, or any for a recovery holder.
Without a server, name the holders' public files, and say --statement FILE.`,
		Example: `  quorate key backup --key alice.key --out alice.backup
  quorate key backup --key edge-7.key --sign alice.key --threshold 3 --holders alice,bob,carol,dave --out edge-7.backup
  quorate key backup --key rita.key --holders alice.pub,bob.pub,carol.pub --genesis genesis --sign alice.key --out rita.backup --statement rita.cose`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if f.out == "" {
				return usage("say --out FILE.backup", "the output file is missing")
			}
			if _, err := os.Lstat(f.out); err == nil {
				return refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.out)
			}
			if len(a.servers(&f.server)) == 0 {
				return a.backupOffline(c.Context(), &f)
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error { return a.backupOnline(ctx, l, &f) })
		},
	}
	c.Flags().StringVar(&f.key, "key", "", "the key file to back up (or QUORATE_KEY)")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read its passphrase from this file (or QUORATE_PASSPHRASE_FILE)")
	f.sign.addSign(c.Flags())
	f.server.add(c.Flags())
	c.Flags().IntVar(&f.threshold, "threshold", 0, "how many shares open it (default: more than half)")
	c.Flags().StringSliceVar(&f.holders, "holders", nil, "the governors that hold a share, or their public files, with commas (default: one of each operator)")
	c.Flags().StringSliceVar(&f.recipients, "recipient", nil, "age1pq1… of your own that opens it alone, with commas; keep its identity offline")
	c.Flags().StringVar(&f.out, "out", "", "the backup's file to write")
	c.Flags().StringVar(&f.statement, "statement", "", "write the signed statement to this file instead of submitting it")
	c.Flags().Uint64Var(&f.generation, "generation", 0, "without a server: the ledger's generation, after a recovery")
	return c
}

// madeBackup is what key backup prints.
type madeBackup struct {
	Out        string     `json:"out"`
	Holder     string     `json:"holder"`
	Key        string     `json:"key"`
	Ciphertext string     `json:"ciphertext"`
	Threshold  uint64     `json:"threshold"`
	Holders    []string   `json:"holders"`
	Statement  string     `json:"statement,omitempty"` // the file
	Answer     *submitted `json:"answer,omitempty"`
}

func (m *madeBackup) text(w io.Writer) {
	fmt.Fprintf(w, "backup of key %s… of %s: any %d of the %d shares of %s open it\n", m.Key[:8], m.Holder, m.Threshold, len(m.Holders), strings.Join(m.Holders, ", "))
	fmt.Fprintf(w, "wrote %s, read it back and opened it with its shares\n", m.Out)
	if m.Answer != nil {
		m.Answer.text(w)
		fmt.Fprintf(w, "next: put copies of it where the key is not; quorate key verify-backup %s shows who can still open it\n", m.Out)
		return
	}
	fmt.Fprintf(w, "next: quorate submit %s where a server is reachable; until then the backup counts for nothing\n", m.Statement)
}

// backupOnline makes a backup with the council that a server proves.
func (a *app) backupOnline(ctx context.Context, l *link, f *keyBackupFlags) error {
	file, err := a.readKey(f.key, f.passphraseFile)
	if err != nil {
		return err
	}
	defer file.Wipe()
	seats, needed, err := l.shareHolders(ctx, file, f.holders)
	if err != nil {
		return err
	}
	if file.Role != fsm.RoleGovernor && file.Role != fsm.RoleRecovery {
		needed = 0
	}
	status, err := l.Status(ctx)
	if err != nil {
		return err
	}
	return a.makeBackup(ctx, l, file, spot{genesis: l.genesis, generation: status.Generation}, seats, needed, f)
}

// backupOffline makes one for the holders whose public files are named.
func (a *app) backupOffline(ctx context.Context, f *keyBackupFlags) error {
	if len(f.holders) == 0 || f.statement == "" {
		return usage("say --server URL; or offline --holders alice.pub,bob.pub,… and --statement FILE.cose, to submit later", "no server is named, so there is no council to ask")
	}
	genesis, err := a.requireGenesis(f.server.genesis)
	if err != nil {
		return err
	}
	file, err := a.readKey(f.key, f.passphraseFile)
	if err != nil {
		return err
	}
	defer file.Wipe()
	var holders []keys.ShareHolder
	of := map[string]string{} // the holder of each operator
	for _, path := range f.holders {
		public, err := keys.ReadPublicFile(path)
		if err != nil {
			return err
		}
		if public.Role != fsm.RoleGovernor || public.Recipient == "" {
			return refused("name governors' public files", "%s is of a %s, or without a recipient", path, public.Role)
		}
		if public.Name == file.Name {
			return refused("name others", "%s is %s's: nobody holds a share of the own key", path, file.Name)
		}
		if other := of[public.Operator]; other != "" && other != public.Name {
			return refused("name one governor of each operator", "%s and %s are both of %s, which gets one share", other, public.Name, public.Operator)
		}
		of[public.Operator] = public.Name
		holders = append(holders, keys.ShareHolder{Name: public.Name, Recipient: public.Recipient})
	}
	return a.makeBackup(ctx, nil, file, spot{genesis: genesis.hash, generation: f.generation}, holders, 0, f)
}

// shareHolders gives who is to hold a share, of the council as it is proven, and how
// many operators council.change needs.
func (l *link) shareHolders(ctx context.Context, file *keys.File, named []string) ([]keys.ShareHolder, int, error) {
	rules, err := l.rules(ctx)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(rules.council, func(x, y seat) int { return strings.Compare(x.name, y.name) })
	var holders []keys.ShareHolder
	taken := map[string]bool{}
	for _, m := range rules.council {
		wanted := len(named) == 0 && !taken[m.operator] || slices.Contains(named, m.name)
		if !wanted || m.name == file.Name {
			continue
		}
		g, err := provenRecord[fsm.Governor](ctx, l, "council/"+m.name)
		if err != nil {
			return nil, 0, err
		}
		if g == nil || keys.CheckRecipient(g.Recipient) != nil {
			if len(named) > 0 {
				return nil, 0, refused("name others, or have the governor re-seated with one (council.change)", "the governor %s has no age recipient on the ledger", m.name)
			}
			continue
		}
		taken[m.operator] = true
		holders = append(holders, keys.ShareHolder{Name: m.name, Recipient: g.Recipient})
	}
	for _, name := range named {
		if !slices.ContainsFunc(holders, func(h keys.ShareHolder) bool { return h.Name == name }) {
			return nil, 0, refused("quorate list council shows the governors; nobody holds a share of the own key", "%s is no governor that can hold a share of this key", clean(name))
		}
	}
	return holders, int(rules.policy.Rules["council.change"].Threshold), nil
}

// makeBackup makes, writes and records a backup; needed is the least threshold.
func (a *app) makeBackup(ctx context.Context, l *link, file *keys.File, at spot, holders []keys.ShareHolder, needed int, f *keyBackupFlags) (err error) {
	if file.Role == fsm.RoleReplica {
		return refused("propose replica.rekey when it is lost", "replicas are re-keyed, not restored: a copy may have signed beyond what its disk knows")
	}
	threshold := f.threshold
	if threshold == 0 {
		threshold = max(keys.MinThreshold, len(holders)/2+1, needed)
	}
	switch {
	case threshold < keys.MinThreshold || threshold > len(holders):
		return refused("name more holders, or another --threshold", "%d of %d shares are to open it: want at least %d, and no more than there are", threshold, len(holders), keys.MinThreshold)
	case threshold < needed:
		return refused("say --threshold "+fmt.Sprint(needed)+", or leave it out", "fewer holders than council.change needs (%d) could make %s vote", needed, file.Name)
	}
	author, err := a.backupAuthor(ctx, file, f)
	if err != nil {
		return err
	}
	defer author.close()
	b, err := keys.NewBackup(file, at.genesis, threshold, holders, f.recipients)
	if err != nil {
		return refused("check --holders and --recipient", "%w", err)
	}
	body := bodyOf(b)
	if err := body.Check(); err != nil {
		return err
	}
	envelope, err := a.signKeyStatement(ctx, l, author, at, ledger.TypeBackup, body, "backup of key "+b.Key.String()+" of "+b.Holder)
	if err != nil {
		return err
	}
	if err := b.Write(f.out); err != nil {
		return err
	}
	made := &madeBackup{Out: f.out, Holder: b.Holder, Key: b.Key.String(), Ciphertext: body.Ciphertext.String(), Threshold: b.Threshold, Statement: f.statement}
	for _, s := range b.Shares {
		made.Holders = append(made.Holders, s.Holder)
	}
	if f.statement != "" {
		err = writeStatements(f.statement, [][]byte{envelope})
	} else {
		made.Answer, err = a.submitAll(ctx, l, [][]byte{envelope}, f.sign.wait)
	}
	if err != nil {
		if definite(err) && (f.statement != "" || !l.recorded(ctx, body)) {
			return errors.Join(err, os.Remove(f.out))
		}
		a.note("note: %s stays: whether the ledger took its record is not known; quorate key list shows it", f.out)
		return err
	}
	return a.print(made, made.text)
}

// recorded says whether the ledger has the record of a backup, whatever a server answered
// to its statement: one that lies may have passed it on, and the file is then the only one
// that the record fits. It looks until a head is certified that covers all that was applied
// some time after the answer. Where that cannot be learned, it may be.
func (l *link) recorded(ctx context.Context, body *ledger.Backup) bool {
	if l == nil {
		return false // nothing was sent
	}
	began, upTo := time.Now(), uint64(0)
	for {
		head, err := l.Sync(ctx)
		if err != nil {
			return true
		}
		record, err := provenRecord[fsm.BackupRecord](ctx, l, "backup/"+body.Key.String())
		if err != nil || record != nil && record.Ciphertext == body.Ciphertext {
			return true
		}
		if upTo > 0 && head.Size >= upTo {
			return false
		}
		if upTo == 0 && time.Since(began) > appliedSoon {
			status, err := l.Status(ctx)
			if err != nil {
				return true
			}
			upTo = max(status.Applied, 1)
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(appliedSoon / 10):
		}
	}
}

// appliedSoon is longer than what is committed takes to be applied everywhere.
const appliedSoon = 2 * time.Second

// backupAuthor is who signs the statement of a backup.
func (a *app) backupAuthor(ctx context.Context, file *keys.File, f *keyBackupFlags) (*author, error) {
	if f.sign.key != "" || f.sign.signer != "" {
		return a.governor(ctx, &f.sign)
	}
	if file.Role != fsm.RoleGovernor {
		return nil, usage("say --sign GOVERNOR.key, of a governor of its operator or sponsor (any for a recovery holder)",
			"the key of a %s signs no record of its backup by hand: a node's agent makes its own", file.Role)
	}
	// file is wiped by whoever opened it.
	u, err := authorOf(file)
	if err == nil {
		u.close = func() {}
	}
	return u, err
}

// bodyOf is the statement of a backup.
func bodyOf(b *keys.Backup) *ledger.Backup {
	body := &ledger.Backup{Ciphertext: b.Hash(), Key: ledger.Hash(b.Key), Set: b.Set[:], Threshold: b.Threshold}
	for _, r := range b.Recipients {
		body.Recipients = append(body.Recipients, r)
	}
	for _, s := range b.Shares {
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: s.Holder, Recipient: s.Recipient, Share: s.Share})
	}
	return body
}

// signKeyStatement signs a statement about a key. l is nil without a server, and
// then only governors sign: the others need to know what they signed before.
func (a *app) signKeyStatement(ctx context.Context, l *link, u *author, at spot, typ string, body any, show string) ([]byte, error) {
	if l != nil {
		if err := u.seated(ctx, l); err != nil {
			return nil, err
		}
	}
	if u.Role != fsm.RoleGovernor {
		return nil, wrongFile("sign with a governor's key", "a %s signs no %s by hand", u.Role, typ)
	}
	return u.sign(ctx, a.withNonce(at.payload(u.Name, typ)), body, show)
}
