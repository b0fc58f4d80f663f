package agent

import (
	"fmt"
	"os"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// identity is the keys with which this node may sign, and the record of their seqs: the
// key in force, during a rotation its successor, and for a while the one before, since
// a view of before may still be in use. Which of them signs the certified view says
// (sender.sign). It never changes; the rotator puts another in its place, as a whole:
// no key of one line takes a seq of another.
type identity struct {
	active ledger.Hash          // as the ring has it
	line   map[ledger.Hash]bool // the keys that share its seqs
	held   map[ledger.Hash]*keys.PrivateKey
	spare  *keys.PrivateKey // that people made to take the place of a lost one; nil: there is none
	seqs   *Seqs
}

// key is nil if this node has not that one.
func (i *identity) key(id ledger.Hash) *keys.PrivateKey { return i.held[id] }

// ours reports whether a key is or was one of ours, whose seqs we count on.
func (i *identity) ours(id ledger.Hash) bool { return i.line[id] }

// any is the active key, or, if that one is lost, the one that is to take its place.
func (i *identity) any() *keys.PrivateKey {
	if k := i.held[i.active]; k != nil {
		return k
	}
	return i.spare
}

func newIdentity(k *keyring, seqs *Seqs) *identity {
	i := &identity{active: k.ring.Active, seqs: seqs, line: map[ledger.Hash]bool{}, held: map[ledger.Hash]*keys.PrivateKey{}}
	for _, of := range k.ring.lineage() {
		i.line[of.ID] = true
	}
	for id, f := range k.held {
		switch {
		case i.line[id]:
			i.held[id] = f.Key
		case k.ring.find(id) == nil:
			i.spare = f.Key
		}
	}
	return i
}

// KeyFileError says that a key file is another's.
type KeyFileError struct {
	Path       string
	Role, Name string // as it stands there
	Want       string // the node's name
}

func (e *KeyFileError) Error() string {
	return fmt.Sprintf("%s is the key of the %s %s, not of the node %s", e.Path, e.Role, e.Name, e.Want)
}

// openKeys opens the node's keys. A successor that took effect while the agent was off
// is turned to by the rotator.
func (a *Agent) openKeys(o *Options) error {
	dir := a.store.keysDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	shelf := &keyFolder{folder: folder(dir), keyFile: a.config.KeyFile, ask: o.Passphrase, workFactor: a.config.KeyWorkFactor, node: a.config.Name}
	if o.Key != nil {
		shelf.first = &keys.File{Name: a.config.Name, Role: fsm.RoleNode, Key: o.Key}
	}
	ring, err := openKeyring(shelf)
	if err != nil {
		return fmt.Errorf("open keys: %w", err)
	}
	if ring.fail != nil {
		a.logger.Warn("the ring of keys is not as it should be", "error", ring.fail)
		a.trouble.set(troubleKey, ring.fail)
	}
	a.keyring = ring
	seqs, err := a.openSeqs(ring.ring.Line)
	if err != nil {
		return err
	}
	a.identity.Store(newIdentity(ring, seqs))
	return nil
}

// openSeqs opens the record of seqs of a line.
func (a *Agent) openSeqs(line ledger.Hash) (*Seqs, error) {
	seqs, err := OpenSeqs(a.store.seqsPath(line), a.config.memoryDir(), line, Machine())
	if err != nil {
		return nil, err
	}
	if err := seqs.failure; err != nil {
		a.trouble.set(troubleDisk, err)
	}
	return seqs, nil
}
