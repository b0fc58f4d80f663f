package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

const (
	// The roles in a restoring's key file, which no ledger knows: what the shares are
	// asked for. Those that are given for a test restore no key.
	roleRestore  = "restore"
	roleTest     = "restore-test"
	restoreFile  = "restore.key"
	requestFile  = ".request.cose" // after the holder's name
	endedSuffix  = "-ended"        // after the role of a key that is no longer in force
	restorePlain = "do not encrypt what is written: development only"

	// requestLife is how long holders may answer, if nothing is said; maxRequestLife
	// bounds what is said: a request is of use to whoever gets hold of restore.key.
	requestLife    = 7 * 24 * time.Hour
	maxRequestLife = 90 * 24 * time.Hour

	openedStatement = ".opened.cose" // after a restored key's file: its restore.test, if it could not be sent
)

type keyRestoreFlags struct {
	backup         backupFlags
	sign           signFlags
	dir            string
	passphraseFile string
	plain          bool
	workFactor     int
	purpose        string
	life           time.Duration
	answers        []string
	statement      string
}

func (a *app) keyRestoreCommand() *cobra.Command {
	var f keyRestoreFlags
	c := &cobra.Command{
		Use:   "restore FILE.backup --out DIR (--sign GOVERNOR.key | --answers FILE,…)",
		Short: "ask the holders of a backup's shares, then restore the key from their answers",
		Long: `restore has two steps. First, with --sign, it compares the backup with what the
ledger records, makes DIR/restore.key, to which the answers will be sealed, and a
signed request DIR/NAME.request.cose for each holder. Send each its request, and
compare its twelve words aloud; the holder answers with quorate key share.

Then, with --answers, it opens each answer, says of each whether it is good, and
when there are enough writes DIR/NAME.key and destroys restore.key, its requests and
the good answers; other files are left as they are. With --sign it also puts on the
ledger that the backup was opened; of a governor's the restored key itself says so.

A node's key comes without the memory of what it signed: its agent says nothing
until two epochs after the epoch in force, so that nothing is signed twice. Refused
are old copies (the key was rotated since), altered files, and revoked keys. Without
a server, --offline --record PROOF takes the record from a proof.`,
		Example: `  quorate key restore edge-7-77c0b1e2.backup --out new --sign alice.key
  quorate key restore edge-7-77c0b1e2.backup --out new --answers bob.share.age,carol.share.age,dave.share.age --sign alice.key`,
		Args: exactArgs("FILE.backup"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.dir == "" {
				return usage("say --out DIR", "the output directory is missing")
			}
			if len(f.answers) == 0 && f.sign.key == "" && f.sign.signer == "" {
				return usage("say --sign GOVERNOR.key to ask for shares, or --answers FILE,… when they are there", "say what to do")
			}
			if f.purpose != keys.RestorePurpose && f.purpose != keys.TestPurpose {
				return usage("say restore or test", "--purpose is %q", f.purpose)
			}
			signs := f.sign.key != "" || f.sign.signer != ""
			switch {
			case f.life <= 0 || f.life > maxRequestLife:
				return usage("say a time such as 48h", "--for is %s, want up to %s", f.life, maxRequestLife)
			case f.statement != "" && !(signs && len(f.answers) > 0):
				return usage("say --sign GOVERNOR.key with --answers, or leave --statement out", "--statement is for what is signed when the key is restored")
			case f.backup.offline && signs && len(f.answers) > 0 && f.statement == "":
				return usage("say --statement FILE, and submit it later", "without a server nothing can be submitted")
			case f.statement != "" && exists(f.statement):
				return refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.statement)
			}
			if f.purpose == keys.TestPurpose && len(f.answers) > 0 {
				return usage("quorate key verify-backup FILE.backup --requests DIR --answers FILE,…", "restore takes no answers for a test")
			}
			b, err := openBackup(args[0])
			if err != nil {
				return err
			}
			return a.withRecord(c.Context(), &f.backup, b, func(ctx context.Context, l *link, r *backupRecord) error {
				if len(f.answers) > 0 {
					return a.restoreFrom(ctx, l, b, r, &f)
				}
				return a.requestShares(ctx, l, b, r, &f)
			})
		},
	}
	f.backup.add(c, true)
	f.sign.addSign(c.Flags())
	c.Flags().StringVar(&f.dir, "out", "", "the directory of requests and of the restored key")
	c.Flags().StringSliceVar(&f.answers, "answers", nil, "the holders' answers, with commas")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read the passphrase of restore.key, and of the new key file, from this file")
	c.Flags().BoolVar(&f.plain, "insecure-plain", false, restorePlain)
	addWorkFactor(c.Flags(), &f.workFactor)
	c.Flags().StringVar(&f.purpose, "purpose", keys.RestorePurpose, "restore, or test: then quorate key verify-backup takes the answers")
	c.Flags().DurationVar(&f.life, "for", requestLife, "how long the holders may answer")
	c.Flags().StringVar(&f.statement, "statement", "", "with --answers: write the signed restore.test to this file instead of submitting it")
	return c
}

// add adds the flags by which a record is found.
func (f *backupFlags) add(c *cobra.Command, ended bool) {
	f.server.add(c.Flags())
	c.Flags().BoolVar(&f.offline, "offline", false, "ask no server; the record comes from --record")
	c.Flags().StringVar(&f.record, "record", "", "with --offline: a proof of the record backup/KEY, by quorate prove record")
	if ended {
		c.Flags().BoolVar(&f.ended, "ended", false, "restore a key that is no longer in force, marked as such, for what was sealed to it")
	}
}

// requested is what the first step prints.
type requested struct {
	Key      string       `json:"key"`
	Holder   string       `json:"holder"`
	Needed   uint64       `json:"needed"`
	Words    string       `json:"words"`
	Expires  uint64       `json:"expires"` // milliseconds
	Requests []requestOut `json:"requests"`
	Source   string       `json:"source"`
}

type requestOut struct {
	Holder string `json:"holder"`
	File   string `json:"file"`
}

// requestShares is the first step.
func (a *app) requestShares(ctx context.Context, l *link, b *keys.Backup, r *backupRecord, f *keyRestoreFlags) error {
	if _, err := os.Lstat(filepath.Join(f.dir, restoreFile)); err == nil {
		return refused("give --answers, or name another directory", "%s exists: shares were asked for already", filepath.Join(f.dir, restoreFile))
	}
	author, err := a.governor(ctx, &f.sign)
	if err != nil {
		return err
	}
	defer author.close()
	if author.Role != fsm.RoleGovernor {
		return refused("have a governor sign the requests", "%s is a recovery holder, whom nobody gives a share", author.Name)
	}
	if l != nil {
		if err := author.seated(ctx, l); err != nil {
			return err
		}
	}
	identity, recipient, err := keys.NewIdentity()
	if err != nil {
		return err
	}
	out := requested{Key: b.Key.String(), Holder: b.Holder, Needed: b.Threshold, Expires: uint64(a.now().Add(f.life).UnixMilli()), Source: r.source}
	var envelopes [][]byte
	for _, s := range b.Shares {
		request, err := b.Request(s.Holder)
		if err != nil {
			return err
		}
		request.Author, request.Expires, request.Generation = author.Name, out.Expires, r.generation
		request.Purpose, request.Recipient = f.purpose, recipient
		out.Words = request.Words()
		envelope, err := request.Sign(ctx, author.signer, []string{"ask " + s.Holder + " for its share of the key of " + b.Holder, "to " + f.purpose, "words " + out.Words})
		if err != nil {
			return err
		}
		envelopes = append(envelopes, envelope)
		out.Requests = append(out.Requests, requestOut{s.Holder, filepath.Join(f.dir, s.Holder+requestFile)})
	}
	if err := a.writeRequests(b, identity, envelopes, out.Requests, f); err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "the backup is the recorded one (%s, %s)\n", r.entry(), r.source)
		fmt.Fprintf(w, "any %d of these %d holders restore key %s… of %s; their answers are sealed to the words\n  %s\n", out.Needed, len(out.Requests), out.Key[:8], out.Holder, out.Words)
		for _, q := range out.Requests {
			fmt.Fprintf(w, "  %-16s %s\n", q.Holder, q.File)
		}
		fmt.Fprintf(w, "next: send each its request and compare the words aloud; each answers: quorate key share REQUEST --key KEY --out NAME.share.age\n")
	})
}

// writeRequests writes restore.key and the requests, or nothing.
func (a *app) writeRequests(b *keys.Backup, identity string, envelopes [][]byte, requests []requestOut, f *keyRestoreFlags) (err error) {
	key, err := keys.Generate() // a key file has one; nobody uses it
	if err != nil {
		return err
	}
	file := &keys.File{Name: b.Holder, Role: roleRestore, Created: a.now().UnixMilli(), Key: key, Identity: identity}
	if f.purpose == keys.TestPurpose {
		file.Role = roleTest
	}
	defer file.Wipe()
	var written madeFiles
	defer func() {
		if err != nil {
			err = errors.Join(err, written.remove())
		}
	}()
	if err := written.mkdir(f.dir); err != nil {
		return err
	}
	err = written.add(filepath.Join(f.dir, restoreFile), func(path string) error { return a.writeSecretFile(path, file, f) })
	for i := 0; err == nil && i < len(requests); i++ {
		err = written.add(requests[i].File, func(path string) error { return writeNew(path, envelopes[i], 0o600) })
	}
	return err
}

// writeSecretFile writes a key file as the flags say.
func (a *app) writeSecretFile(path string, file *keys.File, f *keyRestoreFlags) error {
	if f.plain {
		a.note("WARNING: %s is not encrypted (--insecure-plain): for development only", path)
		return keys.WriteInsecureFile(path, file)
	}
	if err := a.checkWorkFactor(f.workFactor); err != nil {
		return err
	}
	passphrase, err := a.newPassphrase(f.passphraseFile, path)
	if err != nil {
		return err
	}
	defer keys.WipeBytes(passphrase)
	return keys.WriteFile(path, file, passphrase, keys.WorkFactor(f.workFactor))
}

// restored is what the second step prints.
type restored struct {
	Key       string     `json:"key"`
	Holder    string     `json:"holder"`
	Role      string     `json:"role"`
	File      string     `json:"file"`
	State     string     `json:"state,omitempty"` // a node's: the directory of its agent
	Good      []string   `json:"good"`
	Statement string     `json:"statement,omitempty"`
	Answer    *submitted `json:"answer,omitempty"`
}

// restoreFrom is the second step: what it refuses it refuses before it writes.
func (a *app) restoreFrom(ctx context.Context, l *link, b *keys.Backup, r *backupRecord, f *keyRestoreFlags) error {
	out := restored{Key: b.Key.String(), Holder: b.Holder, Role: b.Role, File: filepath.Join(f.dir, b.Holder+".key"), Statement: f.statement}
	if b.Role == fsm.RoleNode && !f.backup.ended {
		out.State = filepath.Join(f.dir, b.Holder+".state")
	}
	for _, path := range []string{out.File, out.State} {
		if path != "" && exists(path) {
			return refused("nothing is ever overwritten: name another directory, or move it away", "%s exists", path)
		}
	}
	judged, err := a.judge(b, r, f.dir, f.passphraseFile, f.answers, keys.RestorePurpose)
	if err != nil {
		return err
	}
	defer judged.Wipe()
	file, err := openJudged(b, r, judged.Judged)
	if err != nil {
		return err
	}
	defer file.Wipe()
	out.Good = judged.Holders
	var holder *keys.File // who signs in place of --sign
	if b.Role == fsm.RoleGovernor && !f.backup.ended {
		holder = file
	}
	envelope, err := a.signRestoreTest(ctx, l, b, r, judged.Judged, &f.sign, holder, ledger.RestoreForRestore)
	if err != nil {
		return err
	}
	if f.backup.ended {
		file.Role += endedSuffix
	}
	public, err := file.Public()
	if err != nil {
		return err
	}
	if err := a.writeRestored(&out, file, f); err != nil {
		return err
	}
	// The key is there for good: what it took to have it is of use to thieves alone,
	// restore.key most. Whatever fails now, the ledger hears that the backup was opened.
	left := destroyAll(append(slices.Clone(judged.own), judged.Files...))
	if out.Answer, err = a.sendStatement(ctx, l, envelope, f.statement, f.sign.wait); err != nil {
		a.note("note: the key is restored; that the backup was opened is not on the ledger as far as is known: %s", cleanLines(err.Error()))
		if kept := out.File + openedStatement; !definite(err) && writeStatements(kept, [][]byte{envelope}) == nil {
			out.Statement = kept
			a.note("note: quorate submit %s puts it there, also if it is there already", kept)
		}
	}
	err = a.print(out, func(w io.Writer) {
		judgedText(w, judged.Judged)
		fmt.Fprintf(w, "restored key %s… of %s: %s\n  words  %s\n", out.Key[:8], out.Holder, out.File, public.Words)
		if out.State != "" {
			fmt.Fprintf(w, "what this key signed before is not known: its agent says nothing until two epochs after the epoch in force\n")
			fmt.Fprintf(w, "next: put the key where the agent's key_file is, and %s where its dir is, in place of what is there; an old state folder is of no use\n", out.State)
		}
		if f.backup.ended {
			fmt.Fprintf(w, "it is no longer in force and marked %s: nothing starts with it\n", file.Role)
		}
		if out.Answer != nil {
			out.Answer.text(w)
		}
	})
	if left != nil {
		return errors.Join(err, refused("destroy it by hand: with it and the answers, the key can be had", "the key is restored, and %w", left))
	}
	return err
}

// writeRestored writes the key and, of a node, the directory that has its agent know that
// it was restored: both or none.
func (a *app) writeRestored(out *restored, file *keys.File, f *keyRestoreFlags) error {
	if out.State != "" {
		if err := agent.PrepareRestored(out.State, ledger.Hash(file.Key.ID())); err != nil {
			return wrongFile("name a directory that can be written", "make %s: %w", out.State, causeOf(err))
		}
		// Crash here: a directory of no use, which is in the way of the next try.
	}
	err := a.writeSecretFile(out.File, file, f)
	if err != nil && out.State != "" {
		err = errors.Join(err, os.RemoveAll(out.State))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// signRestoreTest says that the backup was opened. Without a key to sign with, or
// with no spot to sign it for, it gives nil. A governor whose key was restored signs it,
// since one of another operator may not speak of it.
func (a *app) signRestoreTest(ctx context.Context, l *link, b *keys.Backup, r *backupRecord, j *keys.Judged, sign *signFlags, holder *keys.File, purpose string) ([]byte, error) {
	if sign.key == "" && sign.signer == "" {
		return nil, nil
	}
	author, err := a.restoreAuthor(ctx, sign, holder)
	if err != nil {
		return nil, err
	}
	defer author.close()
	holders := slices.Sorted(slices.Values(j.Holders))
	body := &ledger.RestoreTest{Ciphertext: b.Hash(), Holders: holders, Key: ledger.Hash(b.Key), Outcome: ledger.RestoreOpened, Purpose: purpose}
	return a.signKeyStatement(ctx, l, author, spot{genesis: r.ledger, generation: r.generation}, ledger.TypeRestoreTest, body,
		"restore.test of key "+b.Key.String()+" of "+b.Holder)
}

// restoreAuthor is who signs that a backup was opened: holder, if there is one.
func (a *app) restoreAuthor(ctx context.Context, sign *signFlags, holder *keys.File) (*author, error) {
	if holder == nil {
		return a.governor(ctx, sign)
	}
	u, err := authorOf(holder)
	if err == nil {
		u.close = func() {} // whoever opened it wipes it
	}
	return u, err
}

// sendStatement submits a statement, or writes it to a file; nil for nil.
func (a *app) sendStatement(ctx context.Context, l *link, envelope []byte, path, wait string) (*submitted, error) {
	switch {
	case envelope == nil:
		return nil, nil
	case path != "":
		return nil, writeStatements(path, [][]byte{envelope})
	case l == nil:
		return nil, usage("say --statement FILE, and submit it later", "without a server nothing can be submitted")
	}
	return a.submitAll(ctx, l, [][]byte{envelope}, wait)
}
