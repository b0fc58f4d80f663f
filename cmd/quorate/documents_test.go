package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	spanOfCode     = regexp.MustCompile("`((?:[A-Z_]+=[^\\s`]+ )*(?:bin/)?quorate [a-z][^`]*)`")
	lineOfCode     = regexp.MustCompile(`^ {4,}(?:\$ )?(?:[A-Z_]+=\S+ )*(?:bin/)?quorate ([a-z].*)$`)
	endOfCommand   = regexp.MustCompile(`\s(?:#|&&|\||;|>).*$`)
	optionalOfUse  = regexp.MustCompile(`\[[^\[\]]*\]|\([^()]*\)`)
	flagOfCommand  = regexp.MustCompile(`--[a-z][a-z-]*`)
	quotedArgument = regexp.MustCompile(`"[^"]*"`)
	signerArgument = regexp.MustCompile(`(--signer-arg) \S+`)
)

// wrongWith says what the program does not know of a command that a text
// names. Of a whole command also the flags that it can't do without are missed.
func wrongWith(root *cobra.Command, command string, whole bool) string {
	command = signerArgument.ReplaceAllString(quotedArgument.ReplaceAllString(command, "TEXT"), "$1 TEXT")
	command = strings.TrimSpace(endOfCommand.ReplaceAllString(command, ""))
	c, rest, err := root.Find(strings.Fields(command))
	if err != nil {
		return err.Error()
	}
	if c == root {
		return "no such command"
	}
	if c.HasSubCommands() && len(rest) > 0 && regexp.MustCompile(`^[a-z][a-z-]+$`).MatchString(rest[0]) {
		return "no such command of " + c.Name()
	}
	c.InitDefaultHelpFlag()
	for _, flag := range flagOfCommand.FindAllString(strings.Join(rest, " "), -1) {
		if c.Flag(flag[2:]) == nil && c.InheritedFlags().Lookup(flag[2:]) == nil {
			return c.CommandPath() + " has no " + flag
		}
	}
	use := c.Use
	for optionalOfUse.MatchString(use) {
		use = optionalOfUse.ReplaceAllString(use, "")
	}
	if whole && !strings.Contains(use, "|") && !strings.Contains(command, "--help") {
		for _, flag := range flagOfCommand.FindAllString(use, -1) {
			if !strings.Contains(command, flag) {
				return c.CommandPath() + " needs " + flag
			}
		}
	}
	return ""
}

// TestCommandsInDocuments: each command that a document, an example of a
// command's help or a hint names is one that the program has, with its flags.
func TestCommandsInDocuments(t *testing.T) {
	root := (&app{in: bytes.NewReader(nil), out: io.Discard, err: io.Discard, getenv: os.Getenv, environ: os.Environ}).rootCommand()
	looked := 0
	look := func(where, command string, whole bool) {
		looked++
		if why := wrongWith(root, command, whole); why != "" {
			t.Errorf("%s: quorate %s: %s", where, command, why)
		}
	}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "node_modules" || name == "bin" || name == "run" || name == ".git") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if m := lineOfCode.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				look(path, m[1], true)
			}
			for _, m := range spanOfCode.FindAllStringSubmatch(line, -1) {
				_, command, _ := strings.Cut(m[1], "quorate ")
				look(path, command, false)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	documents := looked
	eachCommand(root, func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			if _, command, found := strings.Cut(strings.TrimRight(line, "\n"), "quorate "); found {
				look(c.CommandPath()+" --help", strings.TrimSuffix(command, `\`), !strings.HasSuffix(command, `\`))
			}
		}
	})
	for code, step := range nextSteps {
		for part := range strings.SplitSeq(step, ";") {
			if _, command, found := strings.Cut(part, "quorate "); found {
				command, _, _ = strings.Cut(command, ":")
				command, _, _ = strings.Cut(command, ",")
				look("next step of "+code, command, false)
			}
		}
	}
	if documents < 100 || looked < documents+50 {
		t.Fatalf("looked at %d commands of documents and %d others: too few", documents, looked-documents)
	}
	for _, blind := range []string{"nowhere", "key nowhere", "status --nowhere", "operator debug-bundle --config r1.yaml"} {
		if wrongWith(root, blind, true) == "" {
			t.Errorf("the check takes quorate %s", blind)
		}
	}
}

func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, child := range c.Commands() {
		eachCommand(child, visit)
	}
}
