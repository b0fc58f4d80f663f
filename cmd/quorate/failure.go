package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The exit codes, which scripts rely on.
const (
	exitDone    = 0
	exitRefused = 1 // the ledger refused it, or a verification failed
	exitUsage   = 2 // wrong usage or configuration
)

// failure is an error with its exit code and what to do about it.
type failure struct {
	exit  int
	code  string // of the rules, when it is a rejection
	cause error
	next  string
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// usage is a failure of how the program was called or configured.
func usage(next, format string, args ...any) error {
	return &failure{exit: exitUsage, cause: fmt.Errorf(format, args...), next: next}
}

// refused is a failure of what was asked for.
func refused(next, format string, args ...any) error {
	return &failure{exit: exitRefused, cause: fmt.Errorf(format, args...), next: next}
}

// asFailure gives any error an exit code and, where the kind of error tells
// it, a next step.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return &failure{exit: f.exit, code: f.code, cause: err, next: f.next}
	}
	var file *keys.FileError
	if errors.As(err, &file) {
		return &failure{exit: exitUsage, cause: err, next: keyFileStep(file)}
	}
	var st *ledger.StatementError
	if errors.As(err, &st) {
		return &failure{exit: exitRefused, code: st.Code, cause: err, next: "quorate inspect FILE shows what a statement file holds"}
	}
	if text := err.Error(); strings.HasPrefix(text, "unknown command") || strings.HasPrefix(text, "required flag") {
		return &failure{exit: exitUsage, cause: err, next: "see quorate --help"}
	}
	return &failure{exit: exitRefused, cause: err}
}

func keyFileStep(e *keys.FileError) string {
	if errors.Is(e, keys.ErrPassphrase) {
		return "check the passphrase file, or leave it out to be asked"
	}
	// The passphrase itself could not be had, and that knows its step.
	var f *failure
	if errors.As(e.Err, &f) {
		return f.next
	}
	if errors.Is(e.Err, errNoTerminal) {
		return "give --passphrase-file FILE"
	}
	if errors.Is(e.Err, fs.ErrNotExist) {
		return "check --key; quorate keygen makes key files"
	}
	return ""
}
