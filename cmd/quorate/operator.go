package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

// operatorCommands are what an operator uses.
func (a *app) operatorCommands() []*cobra.Command {
	return []*cobra.Command{
		a.initCommand(), a.keygenCommand(), a.keyCommand(), a.serverCommand(), a.devCommand(), a.agentCommand(), a.joinPackCommand(), a.joinCommand(), a.operatorCommand(), a.doctorCommand(),
	}
}

type operatorFlags struct{ socket, config string }

func (a *app) operatorCommand() *cobra.Command {
	var f operatorFlags
	c := &cobra.Command{
		Use:   "operator",
		Short: "operate a replica over its local socket",
		Long:  "operator talks to a running server over its unix socket: whoever may open the\nsocket may operate the replica. Nothing here changes the ledger, but for recover,\nwhich needs no server and the governors' signatures.",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return usage("one of snapshot, transfer, peers, forks, debug-bundle, log-key, recover", "say what to do")
		},
	}
	c.PersistentFlags().StringVar(&f.socket, "socket", "", "the server's unix socket")
	c.PersistentFlags().StringVar(&f.config, "config", "", "the server's configuration, which names the socket")
	c.AddCommand(a.snapshotCommand(&f), a.transferCommand(&f), a.peersCommand(&f), a.forksCommand(&f), a.debugBundleCommand(&f), a.logKeyCommand(&f), a.recoverCommand())
	return c
}

// withSocket gives a command its connection to the server's socket.
func (a *app) withSocket(c *cobra.Command, f *operatorFlags, run func(context.Context, *client.OperatorClient) error) error {
	socket := f.socket
	if socket == "" && f.config != "" {
		config, err := a.loadConfig(f.config, nil)
		if err != nil {
			return err
		}
		socket = config.Socket
	}
	if socket == "" {
		return usage("say --socket PATH or --config FILE", "no socket is named")
	}
	o := client.NewOperatorClient(socket)
	defer o.Close()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	err := run(ctx, o)
	var failed *failure
	if errors.As(err, &failed) {
		return err
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return refused("start it with quorate server --config FILE, and ask as the same user", "no server answers on %s: %w", socket, dial.Err)
	}
	return rejected(err)
}

func (a *app) done(what string) error {
	return a.print(client.Done{Done: true}, func(w io.Writer) { fmt.Fprintln(w, what) })
}

func (a *app) snapshotCommand(f *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "snapshot", Short: "take a Raft snapshot now", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) error {
				if err := o.Snapshot(ctx); err != nil {
					return err
				}
				return a.done("a snapshot was taken")
			})
		},
	}
}

func (a *app) transferCommand(f *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "transfer [REPLICA]", Short: "hand the leadership to another replica", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			to := strings.Join(args, "")
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) error {
				err := o.Transfer(ctx, to)
				var problem *client.Problem
				if errors.As(err, &problem) && problem.Code == "not_leader" {
					return refused("ask the leader's own socket; quorate status names the leader", "this replica does not lead, so it has nothing to hand over")
				}
				if err != nil {
					return err
				}
				return a.done("leadership goes to " + orText(to, "the most up-to-date replica"))
			})
		},
	}
}

func (a *app) peersCommand(f *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "what this replica sees of the others", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) error {
				peers, err := o.Peers(ctx)
				if err != nil {
					return err
				}
				return a.print(client.Peers{Peers: peers}, func(w io.Writer) {
					table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
					fmt.Fprintln(table, "REPLICA\tADDRESS\tIN RAFT\tREACHABLE\tCOSIGNED")
					for _, p := range peers {
						fmt.Fprintf(table, "%s\t%s\t%s\t%v\t%d\n", clean(p.Name), p.Address, p.Suffrage, p.Reachable, p.Cosigned)
					}
					_ = table.Flush()
				})
			})
		},
	}
}

func (a *app) debugBundleCommand(f *operatorFlags) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "debug-bundle --out FILE.tar.zst", Short: "write status, metrics and goroutines for a bug report; no key, no statement", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("say --out FILE.tar.zst", "the output file is missing")
			}
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) (err error) {
				file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return usage("name a new file", "write %s: %w", out, causeOf(err))
				}
				defer func() {
					if err = errors.Join(err, file.Close()); err != nil {
						_ = os.Remove(out)
					}
				}()
				if err := o.DebugBundle(ctx, file); err != nil {
					return err
				}
				return a.done("wrote " + out)
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "the file to write")
	return c
}

func (a *app) logKeyCommand(f *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use: "log-key", Short: "make a new log key, to propose it with log.rekey", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) error {
				made, err := o.NewLogKey(ctx)
				if err != nil {
					return err
				}
				return a.print(made, func(w io.Writer) {
					ed25519, _ := made.Ed25519.MarshalText()
					mldsa44, _ := made.MLDSA44.MarshalText()
					fmt.Fprintf(w, "next: quorate propose log.rekey ed25519=%s mldsa44=%s\n", ed25519, mldsa44)
				})
			})
		},
	}
}
