package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

type keyDestroyFlags struct {
	sign           signFlags
	server         serverFlags
	key            string
	passphraseFile string
	reason         string
	statement      string
	yes            bool
}

func (a *app) keyDestroyCommand() *cobra.Command {
	var f keyDestroyFlags
	c := &cobra.Command{
		Use:   "destroy FILE.backup… | --key FILE, --sign GOVERNOR.key",
		Short: "destroy a key that is no longer in force, or its backup, and say so on the ledger",
		Long: `destroy asks the ledger whether the key has ended, overwrites the files with zeros,
removes them, and signs a statement that they are destroyed. Name every copy of the
backup. A key that is in force is refused.

The statement is a claim: it shows who answers for it, not that no copy is left.
File systems that journal or copy on write, and SSDs, keep blocks that nobody can
overwrite; what protects a backup there is that its shares are sealed to governors.`,
		Example: "  quorate key destroy n3-3fa9c2d1.backup /mnt/n3-3fa9c2d1.backup --sign carol.key\n  quorate key destroy --key old/carol.key --sign carol.key",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 0) == (f.key == "") {
				return usage("quorate key destroy FILE.backup…, or quorate key destroy --key FILE", "name backups or a key file, and not both")
			}
			if f.sign.key == "" && f.sign.signer == "" {
				return usage("say --sign GOVERNOR.key", "nobody signs that it is destroyed")
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error { return a.destroyKey(ctx, l, args, &f) })
		},
	}
	f.sign.addSign(c.Flags())
	f.server.add(c.Flags())
	c.Flags().StringVar(&f.key, "key", "", "destroy this key file")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read its passphrase from this file")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the ledger")
	c.Flags().StringVar(&f.statement, "statement", "", "write the signed statement to this file instead of submitting it")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "destroy without asking")
	return c
}

// destroyKey checks, asks, destroys, and says so: in this order, for a key that has
// ended never comes back, and a claim of what is not done would be a false one.
func (a *app) destroyKey(ctx context.Context, l *link, backups []string, f *keyDestroyFlags) error {
	body := &ledger.Destroy{Reason: f.reason}
	holder, files := "", backups
	if f.key != "" {
		file, err := a.openKey(f.key, f.passphraseFile)
		if err != nil {
			return err
		}
		body.Key, holder, files = ledger.Hash(file.Key.ID()), file.Name, []string{f.key}
		file.Wipe()
	}
	for _, path := range backups {
		b, err := openBackup(path)
		if err != nil {
			return err
		}
		if holder != "" && (body.Key != ledger.Hash(b.Key) || body.Ciphertext != ledger.Hash(b.Hash())) {
			return refused("destroy one after the other", "%s is not a copy of %s", path, backups[0])
		}
		body.Key, body.Ciphertext, holder = ledger.Hash(b.Key), b.Hash(), b.Holder
	}
	if err := l.destructible(ctx, body.Key, holder); err != nil {
		return err
	}
	author, err := a.governor(ctx, &f.sign)
	if err != nil {
		return asRefusal(err)
	}
	defer author.close()
	status, err := l.Status(ctx)
	if err != nil {
		return err
	}
	if ledger.Hash(author.keyID()) == body.Key {
		return refused("sign with the key that is in force", "a key does not sign its own destruction")
	}
	show := func(w io.Writer) {
		fmt.Fprintf(w, "destroy key %s… of %s for good: %s\n", body.Key.String()[:8], holder, strings.Join(files, ", "))
	}
	if ok, err := a.agreeTo(show, "Destroy it?", f.yes); err != nil || !ok {
		return err
	}
	envelope, err := a.signKeyStatement(ctx, l, author, spot{genesis: l.genesis, generation: status.Generation}, ledger.TypeDestroy, body, "key.destroy of key "+body.Key.String()+" of "+holder)
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := destroyFile(path); err != nil {
			return refused("see what keeps it, then run it again: nothing is on the ledger yet", "destroy %s: %w", path, causeOf(err))
		}
	}
	answer, err := a.sendStatement(ctx, l, envelope, f.statement, f.sign.wait)
	if err != nil {
		return refused("say it by quorate key destroy --key of another copy, or leave the alarm", "the files are destroyed, and the ledger does not have it: %w", err)
	}
	return a.print(map[string]any{"key": body.Key.String(), "holder": holder, "files": files, "answer": answer}, func(w io.Writer) {
		fmt.Fprintf(w, "destroyed %s\n", strings.Join(files, ", "))
		if answer != nil {
			answer.text(w)
		}
	})
}

// destructible refuses a key that is in force.
func (l *link) destructible(ctx context.Context, id ledger.Hash, holder string) error {
	key, err := l.VerifiedKey(ctx, id)
	if errors.Is(err, client.ErrNotFound) {
		return refused("it was never on this ledger: remove it by hand", "the ledger knows no key %s… of %s", id.String()[:8], holder)
	}
	if err != nil {
		return err
	}
	switch {
	case key.Standing == client.KeyInForce || key.Standing == client.KeyNext:
		return refused("a key is destroyed once it has ended", "key %s… of %s is %s", id.String()[:8], holder, strings.ReplaceAll(key.Standing, "_", " "))
	case key.Destroyed > 0:
		return refused("remove this copy by hand", "key %s… of %s was destroyed in entry %d already", id.String()[:8], holder, key.Destroyed)
	case key.Role == fsm.RoleReplica:
		return refused("remove the file by hand", "the key is a replica's, which has no backup")
	}
	return nil
}

// destroyAll destroys what it can of the files, and says what it could not. One that
// is not there is one that needs nothing.
func destroyAll(paths []string) error {
	var failed error
	for _, path := range paths {
		if err := destroyFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("%s could not be destroyed: %w", clean(path), causeOf(err)))
		}
	}
	return failed
}

// destroyFile overwrites a file with zeros, makes that durable, and removes it.
func destroyFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no regular file")
	}
	// 0400 is what people give keys; the directory decides who may remove it.
	if info.Mode().Perm()&0o200 == 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, info.Size()))
	// Durable before it is removed: otherwise the zeros may never reach the disk.
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
