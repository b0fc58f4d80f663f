package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes the man pages; packagers call it.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the man pages into DIR",
		Hidden: true,
		Args:   exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return usage("name a directory that can be written", "make %s: %w", args[0], causeOf(err))
			}
			return writeManPages(c.Root(), args[0])
		},
	}
}

func writeManPages(c *cobra.Command, dir string) error {
	if c.Hidden || c.Name() == "help" {
		return nil
	}
	name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(manPage(c)), 0o644); err != nil {
		return fmt.Errorf("write man page: %w", err)
	}
	for _, child := range c.Commands() {
		if err := writeManPages(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage is the page of one command, in the man macros of groff_man(7).
func manPage(c *cobra.Command) string {
	var b strings.Builder
	dashed := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"quorate\" \"quorate\"\n", strings.ToUpper(dashed))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", dashed, roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(c.UseLine()))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(orText(c.Long, c.Short)))
	flags := func(title string, set *pflag.FlagSet) {
		if !set.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			short := ""
			if f.Shorthand != "" {
				short = "\\-" + f.Shorthand + ", "
			}
			fmt.Fprintf(&b, ".TP\n.B %s\\-\\-%s\n%s\n", short, roff(f.Name), roff(f.Usage))
		})
	}
	flags("OPTIONS", c.NonInheritedFlags())
	flags("COMMON OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	b.WriteString(".SH EXIT STATUS\n0 done; 1 refused by the ledger, or a verification failed; 2 wrong usage or configuration.\n")
	var others []string
	if c.HasParent() {
		others = append(others, fmt.Sprintf("\\fB%s\\fR(1)", strings.ReplaceAll(c.Parent().CommandPath(), " ", "-")))
	}
	for _, child := range c.Commands() {
		if !child.Hidden && child.Name() != "help" {
			others = append(others, fmt.Sprintf("\\fB%s\\fR(1)", strings.ReplaceAll(child.CommandPath(), " ", "-")))
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(others, ", "))
	}
	return b.String()
}

// roff escapes text: backslashes, hyphens, and lines that begin like a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
