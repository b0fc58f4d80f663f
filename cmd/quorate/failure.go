package main

import (
	"context"
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
	file  bool   // of what a file or passphrase holds, or of where a file is to go
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

// wrongFile is a failure of what a file or a passphrase holds, or of where a file is to
// go. Commands that are about key files exit with 1 for it (asRefusal), all others with
// 2, since elsewhere a file is named by a flag or the configuration.
func wrongFile(next, format string, args ...any) error {
	return &failure{exit: exitUsage, file: true, cause: fmt.Errorf(format, args...), next: next}
}

// asRefusal makes of a failure of a file one that exits with 1; what is wrong with the
// flags stays what it is.
func asRefusal(err error) error {
	if err == nil {
		return nil
	}
	f := asFailure(err)
	if !f.file {
		return err
	}
	return &failure{exit: exitRefused, code: f.code, cause: err, next: f.next}
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
		return &failure{exit: f.exit, file: f.file, code: f.code, cause: err, next: f.next}
	}
	var file *keys.FileError
	if errors.As(err, &file) {
		return &failure{exit: exitUsage, file: true, cause: err, next: keyFileStep(file)}
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
	switch {
	case errors.Is(e.Err, errNoTerminal):
		return "give --passphrase-file FILE"
	case errors.Is(e.Err, context.Canceled):
		return "" // interrupted, says report
	}
	if errors.Is(e.Err, fs.ErrNotExist) && e.What == "" {
		return "check the path; quorate keygen makes key files"
	}
	if e.Remedy == "" {
		return "check the path, and who may read it"
	}
	return ""
}
