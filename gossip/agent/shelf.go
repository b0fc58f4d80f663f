package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// shelf is the folder of a node's key files, with their ring, and the key file that
// its configuration names, whose name here is "".
type shelf interface {
	disk
	// files lists the key files in the folder.
	files() ([]string, error)
	// put makes a new key file: a crash leaves all of it, none, or, where a file system
	// has no links, an empty one. It is durable when put returned.
	put(name string, f *keys.File) error
	// open reads a key file; the error wraps fs.ErrNotExist if there is none.
	open(name string) (*keys.File, error)
	// wiped reports whether a key file is what a crash in destroy leaves: nothing can be
	// read from it any more.
	wiped(name string) bool
	// destroy overwrites a key file and removes it. None there is no error.
	destroy(name string) error
}

// keyFolder is the shelf that programs use.
type keyFolder struct {
	folder
	keyFile    string     // the configuration's
	node       string     // whose keys they must be; "": anybody's
	first      *keys.File // in its place, in tests
	ask        func() ([]byte, error)
	passphrase []byte // once asked for: the files that are made get it too
	workFactor int    // of scrypt, log2; 0: the default
}

const keySuffix = ".key"

// keyName is the file of a key that the agent made, by its id.
func keyName(id ledger.Hash) string { return id.String()[:16] + keySuffix }

// rekeyName is the file of a key that people made to have it put in force by a
// decision: never announced by the agent.
func rekeyName(id ledger.Hash) string { return rekeyPrefix + keyName(id) }

const rekeyPrefix = "rekey-"

// isCandidate reports whether a file is of a key that the agent made.
func isCandidate(name string) bool {
	stem, ok := strings.CutSuffix(name, keySuffix)
	return ok && len(stem) == 16 && strings.Trim(stem, hexDigits) == ""
}

func (s *keyFolder) at(name string) string {
	if name == "" {
		return s.keyFile
	}
	return s.path(name)
}

func (s *keyFolder) files() ([]string, error) {
	list, err := os.ReadDir(string(s.folder))
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var names []string
	for _, e := range list {
		if strings.HasSuffix(e.Name(), keySuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *keyFolder) put(name string, f *keys.File) error {
	if len(s.passphrase) == 0 {
		return keys.WriteInsecureFile(s.at(name), f)
	}
	var options []keys.Option
	if s.workFactor > 0 {
		options = append(options, keys.WorkFactor(s.workFactor))
	}
	return keys.WriteFile(s.at(name), f, s.passphrase, options...)
}

func (s *keyFolder) open(name string) (*keys.File, error) {
	if name == "" && s.first != nil {
		return s.first, nil
	}
	f, err := keys.ReadFile(s.at(name), s.secret())
	if err == nil && s.node != "" && (f.Role != fsm.RoleNode || f.Name != s.node) {
		return nil, &KeyFileError{Path: s.at(name), Role: f.Role, Name: f.Name, Want: s.node}
	}
	return f, err
}

// secret asks for the passphrase once; nil if there is nobody to ask.
func (s *keyFolder) secret() func() ([]byte, error) {
	if s.ask == nil {
		return nil
	}
	return func() ([]byte, error) {
		if len(s.passphrase) == 0 {
			given, err := s.ask()
			if err != nil {
				return nil, err
			}
			s.passphrase = given
		}
		return slices.Clone(s.passphrase), nil
	}
}

// wipedBytes is so many zeros in a row as no key file has.
const wipedBytes = 64

func (s *keyFolder) wiped(name string) bool {
	f, err := os.Open(s.at(name))
	if err != nil {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDestroyBytes))
	err = errors.Join(err, f.Close())
	return err == nil && (len(b) == 0 || bytes.Contains(b, make([]byte, wipedBytes)))
}

// destroy overwrites what a file system that writes in place keeps. Others, and the
// blocks of an SSD, may still have it: what protects a key there is its passphrase.
func (s *keyFolder) destroy(name string) error {
	if name == "" && s.first != nil {
		s.first = nil
		return nil
	}
	return destroyFile(s.at(name))
}
