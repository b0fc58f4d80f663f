package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger/keys"
)

func (a *app) agentCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "agent --config FILE",
		Short: "run beside a node: gossip, observe, and enforce what the ledger certified",
		Long: `agent runs a node's agent until it is interrupted. It follows the ledger as
certified, probes and observes the nodes that it is drawn to watch, gossips what
it and others signed, drops whom the ledger or self-proving evidence condemns,
and tells other programs on this machine over a local socket. An unknown key of
the configuration is an error that names its line.

quorate agent init makes the keys, the request to join and the configuration;
quorate agent rekey makes another key for a node that lost its own.`,
		Example: "  quorate agent init edge-7 --operator aurora --genesis genesis --out edge-7\n  quorate agent --config edge-7/edge-7.yaml",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if config == "" {
				return usage("say --config FILE; quorate agent init writes one", "there is no configuration")
			}
			settings, err := readAgentConfig(config)
			if err != nil {
				return err
			}
			logger := logConfig(settings.Log).logger(a.logFile())
			runner, err := a.openAgent(settings, logger, true)
			if err != nil {
				return err
			}
			return runner.Run(c.Context())
		},
	}
	c.Flags().StringVar(&config, "config", "", "the configuration file")
	c.AddCommand(a.agentInitCommand(), a.agentRekeyCommand())
	return c
}

func readAgentConfig(path string) (*agent.Config, error) {
	settings, err := agent.ReadConfig(path)
	var wrong *agent.ConfigError
	if errors.As(err, &wrong) {
		return nil, usage("correct the configuration", "%w", wrong)
	}
	if err != nil {
		return nil, usage("check --config; quorate agent init writes one", "%w", causeOf(err))
	}
	return settings, nil
}

// openAgent opens an agent with its key. alone: it has this process to itself.
func (a *app) openAgent(settings *agent.Config, logger *slog.Logger, alone bool) (*agent.Agent, error) {
	registry := prometheus.NewRegistry()
	if alone {
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	runner, err := agent.New(settings, agent.Options{
		Passphrase: a.passphrase(settings.PassphraseFile, settings.KeyFile),
		Logger:     logger.With(slog.String("node", settings.Name)), Registry: registry,
		Alone: alone && os.Getenv("GOMAXPROCS") == "", // who says how many means it
	})
	if wrong := (*agent.PackError)(nil); errors.As(err, &wrong) {
		return nil, packRefused(settings.JoinPack, err)
	}
	if wrong := (*agent.KeyFileError)(nil); errors.As(err, &wrong) {
		return nil, usage("name the key that quorate agent init or keygen node made for it", "%w", wrong)
	}
	if wrong := (*keys.FileError)(nil); errors.As(err, &wrong) {
		return nil, wrong
	}
	if err != nil {
		return nil, fmt.Errorf("open agent of %s: %w", settings.Name, err)
	}
	return runner, nil
}
