package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

const maxPassphraseBytes = 4 << 10

// passphrase gives the passphrase of an existing key file: from a file, or
// asked for at the terminal. what names the key in the question.
func (a *app) passphrase(file, what string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if file = a.passphraseFile(file); file != "" {
			return readPassphrase(file)
		}
		return a.ask("Passphrase of " + what + ": ")
	}
}

// newPassphrase gives the passphrase of a new key file; at a terminal it is
// asked for twice.
func (a *app) newPassphrase(file, what string) ([]byte, error) {
	if file = a.passphraseFile(file); file != "" {
		return readPassphrase(file)
	}
	first, err := a.ask("New passphrase for " + what + ": ")
	if err != nil {
		return nil, usage("give --passphrase-file FILE, or --insecure-plain on a development ledger", "%w", err)
	}
	if len(first) == 0 {
		return nil, usage("choose one, or say --insecure-plain on a development ledger", "the passphrase is empty")
	}
	second, err := a.ask("Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usage("type it again", "the two passphrases differ")
	}
	return first, nil
}

func (a *app) passphraseFile(file string) string {
	if file == "" {
		return a.getenv("QUORATE_PASSPHRASE_FILE")
	}
	return file
}

func readPassphrase(file string) ([]byte, error) {
	data, err := readBounded(file, maxPassphraseBytes)
	if err != nil {
		return nil, usage("check --passphrase-file", "read passphrase file %s: %w", file, err)
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return nil, usage("write the passphrase into it, on one line", "passphrase file %s is empty", file)
	}
	return data, nil
}

var errNoTerminal = errors.New("there is no terminal to ask for the passphrase")

// ask reads a line from the terminal without showing it.
func (a *app) ask(prompt string) ([]byte, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errNoTerminal
	}
	fmt.Fprint(a.err, prompt)
	defer fmt.Fprintln(a.err)
	secret, err := term.ReadPassword(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	return secret, nil
}

// confirm asks a person to say yes. Without a terminal it reads a line of the
// input, so that a script can answer.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	var answer []byte
	one := make([]byte, 1)
	for len(answer) < 16 {
		n, err := a.in.Read(one)
		if n == 0 || one[0] == '\n' {
			if err != nil && err != io.EOF {
				return false, fmt.Errorf("read answer: %w", err)
			}
			break
		}
		answer = append(answer, one[0])
	}
	switch string(bytes.ToLower(bytes.TrimSpace(answer))) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
