package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
)

type agentRekeyFlags struct {
	config, out, operator string
	generation            uint64
	plain                 bool
}

// rekeyed is what agent rekey prints.
type rekeyed struct {
	Name     string   `json:"name"`
	Operator string   `json:"operator"`
	KeyID    string   `json:"key_id"`
	Words    string   `json:"words"`
	PeerKey  string   `json:"peer_key"` // Ed25519, hex
	Join     string   `json:"join"`     // statement id
	Files    []string `json:"files"`
	Plain    bool     `json:"unencrypted,omitempty"`

	config, joinFile string
}

func (a *app) agentRekeyCommand() *cobra.Command {
	var f agentRekeyFlags
	c := &cobra.Command{
		Use:   "rekey --config FILE",
		Short: "make another key for a node whose own is lost, over or stolen",
		Long: `agent rekey makes what a node needs to get another key by decision: a key file in
the keys folder of its agent, protected as the key that is there, and a join, which
the new key signs. It needs no network, and changes nothing else: the agent goes on
with the key that it has, if it has one.

A governor proposes node.rekey with the join. Once the ledger has the new key in
force, the agent takes it into use by itself, with a peer key and seqs of its own;
it need not be stopped. Run this as the user whom the agent runs as. A key file that
is damaged is moved away first.`,
		Example: `  quorate agent rekey --config edge-7/edge-7.yaml --out edge-7.join.cose
  quorate propose node.rekey join=@edge-7.join.cose --key alice.key`,
		Args: exactArgs(),
		RunE: func(_ *cobra.Command, _ []string) error {
			made, err := a.agentRekey(&f)
			if err != nil {
				return err
			}
			return a.print(made, made.text)
		},
	}
	c.Flags().StringVar(&f.config, "config", "", "the agent's configuration file")
	c.Flags().StringVar(&f.out, "out", "", "the file of the join (default: NAME-KEY.join.cose beside the configuration)")
	c.Flags().StringVar(&f.operator, "operator", "", "the operator that the node belongs to, if no key is left that says so")
	c.Flags().BoolVar(&f.plain, "insecure-plain", false, "do not encrypt the key file: development only")
	c.Flags().Uint64Var(&f.generation, "generation", 0, "the ledger's generation, after a recovery")
	return c
}

func (a *app) agentRekey(f *agentRekeyFlags) (*rekeyed, error) {
	if f.config == "" {
		return nil, usage("say --config FILE, as the agent is started with", "there is no configuration")
	}
	settings, err := readAgentConfig(f.config)
	if err != nil {
		return nil, err
	}
	genesis, err := ledger.ParseHash(settings.Genesis)
	if err != nil {
		return nil, usage("correct genesis in the configuration", "%s: genesis: %w", f.config, err)
	}
	if f.out != "" && exists(f.out) {
		return nil, refused("nothing is ever overwritten: name another, or move it away", "%s exists", f.out)
	}
	if info, err := os.Stat(filepath.Dir(f.joinFile(settings, ledger.Hash{}))); err != nil || !info.IsDir() {
		return nil, refused("name a file in a directory that is there", "write %s: there is no such directory", f.out)
	}
	if f.operator != "" {
		if err := ledger.ValidName(f.operator); err != nil {
			return nil, usage("say --operator NAME", "operator: %w", err)
		}
	}
	made, err := agent.Rekey(settings, agent.RekeyOptions{
		Operator: f.operator, Plain: f.plain,
		Passphrase: a.passphrase(settings.PassphraseFile, settings.KeyFile),
		Fresh:      func() ([]byte, error) { return a.newPassphrase(settings.PassphraseFile, settings.Name) },
	})
	if err != nil {
		return nil, rekeyRefused(settings, err)
	}
	defer made.File.Wipe()
	if made.Plain {
		a.note("WARNING: %s is not encrypted: for development only", made.Path)
	}
	id := made.File.Key.ID()
	out := &rekeyed{Name: settings.Name, Operator: made.File.Operator, KeyID: id.String(), Words: id.Words(),
		PeerKey: hexOf(made.File.Key.PeerKey().Public().(ed25519.PublicKey)), Plain: made.Plain,
		config: f.config, joinFile: f.joinFile(settings, ledger.Hash(id))}
	out.Files = []string{made.Path, out.joinFile}
	if out.Join, err = a.rekeyJoin(made, out.joinFile, spot{genesis: genesis, generation: f.generation}); err != nil {
		// Nobody has heard of the key: nothing is left of it.
		return nil, errors.Join(asRefusal(err), made.Remove())
	}
	return out, nil
}

// joinFile is where the join of a key goes.
func (f *agentRekeyFlags) joinFile(settings *agent.Config, id ledger.Hash) string {
	if f.out != "" {
		return f.out
	}
	return filepath.Join(filepath.Dir(f.config), settings.Name+"-"+id.String()[:8]+".join.cose")
}

// rekeyJoin signs and writes the join of a key, and gives its id.
func (a *app) rekeyJoin(made *agent.NewKey, path string, at spot) (string, error) {
	envelope, err := a.signJoin(made.File, at)
	if err != nil {
		return "", err
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return "", err
	}
	return st.ID.String(), writeStatements(path, [][]byte{envelope})
}

// rekeyRefused says what to do about a node that gets no other key here.
func rekeyRefused(settings *agent.Config, err error) error {
	var waits *agent.WaitingKeyError
	var foreign *agent.KeyFileError
	switch {
	case errors.As(err, &waits):
		return refused(fmt.Sprintf("have it put in force: quorate join --key %s makes its join again; or remove it, if nobody is to decide on it any more", waits.Path), "%w", err)
	case errors.As(err, &foreign):
		return refused("name the key of this node in key_file", "%w", err)
	case errors.Is(err, agent.ErrNoRing):
		return refused("quorate agent init makes all of it anew, and quorate propose node.rekey puts that key in force", "%s: %w", settings.Dir, err)
	case errors.Is(err, agent.ErrNoOperator):
		return refused("say --operator NAME", "%w", err)
	}
	return asRefusal(err)
}

func (r *rekeyed) text(w io.Writer) {
	fmt.Fprintf(w, "another key for node %s of %s\n  key id  %s\n  words   %s\n  peer    %s\n  join    %s\n  files   %s\n",
		r.Name, r.Operator, r.KeyID, r.Words, r.PeerKey, r.Join, strings.Join(r.Files, ", "))
	fmt.Fprintf(w, "next: read the words to a governor and give them %s, who puts the key in force; a stolen one is revoked from an epoch on by from=EPOCH:\n", r.joinFile)
	fmt.Fprintf(w, "      quorate propose node.rekey join=@%s --key GOVERNOR.key\n", r.joinFile)
	fmt.Fprintf(w, "then: the agent takes it into use by itself; if it does not run: quorate agent --config %s\n", r.config)
}
