package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// founded is what init prints.
type founded struct {
	Genesis   string   `json:"genesis"`
	Words     string   `json:"words"`
	Origin    string   `json:"origin"`
	Governors int      `json:"governors"`
	Replicas  int      `json:"replicas"`
	Threshold int      `json:"cosign_threshold"`
	Faults    int      `json:"faults"`
	Files     []string `json:"files,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`

	record string // ceremony.txt
}

func (a *app) initCommand() *cobra.Command {
	var f ceremonyFile
	var file, out, recovery string
	var operators, council, replicas []string
	var recoveryThreshold uint64
	c := &cobra.Command{
		Use:   "init --ceremony FILE | --origin ORIGIN --council a.pub,… --replicas r1.pub,…",
		Short: "found a ledger: the ceremony that makes its genesis",
		Long: `init builds genesis from public key files. It needs no private key.

It writes into --out: genesis.cbor (entry 0), genesis (its hash, the name of the
ledger), ceremony.txt (the words to compare aloud), log.key.age (the log's key,
sealed to each replica's age recipient) and NAME.yaml for each replica.

Everyone present reads the twelve words of the genesis hash aloud; who hears
others has another genesis.`,
		Example: `  quorate init --ceremony ceremony.yaml --out ledger
  quorate init --origin quorate.example/mesh --council alice.pub,bob.pub,carol.pub \
      --replicas r1.pub,r2.pub,r3.pub,r4.pub --out ledger`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			ceremony := &f
			if file != "" {
				for _, name := range []string{"origin", "operators", "council", "replicas", "recovery", "recovery-threshold"} {
					if c.Flags().Changed(name) {
						return usage("put it into "+file, "--%s and --ceremony exclude each other", name)
					}
				}
				var err error
				if ceremony, err = readCeremony(file); err != nil {
					return err
				}
			} else {
				f.fromFlags(operators, council, replicas, recovery, recoveryThreshold)
			}
			made, err := a.found(ceremony, out)
			if err != nil {
				return err
			}
			return a.print(made, made.text)
		},
	}
	c.Flags().StringVar(&file, "ceremony", "", "a YAML or JSON file with the whole ceremony")
	c.Flags().StringVar(&out, "out", ".", "the directory of the files")
	c.Flags().StringVar(&f.Origin, "origin", "", "the ledger's name for checkpoints, a URL without scheme")
	c.Flags().StringSliceVar(&operators, "operators", nil, "operators as NAME or NAME:SPONSOR (default: those of the keys)")
	c.Flags().StringSliceVar(&council, "council", nil, "public key files of the governors")
	c.Flags().StringSliceVar(&replicas, "replicas", nil, "public key files of the replicas")
	c.Flags().StringVar(&recovery, "recovery", "", "public key files of the recovery holders, with commas")
	c.Flags().Uint64Var(&recoveryThreshold, "recovery-threshold", 0, "how many recovery holders re-seat a lost council")
	return c
}

func (f *ceremonyFile) fromFlags(operators, council, replicas []string, recovery string, threshold uint64) {
	for _, o := range operators {
		name, sponsor, _ := strings.Cut(o, ":")
		f.Operators = append(f.Operators, ceremonyName{Name: name, Sponsor: sponsor})
	}
	f.Council = council
	for _, r := range replicas {
		f.Replicas = append(f.Replicas, ceremonyReplica{Public: r})
	}
	if recovery != "" {
		f.Recovery = &ceremonyRecovery{Threshold: threshold, Holders: strings.Split(recovery, ",")}
	}
}

// found makes genesis and writes what each participant needs.
func (a *app) found(c *ceremonyFile, out string) (*founded, error) {
	g, recipients, err := c.genesis(uint64(a.now().UnixMilli()))
	if err != nil {
		return nil, err
	}
	sealed, public, err := newLogKey(g.Origin, recipients)
	if err != nil {
		return nil, err
	}
	g.Log = public
	entry, err := g.Entry()
	if err != nil {
		return nil, usage("correct the ceremony", "%w", err)
	}
	hash := ledger.LeafHash(entry)
	if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, usage("name a directory that can be written", "make %s: %w", out, causeOf(err))
	}
	made := foundedBy(g, hash)
	write := func(name string, data []byte, mode os.FileMode) error {
		path := filepath.Join(out, name)
		made.Files = append(made.Files, path)
		return writeNew(path, data, mode)
	}
	if err := write("genesis.cbor", entry, 0o644); err != nil {
		return nil, err
	}
	if err := write("genesis", []byte(hash.String()+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := write("log.key.age", sealed, 0o600); err != nil {
		return nil, err
	}
	for i, r := range g.Replicas {
		config, err := replicaConfig(r, out, keyPathOf(c.Replicas, g.Replicas[i].Name))
		if err != nil {
			return nil, err
		}
		if err := write(r.Name+".yaml", config, 0o644); err != nil {
			return nil, err
		}
	}
	return made, write("ceremony.txt", []byte(made.record), 0o644)
}

// foundedBy is what a genesis says of itself, to whoever founds it or was given it.
func foundedBy(g *ledger.Genesis, hash ledger.Hash) *founded {
	return &founded{Genesis: hash.String(), Words: wordsOf(hash), Origin: g.Origin, Governors: len(g.Council),
		Replicas: len(g.Replicas), Threshold: ledger.CosignThreshold(len(g.Replicas)), Faults: ledger.Faults(len(g.Replicas)),
		Warnings: ceremonyWarnings(g), record: ceremonyRecord(g, hash)}
}

// keyPathOf is the key file that belongs to the public key file of a replica.
func keyPathOf(list []ceremonyReplica, name string) string {
	for _, r := range list {
		if p, err := keys.ReadPublicFile(r.Public); err == nil && p.Name == name {
			return strings.TrimSuffix(r.Public, ".pub") + ".key"
		}
	}
	return name + ".key"
}

func (f *founded) text(w io.Writer) {
	fmt.Fprint(w, f.record)
	for _, warning := range f.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n", warning)
	}
	fmt.Fprintf(w, "\nwritten:\n")
	for _, file := range f.Files {
		fmt.Fprintf(w, "  %s\n", file)
	}
	fmt.Fprintf(w, "next: each operator starts its replica with  quorate server --config NAME.yaml\n")
}

// ceremonyWarnings says what a ceremony may want to reconsider.
func ceremonyWarnings(g *ledger.Genesis) []string {
	var list []string
	if n := len(g.Replicas); ledger.Faults(n) == 0 {
		list = append(list, fmt.Sprintf("%d replicas detect a lying one but do not prevent it; four do", n))
	}
	if n := ledger.CouncilOperators(g.Council); n < 3 {
		list = append(list, fmt.Sprintf("the council's governors belong to %d operators; below three, one operator's loss or treason decides", n))
	}
	if g.Recovery == nil {
		list = append(list, "there is no recovery set: a lost council stays lost")
	}
	if len(g.Witnesses) == 0 {
		list = append(list, "there are no witnesses: only endorsed heads stop a Byzantine majority of cosigners")
	}
	return list
}

// ceremonyRecord is the text that participants read to each other.
func ceremonyRecord(g *ledger.Genesis, hash ledger.Hash) string {
	var b strings.Builder
	fmt.Fprintf(&b, "A new ledger: %s\n", g.Origin)
	fmt.Fprintf(&b, "\n  genesis  %s\n  words    %s\n", hash, wordsOf(hash))
	fmt.Fprintf(&b, "\nCouncil (%d governors of %d operators)\n", len(g.Council), ledger.CouncilOperators(g.Council))
	for _, m := range g.Council {
		fmt.Fprintf(&b, "  %-16s of %-16s %s\n", m.Name, m.Operator, wordsOf(m.KeyID()))
	}
	if g.Recovery != nil {
		fmt.Fprintf(&b, "\nRecovery: %d of these %d\n", g.Recovery.Threshold, len(g.Recovery.Holders))
		for _, h := range g.Recovery.Holders {
			fmt.Fprintf(&b, "  %-36s %s\n", h.Name, wordsOf(h.KeyID()))
		}
	}
	n := len(g.Replicas)
	fmt.Fprintf(&b, "\nReplicas (%d; %d certify a head, %d may lie)\n", n, ledger.CosignThreshold(n), ledger.Faults(n))
	for _, r := range g.Replicas {
		fmt.Fprintf(&b, "  %-16s of %-16s %s\n", r.Name, r.Operator, wordsOf(r.KeyID()))
	}
	fmt.Fprintf(&b, "\nThresholds, in distinct operators\n")
	for _, action := range ledger.ActionsOf(g.Format) {
		rule, who := ruleOf(&g.Policy, g.Recovery, action), ""
		if action == actionReseat {
			who = " recovery holders"
		}
		fmt.Fprintf(&b, "  %-18s %d%s%s\n", action, rule.Threshold, who, ruleSuffix(rule))
	}
	return b.String()
}

// wordsOf gives the twelve words of a hash.
func wordsOf(h ledger.Hash) string { return keys.Words([16]byte(h[:16])) }
