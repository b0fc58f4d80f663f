package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
)

// View gives a state to read from. Certified waits for the state at the newest
// certified head, which after a start takes as long as the replay; Linearizable
// asks the leader, and waits until its answer is applied here.
func (r *Replica) View(ctx context.Context, consistency Consistency) (*View, error) {
	if err := r.halted(); err != nil {
		return nil, err
	}
	switch consistency {
	case Certified:
		return r.certifiedView(ctx)
	case Linearizable:
		size, err := r.readSize(ctx)
		if err != nil {
			return nil, err
		}
		if err := r.waitSize(ctx, size); err != nil {
			return nil, err
		}
	}
	now := r.shell.now.Load()
	view := &View{State: now.state, Size: now.state.Next()}
	if c := r.certifier.now.Load(); c != nil {
		view.Checkpoint, view.Signed = c.note, c.signed
	}
	return view, nil
}

func (r *Replica) certifiedView(ctx context.Context) (*View, error) {
	var view *View
	err := r.changed.until(ctx, func() (bool, error) {
		if err := r.halted(); err != nil {
			return false, err
		}
		sealed, head := r.shell.certified.Load(), r.certifier.now.Load()
		if sealed == nil || head == nil {
			return false, nil
		}
		view = &View{State: sealed.state, Size: sealed.head.Size, Certified: true}
		if head.checkpoint.Head == sealed.head {
			view.Checkpoint, view.Signed = head.note, head.signed
		} else {
			view.Checkpoint = r.shell.noteOf(sealed)
		}
		return true, nil
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: no certified state yet", ErrCatchingUp)
	}
	return view, err
}

// Checkpoint is the newest certified checkpoint, every line, and its size; nil
// and 0 before the first.
func (r *Replica) Checkpoint() (note []byte, size uint64) {
	if r.halted() != nil {
		return nil, 0
	}
	now := r.certifier.now.Load()
	if now == nil {
		return nil, 0
	}
	return now.note, now.checkpoint.Head.Size
}

// Archive is the history, for reading. What is public stays below the
// certified size.
func (r *Replica) Archive() *archive.Archive { return r.archive }

// Genesis is the hash that names the ledger.
func (r *Replica) Genesis() ledger.Hash { return r.genesis }

// GenesisEntry is entry 0.
func (r *Replica) GenesisEntry() []byte { return r.cfg.Genesis }

// Changed is closed at the next change of the applied or certified size, of
// leadership or of an alarm; ask again after. Take it before you look.
func (r *Replica) Changed() <-chan struct{} { return r.changed.wait() }

// WaitCertified waits until a certified checkpoint covers entry seq.
func (r *Replica) WaitCertified(ctx context.Context, seq uint64) error {
	return r.changed.until(ctx, func() (bool, error) {
		return r.certifier.size() > seq, r.serving()
	})
}

// WaitApplied waits until entry seq is applied here.
func (r *Replica) WaitApplied(ctx context.Context, seq uint64) error {
	return r.waitSize(ctx, seq+1)
}

func (r *Replica) waitSize(ctx context.Context, size uint64) error {
	return r.changed.until(ctx, func() (bool, error) {
		return r.shell.now.Load().state.Next() >= size, r.serving()
	})
}

// readSize is a size that covers everything acknowledged before the call: this
// replica's if it leads, else the leader's.
func (r *Replica) readSize(ctx context.Context) (uint64, error) {
	deadline := time.Now().Add(r.limits.LeaderHold)
	for {
		if err := r.serving(); err != nil {
			return 0, err
		}
		size, err := r.readOnce(ctx)
		if err == nil {
			return size, nil
		}
		if time.Now().After(deadline) || !pause(ctx, jitter(50*time.Millisecond)) {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, err)
		}
	}
}

func (r *Replica) readOnce(ctx context.Context) (uint64, error) {
	node := r.node.Load()
	if node == nil {
		return 0, ErrCatchingUp
	}
	if node.State() == raft.Leader {
		return r.leaderSize(ctx, node)
	}
	_, id := node.LeaderWithID()
	leader, err := ledger.ParseHash(string(id))
	if err != nil {
		return 0, ErrNoLeader
	}
	to := r.pins.now.Load().byID(leader)
	if to == nil || to.id == r.id {
		return 0, ErrNoLeader
	}
	b, err := r.peers.get(ctx, to, pathRead, 8)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, errors.New("the leader's answer has another length")
	}
	return binary.BigEndian.Uint64(b), nil
}

// leaderSize is the leader's applied size, once it has proved that it still
// leads: an entry of this term is applied, then the commit index, then a
// majority's word, then the same term still, then everything up to that index
// applied. The FSM sees neither Raft's no-ops nor barriers; the only barrier of
// a term is the one that made it ready.
func (r *Replica) leaderSize(ctx context.Context, node *raft.Raft) (uint64, error) {
	l := r.leading.Load()
	if l == nil || !l.ready.Load() {
		return 0, ErrNoLeader
	}
	commit := node.CommitIndex()
	if err := r.futures.do(ctx, node.VerifyLeader); err != nil {
		return 0, err
	}
	if node.CurrentTerm() != l.term || r.leading.Load() != l {
		return 0, ErrNoLeader
	}
	err := r.changed.until(ctx, func() (bool, error) {
		return commit <= l.barrier || r.shell.now.Load().index >= commit, r.serving()
	})
	if err != nil {
		return 0, err
	}
	return r.shell.now.Load().state.Next(), nil
}

func (r *Replica) serveRead(w http.ResponseWriter, q *http.Request, _ *peer) error {
	node := r.node.Load()
	if node == nil || node.State() != raft.Leader {
		return ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(q.Context(), r.limits.PeerTimeout)
	defer cancel()
	size, err := r.leaderSize(ctx, node)
	if err != nil {
		return err
	}
	_, err = w.Write(binary.BigEndian.AppendUint64(nil, size))
	return err
}

// Simulate shows what executing an action now would do, on the certified state.
func (r *Replica) Simulate(ctx context.Context, action string, args canon.Raw, author string) (fsm.Diff, fsm.Verdict, error) {
	view, err := r.View(ctx, Certified)
	if err != nil {
		return fsm.Diff{}, fsm.Verdict{}, err
	}
	diff, verdict := fsm.Simulate(view.State, action, args, author, max(r.now(), view.State.Stamp()))
	return diff, verdict, nil
}

// isDialError says that a request certainly never left.
func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, errUnpinned)
}

// reaches waits for a size, but not for ever: whoever named it may have lied, or
// lost the leadership with what it had.
func (r *Replica) reaches(ctx context.Context, size uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	return r.waitSize(ctx, size) == nil
}

// catchUpLoop finds out when this replica has caught up with the leader: from
// then on it answers like any other, and its pins are those of its state.
func (r *Replica) catchUpLoop(ctx context.Context) error {
	for ctx.Err() == nil && r.halted() == nil {
		size, err := r.readSize(ctx)
		if err == nil && r.reaches(ctx, size) {
			r.caughtUp.Store(true)
			state := r.shell.now.Load().state
			r.pins.apply(state.Next(), state.Replicas())
			r.pins.settle()
			r.pinsChanged.fire()
			r.changed.fire()
			r.log.Info("caught up", "size", size)
			return nil
		}
		if !pause(ctx, jitter(200*time.Millisecond)) {
			return nil
		}
	}
	return nil
}
