package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

const (
	devReplicas    = 4
	devMaxReplicas = 7
	// devPeerOffset is where the peer ports begin, after the API's ports.
	devPeerOffset = 100
	// devPatience is how long dev waits for the first certified head.
	devPatience = time.Minute
)

// devCouncil are the governors of a development ledger: three, of three
// operators, so that two operators decide.
var devCouncil = []struct{ name, operator string }{
	{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"},
}

type devFlags struct {
	dir      string
	port     int
	replicas int
	agents   int
	logLevel string
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use:   "dev --dir DIR --port P",
		Short: "run a whole ledger on this machine, for development",
		Long: `dev founds a ledger in DIR, or resumes the one that is there, and runs all its
replicas in one process: real Raft over pinned mTLS on loopback, each replica
with its own data. Replica i serves its API on 127.0.0.1:P+i in plain HTTP. With
--agents N, N node agents of four operators run beside them: dev's council admits
them, and they gossip over loopback.

The keys in DIR/keys are NOT ENCRYPTED. Never use them for anything else.`,
		Example: "  quorate dev --dir run --port 7400",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if f.dir == "" {
				return usage("say --dir DIR", "the directory is missing")
			}
			return a.dev(c.Context(), &f, c.Flags().Changed("replicas"))
		},
	}
	c.Flags().StringVar(&f.dir, "dir", "", "where everything is kept")
	c.Flags().IntVar(&f.port, "port", 7400, "the API's port of the first replica")
	c.Flags().IntVar(&f.replicas, "replicas", devReplicas, "how many replicas, when the ledger is new")
	c.Flags().IntVar(&f.agents, "agents", 0, "how many agents of four operators, when the ledger is new; n1 has its port at P+120")
	c.Flags().StringVar(&f.logLevel, "log-level", "error", "debug, info, warn or error")
	return c
}

func (a *app) dev(ctx context.Context, f *devFlags, replicasGiven bool) error {
	if f.replicas < 1 || f.replicas > devMaxReplicas {
		return usage(fmt.Sprintf("1 to %d; four is the least of which one may lie", devMaxReplicas), "%d replicas", f.replicas)
	}
	if f.agents < 0 || f.agents > devMaxAgents {
		return usage(fmt.Sprintf("0 to %d", devMaxAgents), "%d agents", f.agents)
	}
	if f.port < 1 || f.port+devAgentOffset+2*devMaxAgents > 65_535 {
		return usage("choose a port from 1024 to 65000", "port %d", f.port)
	}
	resumed := true
	if _, err := os.Stat(filepath.Join(f.dir, "genesis")); err != nil {
		resumed = false
		if err := a.devFound(f); err != nil {
			return err
		}
	}
	configs, err := a.devConfigs(f)
	if err != nil {
		return err
	}
	if resumed && replicasGiven && len(configs) != f.replicas {
		return usage("leave --replicas out, or name another --dir", "the ledger in %s has %d replicas", f.dir, len(configs))
	}
	return a.devRun(ctx, f, configs, resumed)
}

// devPortsFree says which port of the API is in use.
func devPortsFree(f *devFlags) error {
	for i := range f.replicas {
		l, err := net.Listen("tcp", devAddress(f.port+i))
		if err != nil {
			return usage("choose another --port, or stop what uses it", "listen on %s: %w", devAddress(f.port+i), rootOf(err))
		}
		_ = l.Close()
	}
	return nil
}

// devFound makes keys and genesis beside DIR and then gives them its name, so
// that a half-made ledger is never resumed.
func (a *app) devFound(f *devFlags) error {
	if entries, err := os.ReadDir(f.dir); err == nil && len(entries) > 0 {
		return usage("name a new or empty directory", "%s is neither empty nor a development ledger", f.dir)
	}
	if err := devPortsFree(f); err != nil {
		return err // before anything is founded with them
	}
	dir := filepath.Clean(f.dir)
	making := dir + ".making"
	if err := errors.Join(os.RemoveAll(making), os.MkdirAll(making, 0o700)); err != nil {
		return usage("name a directory that can be written", "make %s: %w", dir, err)
	}
	// found prints nothing; the quiet app keeps keygen from warning of each
	// plain key, which dev says once and loudly.
	quiet := *a
	quiet.out, quiet.err = io.Discard, io.Discard
	ceremony := ceremonyFile{Origin: "localhost/quorate-dev"}
	keyDir := filepath.Join(making, "keys")
	for _, g := range devCouncil {
		if _, err := quiet.keygen(fsm.RoleGovernor, g.name, keygenFlags{operator: g.operator, dir: keyDir, plain: true}); err != nil {
			return err
		}
		ceremony.Council = append(ceremony.Council, filepath.Join(keyDir, g.name+".pub"))
	}
	for i := range f.replicas {
		name := fmt.Sprintf("r%d", i)
		flags := keygenFlags{operator: devCouncil[i%len(devCouncil)].operator, dir: keyDir, plain: true,
			peer: devPeer(f.port + devPeerOffset + i), api: "http://" + devAddress(f.port+i)}
		if _, err := quiet.keygen(fsm.RoleReplica, name, flags); err != nil {
			return err
		}
		ceremony.Replicas = append(ceremony.Replicas, ceremonyReplica{Public: filepath.Join(keyDir, name+".pub")})
	}
	if f.agents > 0 {
		for _, name := range devOperators() {
			operator := ceremonyName{Name: name}
			if name == devOperator {
				operator.Sponsor = devCouncil[0].operator
			}
			ceremony.Operators = append(ceremony.Operators, operator)
		}
	}
	if _, err := quiet.found(&ceremony, making); err != nil {
		return err
	}
	if err := quiet.devFoundAgents(f, making); err != nil {
		return err
	}
	warning := "The keys in this folder are NOT ENCRYPTED. They are for development only:\nwhoever reads them can sign as their owner.\n"
	if err := writeNew(filepath.Join(keyDir, "UNENCRYPTED-KEYS.txt"), []byte(warning), 0o644); err != nil {
		return err
	}
	// An empty directory of that name gives way.
	_ = os.Remove(dir)
	if err := os.Rename(making, dir); err != nil {
		return usage("name a directory that can be written", "make %s: %w", dir, err)
	}
	return nil
}

func devAddress(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// devPeer is the wanted peer address, or a free one if it is taken.
func devPeer(port int) string {
	for _, address := range []string{devAddress(port), devAddress(0)} {
		if l, err := net.Listen("tcp", address); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	return devAddress(port)
}

// devConfigs reads the configuration of each replica and moves its API to the
// port that was asked for this time.
func (a *app) devConfigs(f *devFlags) ([]*serverConfig, error) {
	entry, err := readBounded(filepath.Join(f.dir, "genesis.cbor"), ledger.MaxEntryBytes)
	if err != nil {
		return nil, usage("name another --dir", "read %s: %w", f.dir, err)
	}
	g, _, err := ledger.ParseGenesis(entry)
	if err != nil {
		return nil, usage("name another --dir", "read %s: %w", f.dir, err)
	}
	var configs []*serverConfig
	for i, r := range g.Replicas {
		var c serverConfig
		if c, err = a.devConfig(filepath.Join(f.dir, r.Name+".yaml")); err != nil {
			return nil, err
		}
		c.API.Listen = devAddress(f.port + i)
		c.Log.Level = f.logLevel
		if err := c.check(); err != nil {
			return nil, usage("correct it", "%w", err)
		}
		configs = append(configs, &c)
	}
	return configs, nil
}

func (a *app) devConfig(path string) (serverConfig, error) {
	c := defaultServerConfig()
	if err := readYAML(path, &c); err != nil {
		return c, err
	}
	c.settle(filepath.Dir(path))
	return c, nil
}

func (a *app) devRun(ctx context.Context, f *devFlags, configs []*serverConfig, resumed bool) error {
	var servers []*server
	for _, c := range configs {
		logger := c.Log.logger(a.err)
		s, err := a.openServer(ctx, c, logger)
		if err != nil {
			return errors.Join(err, closeServers(servers))
		}
		servers = append(servers, s)
	}
	agents, err := devAgents(f, len(configs))
	if err != nil {
		return errors.Join(err, closeServers(servers))
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, s := range servers {
		group.Go(func() error { return s.run(groupCtx) })
	}
	group.Go(func() error {
		if err := awaitCertified(groupCtx, servers); err != nil {
			return err
		}
		a.devBanner(f, configs, servers, resumed)
		if len(agents) == 0 {
			return nil
		}
		return a.devRunAgents(groupCtx, f, servers[0].ledger(), agents, func() { a.devAgentsBanner(f, agents) })
	})
	err = group.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	if err == nil {
		a.note("stopped; the same command resumes this ledger")
	}
	return err
}

// closeServers lets go of what was opened but never ran.
func closeServers(servers []*server) error {
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	var all error
	for _, s := range servers {
		if err := s.run(stopped); err != nil && !errors.Is(err, context.Canceled) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// awaitCertified waits until every replica is ready and one has a certified
// head.
func awaitCertified(ctx context.Context, servers []*server) error {
	ctx, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	for _, s := range servers {
		for {
			changed := s.replica.Changed()
			if status := s.replica.Status(); status.Ready && status.Certified > 0 {
				break
			}
			select {
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return refused("run it again with --log-level info", "no certified head after %s", devPatience)
				}
				return ctx.Err()
			case <-changed:
			case <-time.After(time.Second): // readiness is not among what Changed tells
			}
		}
	}
	return nil
}

// devProgram is this program as the user called it.
func devProgram() string {
	if len(os.Args) > 0 && strings.Contains(os.Args[0], "/") {
		return os.Args[0]
	}
	return "quorate"
}

func (a *app) devBanner(f *devFlags, configs []*serverConfig, servers []*server, resumed bool) {
	hash := servers[0].ledger()
	var urls []string
	verb := "founded"
	if resumed {
		verb = "resumed"
	}
	w := a.out
	fmt.Fprintf(w, "quorate dev: a ledger of %d replicas, %s in %s\n", len(configs), verb, f.dir)
	fmt.Fprintf(w, "\nendpoints (plain HTTP, because they are loopback)\n")
	for _, c := range configs {
		urls = append(urls, "http://"+c.API.Listen)
		fmt.Fprintf(w, "  %-6s http://%s\n", c.Name, c.API.Listen)
	}
	fmt.Fprintf(w, "\ngenesis %s\n  words %s\n", hash, wordsOf(hash))
	fmt.Fprintf(w, "\nkeys: NOT ENCRYPTED, FOR DEVELOPMENT ONLY\n")
	for _, g := range devCouncil {
		fmt.Fprintf(w, "  %-6s of %-9s %s\n", g.name, g.operator, filepath.Join(f.dir, "keys", g.name+".key"))
	}
	program := devProgram()
	fmt.Fprintf(w, "\nnext, in another terminal\n")
	fmt.Fprintf(w, "  export QUORATE_SERVER=%s QUORATE_GENESIS=%s\n", strings.Join(urls, ","), filepath.Join(f.dir, "genesis"))
	fmt.Fprintf(w, "  %s propose policy.change quota=4096 --key %s\n", program, filepath.Join(f.dir, "keys", "alice.key"))
	fmt.Fprintf(w, "  %s approve ID --key %s      # ID is what propose printed\n", program, filepath.Join(f.dir, "keys", "bob.key"))
	fmt.Fprintf(w, "\nCtrl-C stops it; the same command resumes it.\n")
}
