package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/quorate/quorate/ledger/keys"
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
	if errors.Is(err, errNoTerminal) {
		return nil, usage("give --passphrase-file FILE, or --insecure-plain on a development ledger", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, wrongFile("choose one, or say --insecure-plain on a development ledger", "the passphrase is empty")
	}
	second, err := a.ask("Again: ")
	defer keys.WipeBytes(second)
	if err == nil && !bytes.Equal(first, second) {
		err = wrongFile("type it again", "the two passphrases differ")
	}
	if err != nil {
		keys.WipeBytes(first)
		return nil, err
	}
	return first, nil
}

func (a *app) passphraseFile(file string) string {
	if file == "" {
		return a.getenv("QUORATE_PASSPHRASE_FILE")
	}
	return file
}

// readPassphrase reads one from a file. It is in memory once: where it is read, and in
// what is returned, which is the caller's to wipe.
func readPassphrase(file string) ([]byte, error) {
	held := keys.NewSecret(maxPassphraseBytes + 1)
	defer held.Wipe()
	n, err := readInto(file, held.Bytes())
	if err != nil {
		return nil, wrongFile("check --passphrase-file", "read passphrase file %s: %w", file, err)
	}
	line := bytes.TrimRight(held.Bytes()[:n], "\r\n")
	if len(line) == 0 {
		return nil, wrongFile("write the passphrase into it, on one line", "passphrase file %s is empty", file)
	}
	return bytes.Clone(line), nil
}

// readInto reads a file into room that is larger than it may be.
func readInto(file string, room []byte) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, causeOf(err)
	}
	defer f.Close()
	n, err := io.ReadFull(f, room)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, nil
	case err == nil:
		return 0, fmt.Errorf("larger than %d bytes", len(room)-1)
	}
	return 0, causeOf(err)
}

var errNoTerminal = errors.New("there is no terminal to ask for the passphrase")

// ask reads a line from the terminal without showing it.
func (a *app) ask(prompt string) ([]byte, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errNoTerminal
	}
	shown, err := term.GetState(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	fmt.Fprint(a.err, prompt)
	defer fmt.Fprintln(a.err)
	secret, err := untilInterrupted(func() ([]byte, error) { return term.ReadPassword(int(in.Fd())) })
	if errors.Is(err, context.Canceled) {
		// Whoever reads on has the terminal without echo.
		return nil, errors.Join(err, term.Restore(int(in.Fd()), shown))
	}
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	return secret, nil
}

// untilInterrupted runs what waits for a person, who may interrupt it: then it gives
// context.Canceled at once, and what was run is left waiting for the process to end,
// since nothing ends a read of a terminal.
func untilInterrupted(read func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	done := make(chan answer, 1)
	go func() {
		text, err := read()
		done <- answer{text, err}
	}()
	select {
	case got := <-done:
		return got.text, got.err
	case <-interrupted:
		return nil, context.Canceled
	}
}

// confirm asks a person to say yes. Without a terminal it reads a line of the
// input, so that a script can answer.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, err := untilInterrupted(func() ([]byte, error) { return readLine(a.in, 16) })
	if err != nil {
		return false, fmt.Errorf("read answer: %w", err)
	}
	switch string(bytes.ToLower(bytes.TrimSpace(answer))) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// readLine reads to the end of a line, and nothing of the next, or to the end of the
// input; at most limit bytes.
func readLine(in io.Reader, limit int) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < limit {
		n, err := in.Read(one)
		if n == 0 || one[0] == '\n' {
			if err != nil && err != io.EOF {
				return nil, err
			}
			break
		}
		line = append(line, one[0])
	}
	return line, nil
}
