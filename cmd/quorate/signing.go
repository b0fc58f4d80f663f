package main

import (
	"crypto/rand"
	"time"

	"github.com/spf13/pflag"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// signFlags say with which key, and what becomes of what was signed.
type signFlags struct {
	key, passphraseFile string
	memo                string
	out                 string
	yes                 bool
	wait                string
}

func (f *signFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.key, "key", "", "the key file to sign with (or QUORATE_KEY)")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "read its passphrase from this file (or QUORATE_PASSPHRASE_FILE)")
	flags.StringVar(&f.memo, "memo", "", "a note that is signed with it")
	flags.StringVar(&f.out, "out", "", "write what was signed to this file instead of submitting it")
	flags.BoolVarP(&f.yes, "yes", "y", false, "sign without asking")
	addWait(flags, &f.wait)
}

func addWait(flags *pflag.FlagSet, wait *string) {
	flags.StringVar(wait, "wait", "committed", "committed (Raft's majority has it) or certified (a certified head covers it)")
}

// lifetime is how long a proposal, record or join may wait to be submitted.
// The ledger takes at most 30 days; the margin is for a clock that is ahead.
const lifetime = 29 * 24 * time.Hour

// spot is where a statement belongs: a ledger and its generation.
type spot struct {
	genesis    ledger.Hash
	generation uint64
}

// payload begins a statement of an author.
func (s spot) payload(author, typ string) ledger.Payload {
	return ledger.Payload{Author: author, Generation: s.generation, Ledger: s.genesis, Type: typ}
}

// withNonce adds the replay protection of proposals, records and joins.
func (a *app) withNonce(p ledger.Payload) ledger.Payload {
	p.Nonce = make([]byte, 16)
	// crypto/rand.Read never fails (Go 1.24 and later).
	_, _ = rand.Read(p.Nonce)
	p.Expires = uint64(a.now().Add(lifetime).UnixMilli())
	return p
}

// governorKey opens the key of someone who governs.
func (a *app) governorKey(f *signFlags) (*keys.File, error) {
	file, err := a.readKey(f.key, f.passphraseFile)
	if err != nil {
		return nil, err
	}
	if file.Role != fsm.RoleGovernor && file.Role != fsm.RoleRecovery {
		return nil, usage("sign with a governor's key file", "%s is the key of the %s %s, who does not govern", f.key, file.Role, file.Name)
	}
	return file, nil
}
