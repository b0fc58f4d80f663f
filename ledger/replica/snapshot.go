package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// errNoSnapshot says that there is nothing that could prove itself yet: Raft
// keeps its log and tries again.
var errNoSnapshot = errors.New("no snapshot: no certified seal whose later commands are all kept")

// snapshot is what Raft's goroutine captured: pointers only.
type snapshot struct {
	shell      *shell
	sealed     *sealedState
	checkpoint []byte
	commands   [][]byte
}

// Snapshot is raft.FSM: the state at the newest certified seal, and the
// commands since.
func (s *shell) Snapshot() (raft.FSMSnapshot, error) {
	if err := s.hooks.halted(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sealed := s.certified.Load()
	if sealed == nil || sealed.position < s.first {
		return nil, errNoSnapshot
	}
	commands := make([][]byte, 0, len(s.since))
	for _, c := range s.since[sealed.position-s.first:] {
		commands = append(commands, c.data)
	}
	return &snapshot{shell: s, sealed: sealed, checkpoint: sealed.note, commands: commands}, nil
}

// Persist writes the snapshot. It finishes only once the history is durable up
// to it, because Raft then drops its log.
func (p *snapshot) Persist(sink raft.SnapshotSink) error {
	if proving, ok := sink.(*provingSink); ok {
		proving.own.Store(true)
	}
	err := p.write(sink)
	if err == nil {
		_, err = p.shell.archive.Sync()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (p *snapshot) write(w io.Writer) error {
	links, err := p.shell.hooks.links(p.sealed.authority.Index)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	out := newSnapshotWriter(w)
	out.head(p.shell.genesis, links, p.checkpoint, p.sealed.before, p.sealed.entry)
	if err := p.sealed.state.Dump(out.record); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	out.flushRecords()
	for _, data := range p.commands {
		out.command(data)
	}
	return out.finish()
}

// Release is raft.FSMSnapshot.
func (p *snapshot) Release() {}

// provenSnapshot is a snapshot that proved itself: nobody was trusted but
// genesis.
type provenSnapshot struct {
	chain      *ledger.Chain
	links      []*ledger.Link
	checkpoint *ledger.Checkpoint
	state      *fsm.State // at the seal
	seal       *ledger.Entry
	content    *snapshotContent
}

// prove checks everything that a snapshot claims: the authority chain from our
// own genesis, the checkpoint certified under it, the seal as its last leaf
// after the frontier, and the records under the seal's digest.
func (c *snapshotContent) prove(genesisEntry []byte, genesis ledger.Hash) (*provenSnapshot, error) {
	if c.genesis != genesis {
		return nil, fmt.Errorf("prove snapshot: it is of ledger %s", c.genesis)
	}
	p := &provenSnapshot{content: c, links: []*ledger.Link{{Genesis: genesisEntry}}}
	for _, raw := range c.links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil, fmt.Errorf("prove snapshot: %w", err)
		}
		p.links = append(p.links, link)
	}
	var err error
	if p.chain, err = ledger.WalkChain(genesis, p.links); err != nil {
		return nil, fmt.Errorf("prove snapshot: %w", err)
	}
	if p.checkpoint, err = p.chain.VerifyCheckpoint(c.checkpoint); err != nil {
		return nil, fmt.Errorf("prove snapshot: %w", err)
	}
	if p.seal, err = ledger.ParseEntry(c.seal); err != nil {
		return nil, fmt.Errorf("prove snapshot: %w", err)
	}
	head := p.checkpoint.Head
	after := c.frontier
	after.Append(tlog.Hash(ledger.LeafHash(c.seal)))
	if p.seal.Kind != ledger.KindSeal || p.seal.Seq != c.frontier.Size || head.Size != after.Size || head.Root != ledger.Hash(after.Root()) {
		return nil, errors.New("prove snapshot: the frontier and the seal are not what the checkpoint certifies")
	}
	if p.state, err = fsm.Load(c.each, p.seal); err != nil {
		return nil, fmt.Errorf("prove snapshot: %w", err)
	}
	return p, nil
}

// each is an iterator over the records.
func (c *snapshotContent) each(yield func(key string, value []byte) bool) {
	for _, r := range c.records {
		if !yield(r.key, r.value) {
			return
		}
	}
}

// Restore is raft.FSM: at start from our own snapshot, later from a leader's.
// Either must prove itself; an error leaves everything as it was.
func (s *shell) Restore(from io.ReadCloser) error {
	defer from.Close()
	if err := s.hooks.halted(); err != nil {
		return err
	}
	content, err := readSnapshot(from, s.limits.SnapshotBytes)
	if err != nil {
		return err
	}
	p, err := content.prove(s.genesisEntry, s.genesis)
	if err != nil {
		return err
	}
	if err := s.hooks.restored(p); err != nil {
		return err
	}
	if err := s.startAt(content); err != nil {
		return err
	}
	s.ends.forget()
	return s.install(p)
}

// startAt makes the history on disk ready for the seal: an island begins there
// when what is before is not here.
func (s *shell) startAt(c *snapshotContent) error {
	if s.archive.Size() < c.frontier.Size {
		if err := s.archive.StartIsland(c.frontier); err != nil {
			if errors.Is(err, archive.ErrConflict) {
				s.hooks.halt(fmt.Sprintf("the history on disk is not the certified one: %v", err))
			}
			return fmt.Errorf("restore snapshot: %w", err)
		}
	}
	if err := s.record(c.frontier.Size, bytes.Clone(c.seal), tlog.Hash(ledger.LeafHash(c.seal))); err != nil {
		s.hooks.halt(err.Error())
		return fmt.Errorf("restore snapshot: %w", err)
	}
	return nil
}

// install replaces the state by the snapshot's, replaying the commands since.
func (s *shell) install(p *provenSnapshot) error {
	c := p.content
	after := c.frontier
	after.Append(tlog.Hash(ledger.LeafHash(c.seal)))
	seal, err := p.seal.Seal()
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	authority := p.state.Authority()
	old := authority
	if seal.Handover > 0 {
		if before, ok := p.chain.At(seal.Handover - 1); ok {
			old = before
		}
	}
	sealed := &sealedState{head: p.checkpoint.Head, state: p.state, seal: *seal, entry: bytes.Clone(c.seal), stamp: p.seal.Stamp,
		before: c.frontier, old: old, authority: authority}
	before := s.now.Load()
	s.mu.Lock()
	s.since, s.sinceSize, s.first, s.next = nil, 0, 0, 0
	s.sealed = []*sealedState{sealed}
	sealed.note = c.checkpoint
	if head := sealed.head; s.wanted <= head.Size {
		s.wanted, s.wantRoot, s.wantNote = head.Size, head.Root, c.checkpoint
		s.certified.Store(sealed)
	} else {
		// A newer certified head is known: its state comes with the replay, and
		// until then there is no state to serve as the certified one.
		s.certified.Store(nil)
	}
	s.mu.Unlock()

	now := applied{state: p.state, frontier: after}
	commands := make([]*ledger.Command, len(c.commands))
	for i, data := range c.commands {
		if commands[i], err = ledger.ParseCommand(data); err != nil {
			// Applied as everywhere: a command that does not parse changes nothing.
			commands[i] = nil
		}
	}
	checked := s.verifier.ahead(now.state, commands, func(i int) []byte { return c.commands[i] })
	for i, command := range commands {
		if command == nil {
			continue
		}
		if _, err := s.apply(&now, command, c.commands[i], checked); err != nil {
			s.hooks.halt(err.Error())
			return fmt.Errorf("restore snapshot: %w", err)
		}
	}
	s.now.Store(&now)
	s.hooks.applied(before, &now)
	return nil
}
