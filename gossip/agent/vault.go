package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// vault is the agent's directory: the trust of its client, conflicting heads, the
// seqs that it used, and the newest verified state.
type vault struct {
	dir   string
	state *Store
}

const stateName = "state"

func newVault(dir string) *vault {
	return &vault{dir: dir, state: NewStore(filepath.Join(dir, stateName))}
}

// trustDir keeps the authority chain and the newest head, so that a rollback
// between two runs is refused.
func (v *vault) trustDir() string { return filepath.Join(v.dir, "trust") }

// begun reports whether the agent verified anything of a ledger before: it is then
// never led behind that, by its state or by the head that its client keeps.
func (v *vault) begun(genesis ledger.Hash) bool {
	for _, path := range []string{filepath.Join(v.dir, stateName), client.TrustedHeadPath(v.trustDir(), genesis)} {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}

// keepConflict keeps two certified heads that contradict each other, for people.
func (v *vault) keepConflict(ours, theirs []byte) error {
	dir := filepath.Join(v.dir, "conflicts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep conflicting heads: %w", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("keep conflicting heads: %w", err)
	}
	n := len(list) / 2
	if n >= keptEquivocated {
		return nil
	}
	return errors.Join(
		replaceFile(filepath.Join(dir, fmt.Sprintf("%d-ours", n)), ours, 0o600),
		replaceFile(filepath.Join(dir, fmt.Sprintf("%d-theirs", n)), theirs, 0o600))
}

// keysDir keeps the keys that the agent made, and their ring.
func (v *vault) keysDir() string { return filepath.Join(v.dir, "keys") }

// seqsPath is the record of a line of keys: that of a line that people began beside
// another, if there is one.
func (v *vault) seqsPath(line ledger.Hash) string {
	path := v.rekeySeqsPath(line)
	if _, err := os.Lstat(path); err != nil {
		return filepath.Join(v.dir, "seqs")
	}
	return path
}

func (v *vault) rekeySeqsPath(line ledger.Hash) string {
	return filepath.Join(v.dir, "seqs-"+line.String()[:16])
}

// Prepare makes the directory of an agent whose key has signed nothing yet but
// its join, as quorate agent init does. Without it the agent says nothing for two
// epochs: it cannot know what an earlier life of it signed.
//
// memoryDir is MemoryDir, or what the configuration will say.
func Prepare(dir, memoryDir string, key *keys.PrivateKey) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return CreateSeqs(filepath.Join(dir, "seqs"), memoryDir, ledger.Hash(key.Public().ID()), Machine())
}

// PrepareRestored makes the directory of an agent whose key was restored from a backup, as
// quorate key restore does: the agent then says why it is silent, for as long as without
// it. Nothing may be there: what an earlier life left is not taken over.
func PrepareRestored(dir string, key ledger.Hash) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	s := newSeqs(folder(dir), "seqs", key, Machine())
	r := s.record
	r.Doubt = doubtRestored
	if err := s.write(r); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}
