package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

const (
	devMaxAgents = 16
	// devAgentOffset is where the agents' ports begin, after the API's ports:
	// each has one for other agents and one for other programs.
	devAgentOffset = 120
	// devOperator is the operator without a governor; aurora's consents for it.
	devOperator = "dune"
)

// devOperators are those whose nodes dev runs.
func devOperators() []string {
	var names []string
	for _, g := range devCouncil {
		names = append(names, g.operator)
	}
	return append(names, devOperator)
}

func devAgentName(i int) string { return fmt.Sprintf("n%d", i+1) }

func devGossip(f *devFlags, i int) string { return devAddress(f.port + devAgentOffset + i) }

func devLocal(f *devFlags, i int) string {
	return devAddress(f.port + devAgentOffset + devMaxAgents + i)
}

// devFoundAgents makes the agents' keys and configurations in dir.
func (a *app) devFoundAgents(f *devFlags, dir string) error {
	operators := devOperators()
	for i := range f.agents {
		flags := &agentInitFlags{
			operator: operators[i%len(operators)], dir: filepath.Join(dir, "agents"), plain: true,
			listen: devGossip(f, i), local: devLocal(f, i), peers: devPeers(f, f.agents, i),
		}
		flags.server.genesis = filepath.Join(dir, "genesis")
		for r := range f.replicas {
			flags.server.servers = append(flags.server.servers, "http://"+devAddress(f.port+r))
		}
		if _, err := a.agentInit(devAgentName(i), flags); err != nil {
			return err
		}
	}
	return nil
}

// devPeers are the agents that one meets first: the next two.
func devPeers(f *devFlags, agents, i int) []string {
	var peers []string
	for step := 1; step <= 2 && step < agents; step++ {
		j := (i + step) % agents
		peers = append(peers, devAgentName(j)+"@"+devGossip(f, j))
	}
	return peers
}

// devAgents reads the configuration of each agent that the folder has, and
// moves it to the ports of this time.
func devAgents(f *devFlags, replicas int) ([]*agent.Config, error) {
	files, err := filepath.Glob(filepath.Join(f.dir, "agents", "n*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("look for agents: %w", err)
	}
	var configs []*agent.Config
	for i := range min(len(files), devMaxAgents) {
		c, err := readAgentConfig(filepath.Join(f.dir, "agents", devAgentName(i)+".yaml"))
		if err != nil {
			return nil, err
		}
		c.Gossip.Listen, c.Local.Listen, c.Gossip.Peers = devGossip(f, i), devLocal(f, i), devPeers(f, len(files), i)
		c.Log.Level, c.API.Servers = f.logLevel, nil
		for r := range replicas {
			c.API.Servers = append(c.API.Servers, "http://"+devAddress(f.port+(i+r)%replicas)) // spread over the replicas
		}
		configs = append(configs, c)
	}
	return configs, nil
}

// devAdmit has the development council admit the agents that the ledger does
// not know yet.
func (a *app) devAdmit(ctx context.Context, f *devFlags, genesis ledger.Hash, configs []*agent.Config) error {
	ctx, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	c, err := client.New(client.Options{Servers: configs[0].API.Servers, Genesis: genesis})
	if err != nil {
		return err
	}
	defer c.Close()
	at := spot{genesis: genesis}
	var joins [][]byte
	ids := struct {
		Joins []ledger.Hash `json:"joins"`
	}{}
	for _, config := range configs {
		if _, _, err := c.VerifiedNode(ctx, config.Name); !errors.Is(err, client.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		file, err := keys.ReadFile(config.KeyFile, nil)
		if err != nil {
			return err
		}
		// Signed anew: the join that was made at the founding expires.
		envelope, err := a.signJoin(file, at)
		if err != nil {
			return err
		}
		st, err := ledger.ParseStatement(envelope)
		if err != nil {
			return err
		}
		joins, ids.Joins = append(joins, envelope), append(ids.Joins, st.ID)
	}
	if len(joins) == 0 {
		return nil
	}
	return a.devDecide(ctx, f, c, at, "node.admit", ids, joins)
}

// devDecide has the whole development council sign an action.
func (a *app) devDecide(ctx context.Context, f *devFlags, c *client.Client, at spot, action string, args any, before [][]byte) error {
	raw, err := canon.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	base, err := c.Base(ctx, action, []byte(raw), client.Read{})
	if err != nil {
		return err
	}
	at.generation = base.Generation
	envelopes := slices.Clone(before)
	var proposal ledger.Hash
	for i, g := range devCouncil {
		file, err := keys.ReadFile(filepath.Join(f.dir, "keys", g.name+".key"), nil)
		if err != nil {
			return err
		}
		typ, body := ledger.TypeApprove, any(ledger.Ballot{Proposal: proposal})
		if i == 0 {
			typ, body = ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base.Base, Memo: "by quorate dev"}
		}
		payload := at.payload(file.Name, typ)
		if i == 0 {
			payload = a.withNonce(payload)
		}
		envelope, err := ledger.Sign(file.Key, payload, body)
		if err != nil {
			return err
		}
		if i == 0 {
			st, err := ledger.ParseStatement(envelope)
			if err != nil {
				return err
			}
			proposal = st.ID
		}
		envelopes = append(envelopes, envelope)
	}
	answer, err := c.Propose(ctx, envelopes, client.WaitCertified)
	if err != nil {
		return rejected(err)
	}
	if answer.Proposal == nil || answer.Proposal.Standing != fsm.ProposalExecuted {
		return fmt.Errorf("%s was not executed", action)
	}
	return nil
}

// devRunAgents admits the agents and runs them until ctx ends.
func (a *app) devRunAgents(ctx context.Context, f *devFlags, genesis ledger.Hash, configs []*agent.Config, ready func()) error {
	if err := a.devAdmit(ctx, f, genesis, configs); err != nil {
		return fmt.Errorf("admit the agents: %w", err)
	}
	done := make(chan error, len(configs))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := 0
	var failed error
	for _, c := range configs {
		runner, err := a.openAgent(c, logConfig(c.Log).logger(a.err), false)
		if err != nil {
			failed = err
			cancel()
			break
		}
		started++
		go func() {
			err := runner.Run(ctx)
			if err != nil && ctx.Err() == nil {
				err = usage("choose another --port, or stop what uses it", "agent %s: %w", c.Name, err)
			}
			done <- err
		}()
	}
	if failed == nil {
		ready()
	}
	for range started {
		if err := <-done; err != nil && failed == nil && ctx.Err() == nil {
			failed = err
			cancel() // the others stop too
		}
	}
	return failed
}

// devAgentsBanner says how to watch them.
func (a *app) devAgentsBanner(f *devFlags, configs []*agent.Config) {
	w := a.out
	fmt.Fprintf(w, "\nagents of %d operators, in %s; each answers programs of this machine\n", min(len(configs), len(devOperators())), filepath.Join(f.dir, "agents"))
	for _, c := range configs {
		fmt.Fprintf(w, "  %-6s http://%s/v1/status\n", c.Name, c.Local.Listen)
	}
	program := devProgram()
	fmt.Fprintf(w, "\nwatch them, in another terminal, with QUORATE_SERVER and QUORATE_GENESIS as above\n")
	fmt.Fprintf(w, "  %s list nodes\n  %s watch --verdicts\n  %s explain node %s\n  %s explain key %s\n", program, program, program, configs[0].Name, program, configs[0].Name)
	fmt.Fprintf(w, "  %s propose node.quarantine name=%s reason=trial --key %s   # then approve it\n", program, configs[len(configs)-1].Name,
		filepath.Join(f.dir, "keys", "alice.key"))
	fmt.Fprintf(w, "  curl http://%s/v1/quarantine\n", configs[0].Local.Listen)
}
