package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

var roles = []string{fsm.RoleGovernor, fsm.RoleReplica, fsm.RoleRecovery, fsm.RoleNode}

type keygenFlags struct {
	operator, dir, passphraseFile string
	peer, api                     string
	plain                         bool
	workFactor                    int // log2 of scrypt's N, unless plain
}

// Bounds of --work-factor, and below which it comes with a warning.
const (
	minWorkFactor  = 10
	maxWorkFactor  = 20
	weakWorkFactor = 15
)

// addWorkFactor adds the flag that says how dear guessing a passphrase is.
func addWorkFactor(flags *pflag.FlagSet, factor *int) {
	flags.IntVar(factor, "work-factor", keys.DefaultWorkFactor, "log2 of scrypt's cost for the key file, 10 to 20: 18 takes a second and 256 MiB, each step twice or half of that")
}

// checkWorkFactor refuses one out of bounds, and warns of a weak one.
func (a *app) checkWorkFactor(factor int) error {
	if factor < minWorkFactor || factor > maxWorkFactor {
		return usage("leave --work-factor out", "the work factor %d is not from %d to %d", factor, minWorkFactor, maxWorkFactor)
	}
	if factor < weakWorkFactor {
		a.note("WARNING: a work factor of %d: whoever gets the file guesses its passphrase %d times faster than usual", factor, 1<<(keys.DefaultWorkFactor-factor))
	}
	return nil
}

// newKey is what keygen prints.
type newKey struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Operator string   `json:"operator,omitempty"`
	KeyID    string   `json:"key_id"`
	Words    string   `json:"words"`
	Files    []string `json:"files"`
	Plain    bool     `json:"unencrypted,omitempty"`

	file    *keys.File
	written madeFiles // to be taken back if what the key is for fails
}

func (a *app) keygenCommand() *cobra.Command {
	var f keygenFlags
	c := &cobra.Command{
		Use:   "keygen governor|replica|recovery|node NAME",
		Short: "make a key pair: NAME.key to keep, NAME.pub to give away",
		Long: `keygen makes an ML-DSA-65 key. NAME.key is encrypted with a passphrase (age,
scrypt); NAME.pub holds the public half with its twelve words, which its owner
reads aloud to whoever puts it into a ceremony or a proposal.

A governor's and a replica's key file also holds an age identity (post-quantum);
a replica gets a TLS key and certificate (NAME.tls.key, NAME.tls.crt), which the
ledger pins and which protect its channel only.`,
		Example: `  quorate keygen governor alice --operator aurora
  quorate keygen replica r1 --operator aurora --peer 10.0.0.1:7100 --api https://r1.example:8100
  quorate keygen node edge-7 --operator fjord --insecure-plain`,
		Args:              exactArgs("ROLE", "NAME"),
		ValidArgsFunction: cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error {
			made, err := a.keygen(args[0], args[1], f)
			if err != nil {
				return err
			}
			return a.print(made, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s\n", made.Role, made.Name)
				fmt.Fprintf(w, "  key id  %s\n  words   %s\n", made.KeyID, made.Words)
				fmt.Fprintf(w, "  files   %s\n", strings.Join(made.Files, ", "))
			})
		},
	}
	c.Flags().StringVar(&f.operator, "operator", "", "the operator that it belongs to (not for recovery holders)")
	c.Flags().StringVar(&f.dir, "out", ".", "the directory of the files")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read the new passphrase from this file")
	c.Flags().StringVar(&f.peer, "peer", "", "a replica's address for other replicas, host:port")
	c.Flags().StringVar(&f.api, "api", "", "a replica's API, a URL")
	c.Flags().BoolVar(&f.plain, "insecure-plain", false, "do not encrypt the key file: development only")
	addWorkFactor(c.Flags(), &f.workFactor)
	return aboutFiles(c)
}

func (a *app) keygen(role, name string, f keygenFlags) (*newKey, error) {
	if !slices.Contains(roles, role) {
		return nil, usage("one of "+strings.Join(roles, ", "), "unknown role %q", role)
	}
	if err := ledger.ValidName(name); err != nil {
		return nil, usage("choose another name", "%w", err)
	}
	if role == fsm.RoleRecovery {
		if f.operator != "" {
			return nil, usage("leave --operator out", "a recovery holder belongs to no operator")
		}
	} else if err := ledger.ValidName(f.operator); err != nil {
		return nil, usage("say --operator NAME", "operator: %w", err)
	}
	var passphrase []byte
	if f.plain {
		a.note("WARNING: %s.key is not encrypted (--insecure-plain): for development only", name)
	} else {
		err := a.checkWorkFactor(f.workFactor)
		if err != nil {
			return nil, err
		}
		if passphrase, err = a.newPassphrase(f.passphraseFile, name); err != nil {
			return nil, err
		}
	}
	defer keys.WipeBytes(passphrase)
	return a.writeKey(role, name, f, passphrase)
}

// writeKey makes the key and its files, all of them or none; an empty passphrase writes
// it plain.
func (a *app) writeKey(role, name string, f keygenFlags, passphrase []byte) (made *newKey, err error) {
	file, err := a.generate(role, name, f.operator)
	if err != nil {
		return nil, err
	}
	public, err := file.Public()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(f.dir, name)
	made = &newKey{Name: name, Role: role, Operator: f.operator, KeyID: public.KeyID, Words: public.Words,
		Files: []string{base + ".key", base + ".pub"}, Plain: len(passphrase) == 0, file: file}
	if role == fsm.RoleReplica {
		made.Files = append(made.Files, base+".tls.key", base+".tls.crt")
	}
	for _, path := range made.Files {
		if exists(path) {
			return nil, wrongFile("choose another name or --out, or move it away", "%s: it exists already; it is never overwritten", path)
		}
	}
	written := &made.written
	defer func() {
		if err != nil {
			file.Wipe()
			err = errors.Join(err, written.remove())
		}
	}()
	if err := written.mkdir(f.dir); err != nil {
		return nil, err
	}
	if role == fsm.RoleReplica {
		public.Address, public.API = f.peer, f.api
		if public.TLSPin, err = writeTLS(base, name, written); err != nil {
			return nil, err
		}
	}
	if role == fsm.RoleNode {
		public.Peer = file.Key.PeerKey().Public().(ed25519.PublicKey)
	}
	err = written.add(base+".key", func(path string) error {
		if made.Plain {
			return keys.WriteInsecureFile(path, file)
		}
		return keys.WriteFile(path, file, passphrase, keys.WorkFactor(f.workFactor))
	})
	if err != nil {
		return nil, err
	}
	return made, written.add(base+".pub", func(path string) error { return keys.WritePublicFile(path, public) })
}

func (a *app) generate(role, name, operator string) (*keys.File, error) {
	key, err := keys.Generate()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	file := &keys.File{Name: name, Role: role, Operator: operator, Created: a.now().UnixMilli(), Key: key}
	if role == fsm.RoleGovernor || role == fsm.RoleReplica {
		if file.Identity, _, err = keys.NewIdentity(); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// readKey opens a key file, and asks for its passphrase if it has one.
func (a *app) readKey(path, passphraseFile string) (*keys.File, error) {
	if path == "" {
		path = a.getenv("QUORATE_KEY")
	}
	if path == "" {
		return nil, usage("say --key FILE, or set QUORATE_KEY", "no key file is named")
	}
	var secret []byte
	defer func() { keys.WipeBytes(secret) }()
	ask := a.passphrase(passphraseFile, path)
	return keys.ReadFile(path, func() (_ []byte, err error) {
		secret, err = ask()
		return secret, err
	})
}
