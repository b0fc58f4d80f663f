package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command line in the README, in deploy and in the help itself is one of the
// program: its command is there, its flags are, and it has as many arguments as it takes.
func TestExamplesAreOfThisProgram(t *testing.T) {
	seen := 0
	try := func(where, line string) {
		for _, words := range commandLines(line) {
			seen++
			if err := dryParse(words); err != nil {
				t.Errorf("%s: quorate %s: %v", where, strings.Join(words, " "), err)
			}
		}
	}
	top := filepath.Join("..", "..")
	var pages []string
	for _, pattern := range []string{"README.md", "deploy/*.md", "deploy/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range blockLines(string(text)) {
			if line != "" {
				try(fmt.Sprintf("%s:%d", page, i+1), line)
			}
		}
	}
	var help func(c *cobra.Command)
	help = func(c *cobra.Command) {
		for _, line := range strings.Split(strings.ReplaceAll(c.Example, "\\\n", " "), "\n") {
			try(c.CommandPath()+" --help", line)
		}
		for _, child := range c.Commands() {
			help(child)
		}
	}
	help(testApp().rootCommand())
	if seen < 100 {
		t.Errorf("only %d command lines were found", seen)
	}
}

// A command line that is wrong is found to be.
func TestDryParseFindsWhatIsWrong(t *testing.T) {
	for line, wrong := range map[string]bool{
		"quorate key show alice.key":                                     false,
		"FOO=bar quorate key show alice.key   # a comment --x":           false,
		"quorate key show --frobnicate alice.key":                        true,
		"quorate key shw alice.key":                                      true,
		"quorate key show":                                               true,
		"quorate record --text \"a note --frobnicate\" --wait certified": false,
	} {
		lines := commandLines(line)
		if len(lines) != 1 {
			t.Fatalf("%q has %d command lines", line, len(lines))
		}
		if err := dryParse(lines[0]); (err != nil) != wrong {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// blockLines gives the lines of a page that are code, at their places, and "" for others.
func blockLines(text string) []string {
	lines := strings.Split(text, "\n")
	fenced := false
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced, lines[i] = !fenced, ""
			continue
		}
		code := fenced || strings.HasPrefix(line, "    ")
		if !code {
			// Of text, what stands between backquotes.
			var parts []string
			for j, part := range strings.Split(line, "`") {
				if j%2 == 1 && strings.HasPrefix(part, "quorate ") && strings.Contains(part, " --") && !strings.Contains(part, "…") {
					parts = append(parts, part)
				}
			}
			lines[i] = strings.Join(parts, "\n")
			continue
		}
		if strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			lines[i+1] = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i+1])
			lines[i] = ""
		}
	}
	return lines
}

var (
	word      = regexp.MustCompile(`"[^"]*"|'[^']*'|\$\([^)]*\)|[^\s"']+`)
	separator = regexp.MustCompile(`\s(?:&&|\|\||\||;|&)\s`)
	comment   = regexp.MustCompile(`(?:^|\s)#.*$`)
	variable  = regexp.MustCompile(`^[A-Z_]+=`)
)

// commandLines finds the program's in what a shell is given, as words after its name.
func commandLines(text string) [][]string {
	var found [][]string
	for _, line := range strings.Split(text, "\n") {
		line = comment.ReplaceAllString(strings.TrimPrefix(strings.TrimSpace(line), "$ "), "")
		for _, one := range separator.Split(line, -1) {
			words := word.FindAllString(strings.TrimSpace(one), -1)
			for len(words) > 0 && (variable.MatchString(words[0]) || words[0] == "sudo" || words[0] == "exec") {
				words = words[1:]
			}
			if len(words) < 2 || words[0] != "quorate" && words[0] != "bin/quorate" && words[0] != "./bin/quorate" {
				continue
			}
			for i, w := range words {
				words[i] = strings.Trim(w, `"'`)
			}
			found = append(found, words[1:])
		}
	}
	return found
}

// dryParse finds the command and parses its flags and arguments, and runs nothing.
func dryParse(words []string) error {
	for i, w := range words {
		if w == ">" || w == "<" || w == ">>" || w == "2>" {
			words = words[:i]
			break
		}
	}
	c, rest, err := testApp().rootCommand().Find(words)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	args := c.Flags().Args()
	for _, a := range args {
		if a == "…" || a == "..." { // and so on
			return nil
		}
	}
	if c.HasSubCommands() && len(args) > 0 {
		return fmt.Errorf("%s has no command %s", c.CommandPath(), args[0])
	}
	return c.ValidateArgs(args)
}
