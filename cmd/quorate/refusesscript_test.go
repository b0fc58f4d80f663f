package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/ledger/keys"
)

// refuses PATTERN PROGRAM ARGS…: the program exits with 1, says what is wrong (the
// pattern) and what to do, and leaves everything in the script's folder as it was, but
// for what a running ledger (run) and the trust folder (.local) change by themselves.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refuses PATTERN program args…")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	before := listing(ts)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitRefused {
		ts.Fatalf("%v, want exit code %d", err, exitRefused)
	}
	said := ts.ReadFile("stderr")
	if !pattern.MatchString(said) {
		ts.Fatalf("it says:\n%swant %q", said, args[0])
	}
	if !remedy.MatchString(said) {
		ts.Fatalf("it says:\n%sand not what to do", said)
	}
	if after := listing(ts); after != before {
		ts.Fatalf("the folder was:\n%s\nand is now:\n%s", before, after)
	}
}

// remedy is a next step, or what an error of a key file has after its semicolon.
var remedy = regexp.MustCompile(`(?m)^  next: .|file .*: .*; .|backup .*: .*; .`)

// listing names each file of the script's folder with its mode and hash.
func listing(ts *testscript.TestScript) string {
	var list strings.Builder
	root := ts.MkAbs(".")
	ts.Check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if name == "run" || name == ".local" {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%x", sha256.Sum256(content))
		case info.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&list, "%v %s %s\n", info.Mode(), name, what)
		return nil
	}))
	return list.String()
}

// request (askShare) BACKUP ASKER.key RESTORE.key HOLDER OUT [author=NAME] [of=HOLDER] [expires=MILLIS]:
// a request as quorate key restore signs it, or one that is wrong in some way: of
// another author's name, or with another holder's share.
func askShare(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: request BACKUP ASKER.key RESTORE.key HOLDER OUT [FIELD=VALUE]")
	}
	b, err := keys.ReadBackup(ts.MkAbs(args[0]))
	ts.Check(err)
	asker, err := keys.ReadFile(ts.MkAbs(args[1]), nil)
	ts.Check(err)
	restore, err := keys.ReadFile(ts.MkAbs(args[2]), nil)
	ts.Check(err)
	r, err := b.Request(args[3])
	ts.Check(err)
	r.Recipient, err = keys.RecipientOf(restore.Identity)
	ts.Check(err)
	r.Author, r.Purpose, r.Expires = asker.Name, keys.RestorePurpose, uint64(time.Now().Add(time.Hour).UnixMilli())
	for _, field := range args[5:] {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "author":
			r.Author = value
		case "expires":
			r.Expires, err = strconv.ParseUint(value, 10, 64)
			ts.Check(err)
		case "of":
			r.Sealed = b.ShareOf(value).Sealed
		case "hash":
			r.Share = b.ShareOf(value).Share
		default:
			ts.Fatalf("no field %s", name)
		}
	}
	envelope, err := r.Sign(context.Background(), keys.LocalSigner(asker.Key), nil)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[4]), envelope, 0o600))
}
