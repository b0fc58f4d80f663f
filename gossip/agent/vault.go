package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/quorate/quorate/ledger"
)

// vault is the agent's directory: the trust of its client, conflicting heads, the
// seqs that it used, and the newest verified state.
type vault struct{ dir string }

func newVault(dir string) *vault { return &vault{dir: dir} }

// trustDir keeps the authority chain and the newest head, so that a rollback
// between two runs is refused.
func (v *vault) trustDir() string { return filepath.Join(v.dir, "trust") }

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

// memorySeqs gives seqs that one life of the agent does not give twice.
type memorySeqs struct {
	mu   sync.Mutex
	next map[ledger.SeqSpace]uint64
	at   map[ledger.SeqSpace]uint64 // epoch
}

var errQuota = errors.New("the quota of this epoch is used up")

func (m *memorySeqs) Next(epoch uint64, space ledger.SeqSpace, quota uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at[space] != epoch {
		m.at[space], m.next[space] = epoch, 0
	}
	if m.next[space] >= quota {
		return 0, errQuota
	}
	m.next[space]++
	return m.next[space] - 1, nil
}

func (v *vault) openSeqs() (seqSource, error) {
	return &memorySeqs{next: map[ledger.SeqSpace]uint64{}, at: map[ledger.SeqSpace]uint64{}}, nil
}
