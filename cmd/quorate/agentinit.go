package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

type agentInitFlags struct {
	server         serverFlags
	operator, dir  string
	listen, local  string
	peers          []string
	joinPack       string
	passphraseFile string
	plain          bool
	generation     uint64
	workFactor     int
}

// newAgent is what agent init prints.
type newAgent struct {
	Name     string   `json:"name"`
	Operator string   `json:"operator"`
	KeyID    string   `json:"key_id"`
	Words    string   `json:"words"`
	PeerKey  string   `json:"peer_key"` // Ed25519, hex
	Join     string   `json:"join"`     // statement id
	Ledger   string   `json:"ledger"`
	Config   string   `json:"config"`
	Files    []string `json:"files"`
	Plain    bool     `json:"unencrypted,omitempty"`

	base, joinFile string
}

func (a *app) agentInitCommand() *cobra.Command {
	var f agentInitFlags
	c := &cobra.Command{
		Use:   "init NAME --operator OPERATOR",
		Short: "make a node's key, its request to join, and its agent's configuration",
		Long: `agent init makes what a new node needs: NAME.key (ML-DSA-65; its Ed25519 peer key
follows from it), NAME.pub, NAME.join.cose, the statement that asks to be
admitted, and NAME.yaml, the agent's configuration with a comment for each key.
It needs no network and never overwrites a file. Give genesis.cbor rather than its
hash where the replicas have no certificates but their own: it names their TLS keys.

A governor admits the node alone or in a batch:
quorate propose node.admit --joins DIR, where DIR holds the join files.`,
		Example: `  quorate agent init edge-7 --operator aurora --genesis genesis --out edge-7 --server https://r1.example:8100
  quorate agent init edge-8 --operator aurora --join-pack fleet.pack --listen 10.0.0.8:7500 --peer edge-7@10.0.0.7:7500`,
		Args: exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			made, err := a.agentInit(args[0], &f)
			if err != nil {
				return err
			}
			return a.print(made, made.text)
		},
	}
	f.server.addGenesis(c.Flags())
	c.Flags().StringSliceVar(&f.server.servers, "server", nil, "URLs of the replicas that the agent follows, with commas (or QUORATE_SERVER)")
	c.Flags().StringSliceVar(&f.server.pins, "tls-pin", nil, "SHA-256 of the servers' TLS keys, hex")
	c.Flags().StringVar(&f.server.caFile, "ca-file", "", "CA certificates of the servers, PEM")
	c.Flags().StringVar(&f.operator, "operator", "", "the operator that the node belongs to")
	c.Flags().StringVar(&f.dir, "out", ".", "the directory of the files")
	c.Flags().StringVar(&f.listen, "listen", "0.0.0.0:7500", "where other agents reach it, host:port")
	c.Flags().StringVar(&f.local, "local-listen", "", "where other programs of this machine ask it, on loopback (default: a unix socket)")
	c.Flags().StringSliceVar(&f.peers, "peer", nil, "agents to meet first, name@host:port, with commas")
	c.Flags().StringVar(&f.joinPack, "join-pack", "", "start from this join pack: a recent head that governors endorsed")
	c.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "read the new passphrase from this file, and name it in the configuration")
	c.Flags().BoolVar(&f.plain, "insecure-plain", false, "do not encrypt the key file: development only")
	addWorkFactor(c.Flags(), &f.workFactor)
	c.Flags().Uint64Var(&f.generation, "generation", 0, "the ledger's generation, after a recovery")
	return c
}

func (a *app) agentInit(name string, f *agentInitFlags) (*newAgent, error) {
	genesis, err := a.agentGenesis(f)
	if err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return nil, usage("say --listen host:port", "--listen: want host:port, got %q", f.listen)
	}
	if f.local != "" && !isLoopback(f.local) {
		return nil, usage("leave --local-listen out for a unix socket", "--local-listen: %s is not loopback, and nobody is asked who they are there", f.local)
	}
	for _, peer := range f.peers {
		if _, err := agent.ParsePeer(peer); err != nil {
			return nil, usage("say --peer name@host:port", "--peer: %w", err)
		}
	}
	if err := ledger.ValidName(name); err != nil {
		return nil, usage("choose another name", "%w", err)
	}
	made := &newAgent{Name: name, Operator: f.operator, Ledger: genesis.String(), Plain: f.plain, base: filepath.Join(f.dir, name)}
	for _, ending := range []string{".key", ".pub", ".join.cose", ".yaml", ".state"} {
		made.Files = append(made.Files, made.base+ending)
	}
	made.Config, made.joinFile = made.base+".yaml", made.base+".join.cose"
	for _, path := range made.Files {
		// Before anything is made, so that nothing is half made.
		if exists(path) {
			return nil, usage("nothing is ever overwritten: name another --out, or move it away", "%s exists", path)
		}
	}
	config, err := a.agentConfig(name, genesis, f)
	if err != nil {
		return nil, err
	}
	return made, a.makeAgent(made, config, f, spot{genesis: genesis, generation: f.generation})
}

// makeAgent makes what a new agent needs, all of it or nothing. Nobody has heard of the
// key before all is there, so that a failure may take it back: it is enrolled nowhere.
// Crash in between: what is there is in the way of the next try, which names it.
func (a *app) makeAgent(made *newAgent, config []byte, f *agentInitFlags, at spot) (err error) {
	key, err := a.keygen(fsm.RoleNode, made.Name, keygenFlags{operator: f.operator, dir: f.dir, passphraseFile: f.passphraseFile, plain: f.plain, workFactor: f.workFactor})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, key.written.remove())
		}
	}()
	defer key.file.Wipe()
	made.KeyID, made.Words = key.KeyID, key.Words
	err = key.written.add(made.joinFile, func(string) error { return a.agentJoin(made, key.file, at) })
	if err != nil {
		return err
	}
	if err := key.written.mktree(made.base + ".state"); err != nil {
		return err
	}
	// The key is new, so that the agent need not ask itself what it has signed.
	if err := agent.Prepare(made.base+".state", agent.MemoryDir(), key.file.Key); err != nil {
		return usage("name a directory that can be written", "make %s: %w", made.base+".state", causeOf(err))
	}
	return key.written.add(made.Config, func(path string) error { return writeNew(path, config, 0o644) })
}

// agentGenesis is the ledger that the agent is to follow.
func (a *app) agentGenesis(f *agentInitFlags) (ledger.Hash, error) {
	if f.joinPack == "" {
		trusted, err := a.requireGenesis(f.server.genesis)
		if err != nil {
			return ledger.Hash{}, err
		}
		f.pinReplicas(trusted, a.servers(&f.server))
		return trusted.hash, nil
	}
	pack, report, err := a.readPack(f.joinPack, &f.server)
	if err != nil {
		return ledger.Hash{}, err
	}
	if report, err = pack.Verify(report.Genesis); err == nil {
		err = report.Recent(uint64(a.now().UnixMilli()), ledger.MaxEndorsedAgeMillis)
	}
	if err != nil {
		return ledger.Hash{}, packRefused(f.joinPack, err)
	}
	a.note("note: it starts from the head of size %d, endorsed by %s; compare with a governor of today: %s",
		report.Head.Size, strings.Join(report.Operators, ", "), wordsOf(report.Head.Root))
	return report.Genesis, nil
}

// pinReplicas takes the TLS keys that the agent expects of its servers from entry
// 0, unless others are given: it follows them from there as replicas change theirs.
func (f *agentInitFlags) pinReplicas(trusted *pinned, servers []string) {
	https := slices.ContainsFunc(servers, func(s string) bool { return strings.HasPrefix(s, "https:") })
	if trusted.genesis == nil || !https || f.server.caFile != "" || len(f.server.pins) > 0 {
		return
	}
	for _, r := range trusted.genesis.Replicas {
		f.server.pins = append(f.server.pins, r.TLSPin.String())
	}
}

// agentJoin signs the request to join with the key just made.
func (a *app) agentJoin(made *newAgent, file *keys.File, at spot) error {
	envelope, err := a.signJoin(file, at)
	if err != nil {
		return err
	}
	if err := writeStatements(made.joinFile, [][]byte{envelope}); err != nil {
		return err
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return err
	}
	made.Join, made.PeerKey = st.ID.String(), hexOf(file.Key.PeerKey().Public().(ed25519.PublicKey))
	return nil
}

// signJoin signs a node's statement that it asks to be admitted.
func (a *app) signJoin(file *keys.File, at spot) ([]byte, error) {
	body := ledger.Join{Name: file.Name, Operator: file.Operator, Public: file.Key.Public().Bytes(),
		Peer: file.Key.PeerKey().Public().(ed25519.PublicKey)}
	return ledger.Sign(file.Key, a.withNonce(at.payload(file.Name, ledger.TypeJoin)), body)
}

func (n *newAgent) text(w io.Writer) {
	fmt.Fprintf(w, "node %s of %s\n  key id  %s\n  words   %s\n  peer    %s\n  join    %s\n  ledger  %s\n  files   %s\n",
		n.Name, n.Operator, n.KeyID, n.Words, n.PeerKey, n.Join, n.Ledger, strings.Join(n.Files, ", "))
	fmt.Fprintf(w, "next: read the words to a governor and give them %s, who admits it, alone or with others:\n", n.joinFile)
	fmt.Fprintf(w, "      quorate propose node.admit --joins DIR --key GOVERNOR.key   # DIR holds the join files\n")
	fmt.Fprintf(w, "then: quorate agent --config %s\n", n.Config)
}
