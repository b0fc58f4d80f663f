package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// snapshotOrigin is what a snapshot's sender says of it beside its content.
type snapshotOrigin struct {
	index, term        uint64
	configuration      raft.Configuration
	configurationIndex uint64
	own                func() bool // this replica writes it; known once the first byte is there
}

// The rules by which a snapshot that was sent here is refused.
const (
	ruleSnapshotContent       = "snapshot_content"
	ruleSnapshotConfiguration = "snapshot_configuration"
	ruleSnapshotHistory       = "snapshot_history"
)

// snapshotRefusal says by which rule a snapshot was refused, and why.
type snapshotRefusal struct {
	rule string
	err  error
}

func (e *snapshotRefusal) Error() string { return e.err.Error() }
func (e *snapshotRefusal) Unwrap() error { return e.err }

// proveSnapshot checks a snapshot that is being written here, by a leader or by
// ourselves. What a leader sends is rehearsed, too: an error keeps it from
// becoming a snapshot, and everything stays as it was.
func (r *Replica) proveSnapshot(ctx context.Context, from io.Reader, o snapshotOrigin) error {
	err := r.judgeSnapshot(ctx, from, o)
	var refusal *snapshotRefusal
	if errors.As(err, &refusal) {
		name := ""
		if p := r.pins.now.Load().byServer(r.raftLeader()); p != nil { // whom Raft hears the snapshot from
			name = p.Name
		}
		r.refused(refusal.rule, name, refusal.err)
	}
	return err
}

func (r *Replica) judgeSnapshot(ctx context.Context, from io.Reader, o snapshotOrigin) error {
	content, err := readSnapshot(from, r.limits.SnapshotBytes)
	if err != nil {
		var damage *SnapshotError
		if errors.As(err, &damage) && !o.own() {
			return &snapshotRefusal{ruleSnapshotContent, err}
		}
		return err
	}
	p, err := content.prove(r.cfg.Genesis, r.genesis)
	if err != nil {
		return &snapshotRefusal{ruleSnapshotContent, err}
	}
	if err := r.withstand(p.chain, p.links); err != nil {
		return &snapshotRefusal{ruleSnapshotContent, err}
	}
	if err := r.proveServers(p, o.configuration); err != nil {
		return &snapshotRefusal{ruleSnapshotConfiguration, err}
	}
	if o.own() {
		return nil
	}
	if err := r.vouchServers(ctx, p, o); err != nil {
		return &snapshotRefusal{ruleSnapshotConfiguration, err}
	}
	if err := r.compareSnapshot(ctx, p, o); err != nil {
		return &snapshotRefusal{ruleSnapshotHistory, err}
	}
	return nil
}

// compareSnapshot compares what a leader's snapshot would make of the ledger
// with what is known: only its seal is certified, and what comes after it rests
// on the sender's word. Raft would take what the snapshot lacks as applied, and
// the next entry would make another history than the others'.
func (r *Replica) compareSnapshot(ctx context.Context, p *provenSnapshot, o snapshotOrigin) error {
	if err := r.awaitCommitted(ctx); err != nil {
		return err
	}
	state, end, err := r.shell.rehearse(p)
	if err != nil {
		return err
	}
	if known, theirs := r.generation.Load(), state.Meta().Generation; theirs < known {
		return fmt.Errorf("it is of generation %d, the ledger is in %d", theirs, known)
	}
	have := r.shell.now.Load().state.Next()
	if r.hasLog {
		// Raft's log has, or had before a snapshot of ours, all that is in the
		// history, and the guard answers for what the log has.
		have = max(have, r.archive.Size())
	}
	if end.Size < have {
		return fmt.Errorf("it ends at %d entries, we have %d", end.Size, have)
	}
	return r.endVouched(ctx, o, end)
}

// rehearse applies a snapshot's commands to its state, changing nothing here, and
// gives the outcome and what all its entries hash to. It errs where they are not our own.
func (s *shell) rehearse(p *provenSnapshot) (*fsm.State, archive.Frontier, error) {
	end := p.content.frontier
	end.Append(tlog.Hash(ledger.LeafHash(p.content.seal)))
	return s.dryRun(p.state, end, p.content.commands, func(seq uint64, leaf tlog.Hash) error {
		// What is in a gap or beyond our end can't be compared here.
		if ours, err := s.archive.LeafHash(seq); err == nil && ours != leaf {
			return fmt.Errorf("entry %d differs from ours", seq)
		}
		return nil
	})
}

// dryRun applies commands to a state, and gives the outcome and what all entries
// hash to then; end is of those before.
func (s *shell) dryRun(state *fsm.State, end archive.Frontier, data [][]byte, each func(seq uint64, leaf tlog.Hash) error) (*fsm.State, archive.Frontier, error) {
	commands := make([]*ledger.Command, len(data))
	for i := range data {
		commands[i], _ = ledger.ParseCommand(data[i]) // one that does not parse changes nothing anywhere
	}
	checked := s.verifier.ahead(state, commands, func(i int) []byte { return data[i] })
	for _, command := range commands {
		if command == nil {
			continue
		}
		next, result := fsm.Apply(state, command, checked)
		if result.Halt {
			return state, end, fmt.Errorf("what comes after entry %d needs a newer program", end.Size)
		}
		for _, leaf := range result.Leaves {
			if err := each(end.Size, tlog.Hash(leaf)); err != nil {
				return state, end, err
			}
			end.Append(tlog.Hash(leaf))
		}
		state = next
	}
	return state, end, nil
}

// awaitCommitted waits until all that Raft knows to be committed is applied: Raft
// hands it to the FSM by a queue, and what waits there is ours, too.
func (r *Replica) awaitCommitted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepWait)
	defer cancel()
	last, bottom := r.raftCommitted(), newestSnapshot(r.cfg.Dir)
	for last > bottom && !r.changesLedger(last) {
		last--
	}
	for {
		changed := r.changed.wait()
		if last <= bottom || r.shell.now.Load().index >= last {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("entry %d of Raft's log is committed and not applied yet", last)
		}
	}
}

// changesLedger says whether the FSM gets the entry at an index of Raft's log; an
// entry that is not there may have been one.
func (r *Replica) changesLedger(index uint64) bool {
	var entry raft.Log
	if err := r.store.GetLog(index, &entry); err != nil {
		return true
	}
	return entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration
}

// endVouched asks the others what the ledger was once everything up to the
// snapshot's index was applied. Who does not know (it was started since, or the
// index is too long ago) counts by the index alone, so that an honest leader's
// snapshot is never refused for want of memory.
func (r *Replica) endVouched(ctx context.Context, o snapshotOrigin, end archive.Frontier) error {
	faults := r.mostFaults()
	if faults == 0 {
		return nil // nobody but the leader may be there to ask, and nobody is to lie
	}
	root := ledger.Hash(end.Root())
	count := r.positions(ctx, o.index, func(said positionMessage) bool {
		holds := said.Commit >= o.index || o.term > 0 && said.Term == o.term
		return holds && (said.Size == 0 || said.Size == end.Size && said.Root == root)
	})
	if count <= faults {
		return fmt.Errorf("it ends at %d entries, and %d replicas say that index %d of Raft's log is there; %d are needed", end.Size, count, o.index, faults+1)
	}
	return nil
}

// position is the ledger's size and root after an index of Raft's log, zero if
// that is not known here. What the log has beyond what is applied is applied in
// thought: else whoever asks right after a commit, which followers hear of a round
// later, would hear nothing.
func (r *Replica) position(index uint64) (size uint64, root ledger.Hash) {
	if size = r.shell.ends.at(index); size > 0 {
		hash, err := r.archive.TreeHash(size)
		if err != nil {
			return 0, root // in the gap, or damaged
		}
		return size, ledger.Hash(hash)
	}
	now := r.shell.now.Load()
	if now.index == 0 || index <= now.index || index-now.index > maxForeseen {
		return 0, root
	}
	var commands [][]byte
	for next := now.index + 1; next <= index; next++ {
		var entry raft.Log
		if r.store.GetLog(next, &entry) != nil {
			return 0, root
		}
		if entry.Type == raft.LogCommand {
			commands = append(commands, entry.Data)
		}
	}
	_, end, err := r.shell.dryRun(now.state, now.frontier, commands, func(uint64, tlog.Hash) error { return nil })
	if err != nil {
		return 0, root
	}
	return end.Size, ledger.Hash(end.Root())
}

// vouchServers says who vouches for a snapshot's configuration: the certified
// chain in the snapshot, if all of its replicas have a vote; this replica, if its
// own log or snapshots have it at that index; or more others than may lie, who
// hold it at that index. A vote left out would make a quorum smaller.
func (r *Replica) vouchServers(ctx context.Context, p *provenSnapshot, o snapshotOrigin) error {
	faults := r.mostFaults()
	if faults == 0 || p.seats().giveVotes(o.configuration, p.authorities()) {
		return nil
	}
	data := raft.EncodeConfiguration(o.configuration)
	if string(r.heldConfiguration(o.configurationIndex)) == string(data) {
		return nil
	}
	want := ledger.Hash(sha256.Sum256(data))
	held := r.positions(ctx, o.configurationIndex, func(said positionMessage) bool { return said.Configuration == want })
	if held <= faults {
		return fmt.Errorf("configuration: it leaves out a vote of the replicas in the snapshot, and %d replicas hold it at index %d; %d are needed",
			held, o.configurationIndex, faults+1)
	}
	return nil
}

// authorities are the newest that a snapshot proves, and the one before: Raft's
// configuration follows the certified set step by step, so it may lag.
func (p *provenSnapshot) authorities() []ledger.Authority {
	list := []ledger.Authority{p.state.Authority()}
	if newest := p.state.Authority().Index; newest > 0 {
		if before, ok := p.chain.At(newest - 1); ok {
			list = append(list, before)
		}
	}
	return list
}

// seats are those of the authorities.
func (p *provenSnapshot) seats() *seats {
	s := seatsOf(p.chain)
	for _, one := range p.state.Replicas() {
		s.servers[one.KeyID()] = one.Server()
	}
	return s
}

// giveVotes says whether a configuration gives a vote to every active replica of
// one of the authorities. Others that it gives a vote to make its quorum no
// smaller; a wrong address reaches nobody, since the pins are the ledger's, and
// lasts until somebody leads.
func (s *seats) giveVotes(c raft.Configuration, authorities []ledger.Authority) bool {
	votes := map[raft.ServerID]bool{}
	for _, one := range c.Servers {
		votes[one.ID] = one.Suffrage == raft.Voter
	}
	return slices.ContainsFunc(authorities, func(authority ledger.Authority) bool {
		return !slices.ContainsFunc(authority.Active(), func(one ledger.AuthorityReplica) bool {
			return !votes[s.server(one)]
		})
	})
}
