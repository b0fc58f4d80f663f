package main

import (
	"os"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/ledger/keys"
)

// reseal FROM.key IN TO.key OUT [PATTERN REPLACEMENT]: open what is sealed to the
// identity of one key file, change it, and seal it to another's: an answer as
// somebody could forge it.
func reseal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 && len(args) != 6 {
		ts.Fatalf("usage: reseal FROM.key IN TO.key OUT [PATTERN REPLACEMENT]")
	}
	identity := func(path string) string {
		file, err := keys.ReadFile(ts.MkAbs(path), nil)
		ts.Check(err)
		return file.Identity
	}
	sealed, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	plain, err := keys.OpenWith(identity(args[0]), sealed)
	ts.Check(err)
	if len(args) == 6 {
		pattern := regexp.MustCompile(args[4])
		if !pattern.Match(plain) {
			ts.Fatalf("%s is not in the share", args[4])
		}
		plain = pattern.ReplaceAll(plain, []byte(args[5]))
	}
	recipient, err := keys.RecipientOf(identity(args[2]))
	ts.Check(err)
	sealed, err = keys.SealTo([]string{recipient}, plain)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), sealed, 0o600))
}
