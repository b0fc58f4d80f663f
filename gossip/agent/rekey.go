package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// NewKey is another key for a node, which the ledger has yet to put in force.
type NewKey struct {
	File  *keys.File
	Path  string // of its file
	Plain bool   // it is not encrypted

	seqs  string // the record of what it signs
	store keyFolder
}

// RekeyOptions says how another key is made.
type RekeyOptions struct {
	Operator   string                 // of the node; empty: as a key that is there says
	Plain      bool                   // do not encrypt the file, whatever the others are
	Passphrase func() ([]byte, error) // of the keys that are there: the new one gets it too
	Fresh      func() ([]byte, error) // the new one's, if no key is there that says how
}

// WaitingKeyError says that a key made before waits for its decision still.
type WaitingKeyError struct{ Path string }

func (e *WaitingKeyError) Error() string { return e.Path + " waits to be put in force already" }

// ErrNoRing says that a node has neither keys nor what remembers them: another key would
// never be found.
var ErrNoRing = errors.New("the node's folder has neither a key nor a ring of keys")

// ErrNoOperator says that no key is there that tells the node's operator.
var ErrNoOperator = errors.New("no key is left that says the node's operator")

// Rekey makes another key for a node whose own is lost, over or in other hands, beside
// those, and changes nothing else. The agent, running or started later, takes it into
// use once the ledger has it in force by decision: node.rekey. Until then it goes on with
// the key that it has.
//
// It is a line of its own, whose record of seqs is made with it: it has signed nothing
// but its join.
//
// Errors: *WaitingKeyError, *KeyFileError, *keys.FileError, ErrNoRing, ErrNoOperator, or
// the disk's.
func Rekey(c *Config, o RekeyOptions) (*NewKey, error) {
	v := newVault(c.Dir)
	made := &NewKey{store: keyFolder{folder: folder(v.keysDir()), keyFile: c.KeyFile, ask: o.Passphrase, workFactor: c.KeyWorkFactor}}
	s := &made.store
	last, err := s.last(c)
	defer func() { last.Wipe(); keys.WipeBytes(s.passphrase) }()
	if err != nil {
		return nil, err
	}
	made.File = &keys.File{Name: c.Name, Role: fsm.RoleNode, Operator: o.Operator, Created: time.Now().UnixMilli()}
	switch {
	case last == nil && o.Operator == "":
		return nil, ErrNoOperator
	case last != nil && o.Operator == "":
		made.File.Operator = last.Operator
	case last != nil && o.Operator != last.Operator:
		return nil, fmt.Errorf("the node's key is of operator %s, not of %s", last.Operator, o.Operator)
	}
	switch {
	case o.Plain:
		s.passphrase = nil
	case last == nil:
		if s.passphrase, err = o.Fresh(); err != nil {
			return nil, err
		}
	}
	if made.File.Key, err = keys.Generate(); err != nil {
		return nil, err
	}
	id := ledger.Hash(made.File.Key.ID())
	made.Path, made.Plain, made.seqs = s.at(rekeyName(id)), len(s.passphrase) == 0, v.rekeySeqsPath(id)
	return made, made.keep(c.memoryDir(), id)
}

// last is a key of the node that can be read, the one in use before others; nil if all
// are lost and only the ring remembers them.
func (s *keyFolder) last(c *Config) (*keys.File, error) {
	b, err := s.read(ringName, maxRingBytes)
	r := newRing(ledger.Hash{}) // of key_file alone
	switch {
	case err == nil:
		if r, err = decodeRing(s.path(ringName), b); err != nil {
			return nil, err // the agent makes it anew
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read ring of keys: %w", err)
	}
	remembered := err == nil
	switch path, err := s.waits(r); {
	case err != nil:
		return nil, err
	case path != "":
		return nil, &WaitingKeyError{Path: path}
	}
	names := []string{r.find(r.Active).File}
	for _, k := range r.Keys {
		if k.ID != r.Active && !k.Gone {
			names = append(names, k.File)
		}
	}
	for _, name := range names {
		f, err := s.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Role != fsm.RoleNode || f.Name != c.Name {
			return nil, &KeyFileError{Path: s.at(name), Role: f.Role, Name: f.Name, Want: c.Name}
		}
		return f, nil
	}
	if !remembered {
		return nil, ErrNoRing
	}
	return nil, nil
}

// waits is the file of a key that people made and that the ring has not taken in; "" if
// there is none.
func (s *keyFolder) waits(r *ring) (string, error) {
	names, err := s.files()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	known := map[string]bool{}
	for _, k := range r.Keys {
		known[k.File] = true
	}
	for _, name := range names {
		if strings.HasPrefix(name, rekeyPrefix) && !known[name] {
			return s.at(name), nil
		}
	}
	return "", nil
}

// keep makes the key durable. The record comes first: without it, the key would say
// nothing for two epochs, since it might have signed.
func (n *NewKey) keep(memoryDir string, id ledger.Hash) error {
	if err := os.MkdirAll(string(n.store.folder), 0o700); err != nil {
		return fmt.Errorf("make folder of keys: %w", err)
	}
	if err := CreateSeqs(n.seqs, memoryDir, id, Machine()); err != nil {
		return errors.Join(err, os.Remove(n.seqs))
	}
	// Crash here: a record of a key that nobody has.
	if err := n.store.put(filepath.Base(n.Path), n.File); err != nil {
		return errors.Join(err, n.Remove())
	}
	return nil
}

// Remove takes back a key that nobody has heard of.
func (n *NewKey) Remove() error {
	err := destroyFile(n.Path)
	if removed := os.Remove(n.seqs); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
