package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// app is what a command may touch: its streams, the environment and the clock.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	getenv  func(string) string
	environ func() []string
	now     func() time.Time

	output string // "text" or "json"
}

// run is the whole program but for os.Exit. It returns the exit code: 0 done,
// 1 refused or failed, 2 wrong usage or configuration.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the program at once, should stopping hang.
	context.AfterFunc(ctx, stop)
	out := &keptError{w: stdout}
	a := &app{in: stdin, out: out, err: stderr, getenv: os.Getenv, environ: os.Environ, now: time.Now}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = refused("what the command was to do is done; only its output is missing", "write output: %w", causeOf(out.err))
	}
	if err == nil {
		return exitDone
	}
	return a.report(err)
}

// keptError is an output that remembers that it could not be written: a full disk behind
// it must not look like success.
type keptError struct {
	w   io.Writer
	err error
}

func (k *keptError) Write(b []byte) (int, error) {
	n, err := k.w.Write(b)
	if k.err == nil {
		k.err = err
	}
	return n, err
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "quorate",
		Version: versionText(),
		Short:   "the shared ledger of what the operators of a fleet decided",
		Long: `quorate keeps one hash-chained, certified ledger of the decisions that the
operators of a fleet sign together. Governors propose and approve, replicas
order and cosign, and anyone verifies the export offline from the genesis hash.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if holdsKeys(c) && a.getenv("QUORATE_DUMPABLE") != "1" {
				keepMemoryPrivate()
			}
			if a.output != "text" && a.output != "json" {
				return usage("say --output text or --output json", "unknown output %q", a.output)
			}
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "text or json")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Sprintf("see %s --help", c.CommandPath()), "%w", err)
	})
	root.AddGroup(
		&cobra.Group{ID: groupGovern, Title: "Governors:"},
		&cobra.Group{ID: groupRead, Title: "Everyone:"},
		&cobra.Group{ID: groupAudit, Title: "Auditors:"},
		&cobra.Group{ID: groupOperate, Title: "Operators:"},
	)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupGovern, a.governorCommands()},
		{groupRead, a.readerCommands()},
		{groupAudit, a.auditorCommands()},
		{groupOperate, a.operatorCommands()},
	} {
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.versionCommand(), a.manCommand())
	return root
}

// holdsKeys says whether a command is one of those that have private keys in
// memory for long, or that are about nothing else. QUORATE_DUMPABLE=1 lets a
// debugger or profiler of the same user look at it all the same.
func holdsKeys(c *cobra.Command) bool {
	path := strings.Fields(c.CommandPath())
	return len(path) > 1 && (path[1] == "key" || path[1] == "server" || path[1] == "agent")
}

// The groups of the help text, by who uses the commands.
const (
	groupGovern  = "govern"
	groupRead    = "read"
	groupAudit   = "audit"
	groupOperate = "operate"
)

// exactArgs is cobra.ExactArgs with an error that says what is wanted.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usage(fmt.Sprintf("usage: %s", c.UseLine()), "want %d arguments %v, got %d", len(names), names, len(args))
	}
}

// minArgs asks for at least n arguments.
func minArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return usage(fmt.Sprintf("usage: %s", c.UseLine()), "want %s", what)
	}
}

// print writes v as JSON, or what text writes.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.output != "json" {
		text(a.out)
		return nil
	}
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// note writes a line for the person at the terminal, beside the output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.err, format+"\n", args...)
}

// report writes the error and the next step, and returns the exit code.
func (a *app) report(err error) int {
	f := asFailure(err)
	if errors.Is(err, context.Canceled) && f.next == "" {
		f.next = "it was interrupted; nothing more was done"
	}
	if a.output == "json" {
		e := json.NewEncoder(a.err)
		e.SetEscapeHTML(false)
		_ = e.Encode(map[string]any{"code": f.code, "error": f.cause.Error(), "exit": f.exit, "next": f.next})
		return f.exit
	}
	// Both may repeat what a file, a server or another program said.
	fmt.Fprintf(a.err, "quorate: %s\n", cleanLines(f.cause.Error()))
	if f.next != "" {
		fmt.Fprintf(a.err, "  next: %s\n", cleanLines(f.next))
	}
	return f.exit
}
