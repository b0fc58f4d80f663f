package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/quorate/quorate/ledger"
)

// signFlags say with which key, and what becomes of what was signed.
type signFlags struct {
	key, passphraseFile string
	signer              string
	signerArgs          []string
	signerWait          time.Duration
	memo                string
	out                 string
	yes                 bool
	wait                string
}

func (f *signFlags) add(flags *pflag.FlagSet) {
	f.addKey(flags, "the key file to sign with (or QUORATE_KEY)")
	flags.StringVar(&f.memo, "memo", "", "a note that is signed with it")
	flags.StringVar(&f.out, "out", "", "write what was signed to this file instead of submitting it")
	flags.BoolVarP(&f.yes, "yes", "y", false, "sign without asking")
	addWait(flags, &f.wait)
}

// addKey adds the flags that say with which key.
func (f *signFlags) addKey(flags *pflag.FlagSet, what string) {
	flags.StringVar(&f.key, "key", "", what)
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "read its passphrase from this file (or QUORATE_PASSPHRASE_FILE)")
	f.addSigner(flags)
}

// addSign adds them for commands where --key is another key than the one that
// signs.
func (f *signFlags) addSign(flags *pflag.FlagSet) {
	flags.StringVar(&f.key, "sign", "", "the governor's key file that signs")
	flags.StringVar(&f.passphraseFile, "sign-passphrase-file", "", "read its passphrase from this file (or QUORATE_PASSPHRASE_FILE)")
	f.addSigner(flags)
	addWait(flags, &f.wait)
}

// addSigner adds those of a signer that is another program.
func (f *signFlags) addSigner(flags *pflag.FlagSet) {
	flags.StringVar(&f.signer, "signer", "", "exec:PROGRAM that signs, in place of --key (or QUORATE_SIGNER)")
	flags.StringArrayVar(&f.signerArgs, "signer-arg", nil, "an argument of that program; may be repeated")
	flags.DurationVar(&f.signerWait, "signer-timeout", signerPatience, "how long that program may take for one answer")
}

func addWait(flags *pflag.FlagSet, wait *string) {
	flags.StringVar(wait, "wait", "committed", "committed (Raft's majority has it) or certified (a certified head covers it)")
}

// spot is where a statement belongs: a ledger and its generation.
type spot struct {
	genesis    ledger.Hash
	generation uint64
}

// payload begins a statement of an author.
func (s spot) payload(author, typ string) ledger.Payload {
	return ledger.Payload{Author: author, Generation: s.generation, Ledger: s.genesis, Type: typ}
}
