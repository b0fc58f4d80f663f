package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

type keyVerifyFlags struct {
	backup         backupFlags
	key            signFlags
	answers        []string
	dir            string
	passphraseFile string
	statement      string
	sign           string
	signPassphrase string
}

func (a *app) keyVerifyCommand() *cobra.Command {
	var f keyVerifyFlags
	c := &cobra.Command{
		Use:   "verify-backup FILE.backup",
		Short: "see that a backup is the recorded one and can be opened, without writing the key",
		Long: `verify-backup compares a backup with what the ledger records, and says which of its
holders still sit with the recipients of then. With --key, a holder sees that its
own share opens and is the recorded one. With --answers, to requests that
quorate key restore --purpose test --out DIR made, it opens the backup in memory,
compares the key and forgets it: the key is on this machine for milliseconds, never
on a disk or a screen. --sign then puts on the ledger that it was opened, and destroys
restore.key, its requests and the good answers, which open the backup for anybody.`,
		Example: `  quorate key verify-backup edge-7-77c0b1e2.backup
  quorate key verify-backup edge-7-77c0b1e2.backup --key bob.key
  quorate key verify-backup edge-7-77c0b1e2.backup --requests test --answers bob.share.age,carol.share.age --sign alice.key`,
		Args: exactArgs("FILE.backup"),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := openBackup(args[0])
			if err != nil {
				return err
			}
			if len(f.answers) > 0 && f.dir == "" {
				return usage("say --requests DIR, where quorate key restore --purpose test wrote the requests", "the directory with restore.key is missing")
			}
			switch {
			case f.sign != "" && len(f.answers) == 0:
				return usage("say --answers FILE,…, or leave --sign out", "--sign is for what is signed when the backup was opened")
			case f.statement != "" && f.sign == "":
				return usage("say --sign GOVERNOR.key, or leave --statement out", "nobody signs what --statement is to hold")
			case f.backup.offline && f.sign != "" && f.statement == "":
				return usage("say --statement FILE, and submit it later", "without a server nothing can be submitted")
			case f.statement != "" && exists(f.statement):
				return refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.statement)
			}
			return a.withRecord(c.Context(), &f.backup, b, func(ctx context.Context, l *link, r *backupRecord) error {
				return a.verifyBackup(ctx, l, b, r, &f)
			})
		},
	}
	f.backup.add(c, false)
	f.key.addKey(c.Flags(), "a holder's key file: its own share is opened")
	addWait(c.Flags(), &f.key.wait)
	c.Flags().StringSliceVar(&f.answers, "answers", nil, "the holders' answers, with commas")
	c.Flags().StringVar(&f.dir, "requests", "", "the directory of restore.key and the requests")
	c.Flags().StringVar(&f.passphraseFile, "restore-passphrase-file", "", "read the passphrase of restore.key from this file")
	c.Flags().StringVar(&f.sign, "sign", "", "with --answers: the governor's key file that signs restore.test")
	c.Flags().StringVar(&f.signPassphrase, "sign-passphrase-file", "", "read its passphrase from this file")
	c.Flags().StringVar(&f.statement, "statement", "", "write the signed restore.test to this file instead of submitting it")
	return c
}

// verifiedBackup is what verify-backup prints.
type verifiedBackup struct {
	Key        string     `json:"key"`
	Holder     string     `json:"holder"`
	Ciphertext string     `json:"ciphertext"`
	Seq        uint64     `json:"seq"`
	Threshold  uint64     `json:"threshold"`
	Holders    []string   `json:"holders"`
	Left       []string   `json:"left,omitempty"`
	Own        string     `json:"own,omitempty"` // whose share was opened, and is good
	Opened     bool       `json:"opened"`
	Source     string     `json:"source"`
	Answer     *submitted `json:"answer,omitempty"`

	judged *keys.Judged
	kept   string // the directory that still has restore.key and the requests
}

func (a *app) verifyBackup(ctx context.Context, l *link, b *keys.Backup, r *backupRecord, f *keyVerifyFlags) (err error) {
	v := &verifiedBackup{Key: b.Key.String(), Holder: b.Holder, Ciphertext: ledger.Hash(b.Hash()).String(), Seq: r.Seq, Threshold: b.Threshold, Source: r.source}
	for _, s := range b.Shares {
		v.Holders = append(v.Holders, s.Holder)
	}
	if l != nil {
		if v.Left, err = l.left(ctx, b); err != nil {
			return err
		}
	}
	if f.key.key != "" || f.key.signer != "" {
		if v.Own, err = a.verifyOwn(ctx, b, &f.key); err != nil {
			return err
		}
	}
	if len(f.answers) > 0 {
		judged, err := a.judge(b, r, f.dir, f.passphraseFile, f.answers, keys.TestPurpose)
		if err != nil {
			return err
		}
		defer judged.Wipe()
		v.judged = judged.Judged
		file, err := openJudged(b, r, v.judged)
		if err != nil {
			return err
		}
		file.Wipe()
		v.Opened = true
		sign := signFlags{key: f.sign, passphraseFile: f.signPassphrase, signerWait: f.key.signerWait}
		envelope, err := a.signRestoreTest(ctx, l, b, r, v.judged, &sign, nil, ledger.RestoreForTest)
		if err != nil {
			return err
		}
		if v.Answer, err = a.sendStatement(ctx, l, envelope, f.statement, f.key.wait); err != nil {
			return err
		}
		v.kept = f.dir
		if envelope != nil {
			// The test is over, and what it took opens the backup for whoever has it.
			if err := destroyAll(append(slices.Clone(judged.own), judged.Files...)); err != nil {
				return refused("destroy it by hand: with it and the answers, the key can be had", "the backup was opened, and %w", err)
			}
			v.kept = ""
		}
	}
	return a.print(v, func(w io.Writer) { v.text(w) })
}

// verifyOwn says whose share was opened and is good.
func (a *app) verifyOwn(ctx context.Context, b *keys.Backup, f *signFlags) (string, error) {
	author, err := a.governor(ctx, f)
	if err != nil {
		return "", err
	}
	defer author.close()
	if b.ShareOf(author.Name) == nil {
		return "", refused("ask one of its holders", "%s holds no share of this backup", author.Name)
	}
	if author.unwrapper == nil {
		return "", refused("use the key file or signer that holds it", "the key of %s holds no age identity, so it opens no share", author.Name)
	}
	if err := b.CheckShare(ctx, author.Name, author.unwrapper); err != nil {
		what := "is bad: %w"
		if errors.Is(err, keys.ErrNotForUs) {
			what = "is sealed to another recipient than this key's: %w"
		}
		return "", refused("make a new backup: quorate key backup", "the share of %s "+what, author.Name, err)
	}
	return author.Name, nil
}

func (v *verifiedBackup) text(w io.Writer) {
	fmt.Fprintf(w, "ciphertext   recorded in entry %d as the backup of key %s… of %s (%s)\n", v.Seq, v.Key[:8], v.Holder, v.Source)
	seats := "all %d holders still sit with these recipients\n"
	fmt.Fprintf(w, "shares       %d, any %d open it; ", len(v.Holders), v.Threshold)
	if len(v.Left) == 0 {
		fmt.Fprintf(w, seats, len(v.Holders))
	} else {
		fmt.Fprintf(w, "%s no longer sit with the recipient of then\n", strings.Join(v.Left, ", "))
	}
	if len(v.Holders)-len(v.Left) < int(v.Threshold) {
		fmt.Fprintf(w, "WARNING      too few are left who can open it: make a new backup\n")
	}
	if v.Own != "" {
		fmt.Fprintf(w, "%-12s the share opens and is the recorded one\n", v.Own)
	}
	if !v.Opened {
		fmt.Fprintf(w, "the key was not opened; --answers opens it in memory and compares it\n")
		return
	}
	judgedText(w, v.judged)
	fmt.Fprintf(w, "it holds key %s… of %s: opened in memory, compared, and wiped\n", v.Key[:8], v.Holder)
	if v.kept != "" {
		fmt.Fprintf(w, "next: --sign GOVERNOR.key puts it on the ledger and destroys %s, the requests and the answers; without it destroy them by hand, since they open the backup\n",
			filepath.Join(v.kept, "restore.key"))
	}
	if v.Answer != nil {
		v.Answer.text(w)
	}
}

// keyListCommand lists the backups, as quorate list backups does.
func (a *app) keyListCommand() *cobra.Command {
	f := listFlags{consistency: client.Certified}
	c := &cobra.Command{
		Use:     "list",
		Short:   "list the backups that the ledger records, and how they stand",
		Example: "  quorate key list\n  quorate key list --standing untested",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error {
				t, err := listBackups(ctx, l, &f)
				if err != nil {
					return err
				}
				return a.print(t.data, t.text)
			})
		},
	}
	f.server.add(c.Flags())
	c.Flags().StringVar(&f.role, "role", "", "only of keys of a governor, node or recovery holder")
	c.Flags().StringVar(&f.standing, "standing", "", "only those in this standing: covered, untested or missing")
	return c
}
