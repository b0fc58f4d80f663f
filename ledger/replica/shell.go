package replica

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// applied is what Raft's goroutine publishes after each batch; it never
// changes.
type applied struct {
	state    *fsm.State
	frontier archive.Frontier // of the entries that state has applied
	index    uint64           // Raft's, of the last command or configuration
}

// sealedState is the state right after a seal.
type sealedState struct {
	head      ledger.Head
	state     *fsm.State
	seal      ledger.Seal
	entry     []byte // the seal's
	stamp     uint64
	before    archive.Frontier // of all entries before the seal
	old       ledger.Authority // before the seal
	authority ledger.Authority // after it
	position  uint64           // commands applied up to and with the seal's
	note      []byte           // its certified checkpoint, once settled; guarded by shell.mu
}

func (s *sealedState) handover() bool { return s.seal.Handover != 0 }

// shell is Raft's FSM. Raft's goroutine alone calls Apply, Snapshot and
// Restore, and is the only writer of the state and of the archive's end.
type shell struct {
	genesis ledger.Hash
	origin  string

	genesisEntry []byte
	archive      *archive.Archive
	verifier     *verifier
	limits       Limits
	hooks        shellHooks
	test         *Hooks // nil but in tests
	recent       *recent
	ends         logEnds

	now       atomic.Pointer[applied]
	certified atomic.Pointer[sealedState] // the newest certified one whose state is here

	mu        sync.Mutex
	wanted    uint64         // certified size that is known, perhaps not applied yet
	wantRoot  ledger.Hash    // and its root
	wantNote  []byte         // and its checkpoint
	sealed    []*sealedState // ascending; from the newest certified one on
	since     []sinceCommand
	sinceSize int64
	first     uint64 // position of since[0]
	next      uint64 // position of the next command
}

// sinceCommand is a command after the newest certified seal, for snapshots.
type sinceCommand struct{ data []byte }

// shellHooks are how the shell tells the rest of the replica.
type shellHooks struct {
	halt     func(reason string)
	halted   func() error
	diskFail func(err error)
	applied  func(old, now *applied)
	restored func(p *provenSnapshot) error
	links    func(index uint64) ([][]byte, error) // of the authority chain, 1 to index
	counted  func(entries, commands int)
}

// applyResult is what a proposed command's future gives.
type applyResult struct {
	fsm.Result
	stamp uint64
	size  uint64
}

func newShell(founding *fsm.State, genesisEntry []byte, origin string, genesis ledger.Hash, a *archive.Archive, v *verifier, l Limits) *shell {
	s := &shell{genesis: genesis, genesisEntry: genesisEntry, origin: origin, archive: a, verifier: v, limits: l, recent: newRecent(l.Recent)}
	var f archive.Frontier
	f.Append(tlog.Hash(ledger.LeafHash(genesisEntry)))
	s.now.Store(&applied{state: founding, frontier: f})
	return s
}

// Apply is raft.FSM.
func (s *shell) Apply(log *raft.Log) any { return s.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch is raft.BatchingFSM. It gets commands and configurations; Raft's
// indexes have gaps where its own no-ops are, the ledger's seqs have none.
func (s *shell) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if err := s.hooks.halted(); err != nil {
		for i := range out {
			out[i] = err
		}
		return out
	}
	commands := make([]*ledger.Command, len(logs))
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		c, err := ledger.ParseCommand(log.Data)
		if err != nil {
			// Every replica finds the same, so it changes nothing anywhere.
			out[i] = fmt.Errorf("raft entry %d: %w", log.Index, err)
			continue
		}
		commands[i] = c
	}
	old := s.now.Load()
	checked := s.verifier.ahead(old.state, commands, func(i int) []byte { return logs[i].Data })
	now := *old
	entries, count := 0, 0
	for i, log := range logs {
		if commands[i] != nil {
			result, err := s.apply(&now, commands[i], log.Data, checked)
			if err != nil {
				s.hooks.halt(err.Error())
				for ; i < len(out); i++ {
					out[i] = &HaltedError{Reason: err.Error()}
				}
				return out
			}
			out[i] = result
			entries += len(result.Entries)
			count++
		}
		now.index = log.Index
		s.ends.add(log.Index, now.state.Next())
	}
	s.now.Store(&now)
	s.hooks.counted(entries, count)
	s.hooks.applied(old, &now)
	return out
}

// apply advances now by one command. An error means that this replica's
// history is not the ledger's.
func (s *shell) apply(now *applied, c *ledger.Command, data []byte, v *checked) (*applyResult, error) {
	before := now.state
	next, result := s.test.apply(before, c, v)
	if result.Halt {
		return nil, fmt.Errorf("the ledger's format is %d, this program knows %d: a newer one must take over", before.Meta().Format, fsm.Format)
	}
	frontier, last := now.frontier, now.frontier
	for i, entry := range result.Entries {
		leaf := tlog.Hash(result.Leaves[i])
		if err := s.record(before.Next()+uint64(i), entry, leaf); err != nil {
			return nil, err
		}
		last = frontier
		frontier.Append(leaf)
	}
	now.state, now.frontier = next, frontier
	s.recent.add(result.Verdicts)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(data)
	if result.Sealed != nil {
		sealed := &sealedState{
			head:  ledger.Head{Origin: s.origin, Size: frontier.Size, Root: ledger.Hash(frontier.Root())},
			state: next, seal: *result.Sealed, entry: result.Entries[len(result.Entries)-1], stamp: next.Stamp(),
			before: last, old: before.Authority(), authority: next.Authority(), position: s.next,
		}
		if err := s.addSealed(sealed); err != nil {
			return nil, err
		}
	}
	return &applyResult{Result: result, stamp: next.Stamp(), size: next.Next()}, nil
}

// record appends an entry to the history, or compares it with what is there.
func (s *shell) record(seq uint64, entry []byte, leaf tlog.Hash) error {
	if s.test.records() {
		entry = s.test.record(seq, entry)
		leaf = tlog.RecordHash(entry)
	}
	err := s.archive.AppendLeaf(seq, entry, leaf)
	var damage *archive.DamageError
	switch {
	case err == nil:
	case errors.As(err, &damage):
		// What can't be read can't be compared; its repair is checked against the tree.
	case errors.Is(err, archive.ErrConflict):
		return fmt.Errorf("entry %d differs from the one in the history on disk", seq)
	case errors.Is(err, archive.ErrGap) && seq < s.archive.Size():
		// In the gap nothing can be compared; backfill is checked against the frontier.
	case errors.Is(err, archive.ErrFailed):
		// The state goes on in memory, reads go on, nothing is acknowledged any
		// more; Raft's log still has the command for the next start.
		s.hooks.diskFail(err)
	case errors.Is(err, archive.ErrClosed):
	default:
		return fmt.Errorf("append entry %d: %w", seq, err)
	}
	return nil
}

// keep remembers a command for the next snapshot; requires mu.
func (s *shell) keep(data []byte) {
	s.since = append(s.since, sinceCommand{data: data})
	s.sinceSize += int64(len(data))
	s.next++
	drop := 0
	for len(s.since)-drop > s.limits.SinceCommands || s.sinceSize > s.limits.SinceBytes {
		s.sinceSize -= int64(len(s.since[drop].data))
		drop++
	}
	s.dropSince(drop)
}

// dropSince forgets the oldest n commands, already subtracted from sinceSize.
func (s *shell) dropSince(n int) {
	if n == 0 {
		return
	}
	clear(s.since[:n])
	s.since = s.since[n:]
	s.first += uint64(n)
}

// addSealed requires mu.
func (s *shell) addSealed(sealed *sealedState) error {
	s.sealed = append(s.sealed, sealed)
	if s.wanted == sealed.head.Size {
		if s.wantRoot != sealed.head.Root {
			return fmt.Errorf("our root at size %d is %s, the certified one is %s", s.wanted, sealed.head.Root, s.wantRoot)
		}
		s.settle(sealed)
		return nil
	}
	if len(s.sealed) > s.limits.SealedStates {
		for i, old := range s.sealed[:len(s.sealed)-1] {
			if !old.handover() && i > 0 { // the first may be the certified one
				s.sealed = append(s.sealed[:i:i], s.sealed[i+1:]...)
				break
			}
		}
	}
	return nil
}

// settle makes sealed the newest certified state; requires mu.
func (s *shell) settle(sealed *sealedState) {
	for i, one := range s.sealed {
		if one == sealed {
			s.sealed = append([]*sealedState(nil), s.sealed[i:]...)
			break
		}
	}
	sealed.note = s.wantNote
	s.certified.Store(sealed)
	if drop := int(min(max(sealed.position, s.first)-s.first, uint64(len(s.since)))); drop > 0 {
		for _, c := range s.since[:drop] {
			s.sinceSize -= int64(len(c.data))
		}
		s.dropSince(drop)
	}
}

// certify tells the shell of a certified head. It errs when our own root at
// that size is another.
func (s *shell) certify(head ledger.Head, note []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if head.Size < s.wanted {
		return nil
	}
	s.wanted, s.wantRoot, s.wantNote = head.Size, head.Root, note
	for _, sealed := range s.sealed {
		if sealed.head.Size == head.Size {
			if sealed.head.Root != head.Root {
				return fmt.Errorf("our root at size %d is %s, the certified one is %s", head.Size, sealed.head.Root, head.Root)
			}
			s.settle(sealed)
			return nil
		}
	}
	return nil
}

// newest is the newest sealed state, nil when there is none.
func (s *shell) newest() *sealedState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sealed) == 0 {
		return nil
	}
	return s.sealed[len(s.sealed)-1]
}

// sealedAt is the sealed state of a size, nil when it is not kept.
func (s *shell) sealedAt(size uint64) *sealedState {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sealed {
		if one.head.Size == size {
			return one
		}
	}
	return nil
}

// pending lists the sealed states above size that matter: every handover, and
// all others, oldest first.
func (s *shell) pending(size uint64) []*sealedState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*sealedState
	for _, one := range s.sealed {
		if one.head.Size > size {
			list = append(list, one)
		}
	}
	return list
}

// noteOf is the certified checkpoint of a settled state.
func (s *shell) noteOf(sealed *sealedState) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sealed.note
}
