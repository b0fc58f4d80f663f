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
		Long: `destroy asks the ledger whether the key has ended, signs a statement that it is
destroyed, and once a certified head has that, overwrites the files with zeros and
removes them. Name every copy of the backup. Refused are a key that is in force or may
still be heard, and another file than the recorded backup. Of what the ledger has as
destroyed already, further copies are destroyed without a statement.

Until then nothing is destroyed. If the answer is lost or it is interrupted, run it
again: the signed statement is kept in FILE.destroy.cose, and goes out as it is. With
--statement it is written and nothing is destroyed: submit it, then run this again.

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
			if f.sign.wait != string(client.WaitCertified) {
				return usage("leave --wait out", "a key is destroyed once a certified head says so, and not at %q", f.sign.wait)
			}
			return a.withServer(c, &f.server, func(ctx context.Context, l *link) error { return a.destroyKey(ctx, l, args, &f) })
		},
	}
	f.sign.addSign(c.Flags())
	// What is destroyed stays so: one server's word for it is too little.
	wait := c.Flags().Lookup("wait")
	wait.DefValue, wait.Usage, f.sign.wait = string(client.WaitCertified), "certified (a certified head covers it), and nothing less", string(client.WaitCertified)
	f.server.add(c.Flags())
	c.Flags().StringVar(&f.key, "key", "", "destroy this key file")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read its passphrase from this file")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the ledger")
	c.Flags().StringVar(&f.statement, "statement", "", "write the signed statement to this file, and destroy nothing yet")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "destroy without asking")
	return c
}

// destroyStatement is added to the first file's name: where the signed statement is
// until the ledger has it.
const destroyStatement = ".destroy.cose"

// doomed is what is to be destroyed.
type doomed struct {
	body   *ledger.Destroy // with a ciphertext if the files are backups
	holder string
	files  []string
	said   uint64 // the entry that says so already
}

// destroyKey checks all that the rules check, asks, has the ledger take the statement,
// and then destroys: what is refused costs no file. Whoever is interrupted in between
// runs it again.
func (a *app) destroyKey(ctx context.Context, l *link, backups []string, f *keyDestroyFlags) error {
	d, err := a.doomed(backups, f)
	if err != nil {
		return err
	}
	author, err := a.governor(ctx, &f.sign)
	if err != nil {
		return err
	}
	defer author.close()
	if ledger.Hash(author.keyID()) == d.body.Key {
		return refused("sign with the key that is in force", "a key does not sign its own destruction")
	}
	if err := l.destructible(ctx, d, author); err != nil {
		return err
	}
	pending, err := d.pending(l.genesis)
	if err != nil && d.said == 0 {
		return err
	}
	verb := "destroy"
	if f.statement != "" && d.said == 0 {
		verb = "say on the ledger that you destroy"
		if exists(f.statement) {
			return refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.statement)
		}
	}
	show := func(w io.Writer) {
		fmt.Fprintf(w, "%s key %s… of %s for good: %s\n", verb, d.body.Key.String()[:8], d.holder, clean(strings.Join(d.files, ", ")))
	}
	if ok, err := a.agreeTo(show, "Destroy it?", f.yes); err != nil || !ok {
		return err
	}
	if d.said > 0 {
		return a.destroyDoomed(d, nil, pending != nil)
	}
	if pending == nil {
		status, err := l.Status(ctx)
		if err != nil {
			return err
		}
		envelope, err := a.signKeyStatement(ctx, l, author, spot{genesis: l.genesis, generation: status.Generation}, ledger.TypeDestroy, d.body, "key.destroy of key "+d.body.Key.String()+" of "+d.holder)
		if err != nil {
			return err
		}
		if f.statement != "" {
			return a.keepDestroy(d, envelope, f.statement)
		}
		if err := writeStatements(d.files[0]+destroyStatement, [][]byte{envelope}); err != nil {
			return err
		}
		pending = envelope
	} else {
		a.note("note: the statement of an earlier try, %s, goes out as it is", d.files[0]+destroyStatement)
		if f.statement != "" {
			return a.keepDestroy(d, pending, f.statement)
		}
	}
	// Crash here, and from here on until the ledger has it: the next run finds the
	// statement and sends the same bytes.
	answer, err := a.sayDestroyed(ctx, l, d, pending, f.sign.wait)
	if err != nil {
		return err
	}
	// Crash here: the next run finds on the ledger that it is said, and destroys.
	d.said = answer.Statements[0].Seq
	return a.destroyDoomed(d, answer, true)
}

// keepDestroy writes the statement, for somebody to submit; nothing is destroyed before
// the ledger has it.
func (a *app) keepDestroy(d *doomed, envelope []byte, path string) error {
	if err := writeStatements(path, [][]byte{envelope}); err != nil {
		return err
	}
	return a.print(map[string]any{"key": d.body.Key.String(), "holder": d.holder, "statement": path}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s; nothing is destroyed yet\nnext: quorate submit %s --wait certified, then run this again, without --statement\n", path, path)
	})
}

// pending is the statement of an earlier try that did not learn whether the ledger took
// it; nil if there is none.
func (d *doomed) pending(genesis ledger.Hash) ([]byte, error) {
	path := d.files[0] + destroyStatement
	if !exists(path) {
		return nil, nil
	}
	other := func(err error) error {
		return refused("see what it is, and move it away; then run this again", "%s is there and is no statement that this key is destroyed: %w", path, err)
	}
	list, err := readStatements(path)
	if err != nil {
		return nil, other(err)
	}
	if len(list) != 1 || list[0].Payload.Type != ledger.TypeDestroy || list[0].Payload.Ledger != genesis {
		return nil, other(errors.New("it is another statement"))
	}
	body, err := ledger.DecodeBody[ledger.Destroy](list[0])
	if err != nil {
		return nil, other(err)
	}
	if body.Key != d.body.Key || body.Ciphertext != d.body.Ciphertext {
		return nil, other(errors.New("it is of another key or backup"))
	}
	return list[0].Envelope, nil
}

// doomed reads what the files are: copies of one backup, or a key.
func (a *app) doomed(backups []string, f *keyDestroyFlags) (*doomed, error) {
	d := &doomed{body: &ledger.Destroy{Reason: f.reason}, files: a.once(backups)}
	if f.key != "" {
		file, err := a.readKey(f.key, f.passphraseFile)
		if err != nil {
			return nil, err
		}
		d.body.Key, d.holder, d.files = ledger.Hash(file.Key.ID()), file.Name, []string{f.key}
		file.Wipe()
	}
	for i, path := range backups {
		b, err := openBackup(path)
		if err != nil {
			return nil, err
		}
		if i > 0 && (d.body.Key != ledger.Hash(b.Key) || d.body.Ciphertext != ledger.Hash(b.Hash())) {
			return nil, refused("destroy one after the other", "%s is not a copy of %s", path, backups[0])
		}
		d.body.Key, d.body.Ciphertext, d.holder = ledger.Hash(b.Key), b.Hash(), b.Holder
	}
	return d, d.body.Check()
}

// sayDestroyed has the ledger take the statement, which is in a file until it does: a
// submission without an answer is made again with the same bytes.
func (a *app) sayDestroyed(ctx context.Context, l *link, d *doomed, envelope []byte, wait string) (*submitted, error) {
	path := d.files[0] + destroyStatement
	answer, err := a.submitAll(ctx, l, [][]byte{envelope}, wait)
	switch {
	case err == nil && answer.Verified:
		return answer, nil
	case err == nil:
		err = errors.New("no certified head shows it")
	case definite(err):
		// It will never be taken; another run signs another, if the rules allow it then.
		return nil, errors.Join(err, os.Remove(path))
	}
	return nil, refused("run this again, which sends the same statement ("+path+") and then destroys", "nothing is destroyed: whether the ledger took the statement is not known: %w", err)
}

// destroyDoomed destroys the files, of which the ledger says so, and removes the statement
// that says it, if that is here.
func (a *app) destroyDoomed(d *doomed, answer *submitted, kept bool) error {
	err := destroyAll(d.files)
	if kept {
		err = errors.Join(err, os.Remove(d.files[0]+destroyStatement))
	}
	if err != nil {
		return refused("see what keeps it, then run this again", "entry %d says that it is destroyed, and %w", d.said, err)
	}
	return a.print(map[string]any{"key": d.body.Key.String(), "holder": d.holder, "files": d.files, "answer": answer}, func(w io.Writer) {
		fmt.Fprintf(w, "destroyed %s\n", clean(strings.Join(d.files, ", ")))
		if answer != nil {
			answer.text(w)
			return
		}
		fmt.Fprintf(w, "entry %d says so already\n", d.said)
	})
}

// destructible refuses what the rules would refuse, by proven records: a key that is in
// force or may still be heard, another file than the recorded backup, and an author who
// may not speak of it. It finds the entry that says so already.
func (l *link) destructible(ctx context.Context, d *doomed, author *author) error {
	key, err := l.VerifiedKey(ctx, d.body.Key)
	if errors.Is(err, client.ErrNotFound) {
		return refused("it was never on this ledger: remove it by hand", "the ledger knows no key %s… of %s", d.body.Key.String()[:8], d.holder)
	}
	if err != nil {
		return err
	}
	d.holder = key.Holder
	what := fmt.Sprintf("key %s… of %s", d.body.Key.String()[:8], d.holder)
	switch {
	case key.Standing == client.KeyInForce || key.Standing == client.KeyNext:
		return refused("a key is destroyed once it has ended", "%s is %s", what, strings.ReplaceAll(key.Standing, "_", " "))
	case key.Role == fsm.RoleReplica:
		return refused("remove the file by hand", "the key is a replica's, which has no backup")
	}
	heard, err := provenRecord[fsm.OldKeyRecord](ctx, l, "oldkey/"+d.body.Key.String())
	if err != nil {
		return err
	}
	if heard != nil {
		return refused(fmt.Sprintf("run it again in epoch %d", heard.To+2), "%s was in force until epoch %d, and may still be heard in the one after", what, heard.To)
	}
	record, err := provenRecord[fsm.BackupRecord](ctx, l, "backup/"+d.body.Key.String())
	if err != nil {
		return err
	}
	named := !d.body.Ciphertext.IsZero()
	switch {
	case named && record != nil && record.Ciphertext != d.body.Ciphertext:
		return refused("destroy the recorded one, and remove this one by hand", "%s is not the backup of %s that entry %d records", d.files[0], what, record.Seq)
	case key.Destroyed > 0 && !(named && record != nil):
		d.said = key.Destroyed
		return nil
	case named && record == nil:
		return refused("remove it by hand, if it is of no use", "the ledger records no backup of %s", what)
	}
	return l.speaksFor(ctx, author, key)
}

// speaksFor refuses an author who may not speak of a key: only a governor of its
// holder's operator does, or of that one's sponsor; of a key without, any governor.
func (l *link) speaksFor(ctx context.Context, author *author, key *client.ProvenKey) error {
	g, err := provenRecord[fsm.Governor](ctx, l, "council/"+author.Name)
	if err != nil {
		return err
	}
	if author.Role != fsm.RoleGovernor || g == nil || g.KeyID() != ledger.Hash(author.keyID()) {
		return refused("sign with the key of a governor who sits", "%s, key %s…, is no governor of this ledger", author.Name, author.keyID().String()[:8])
	}
	if key.Operator == "" || key.Operator == g.Operator {
		return nil
	}
	o, err := provenRecord[fsm.OperatorRecord](ctx, l, "operator/"+key.Operator)
	if err != nil {
		return err
	}
	who := key.Operator
	if o != nil && o.Sponsor != "" {
		who += " or " + o.Sponsor
	}
	if o != nil && o.Sponsor == g.Operator {
		return nil
	}
	return refused("have a governor of "+who+" sign", "the key is of %s, and %s governs for %s", key.Operator, g.Name, g.Operator)
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
