package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
)

// ReplicaBackend is a replica as the API sees it: a Backend, and Operations.
type ReplicaBackend struct{ replica *replica.Replica }

var (
	_ Backend    = (*ReplicaBackend)(nil)
	_ Operations = (*ReplicaBackend)(nil)
	_ Receipts   = (*ReplicaBackend)(nil)
)

// FromReplica serves r.
func FromReplica(r *replica.Replica) *ReplicaBackend { return &ReplicaBackend{replica: r} }

// Submit is Backend's. A statement that is committed but not certified in time
// gives its receipt, at the level that it has.
func (b *ReplicaBackend) Submit(ctx context.Context, statements []*ledger.Statement, wait client.Wait) (*Receipt, error) {
	level := replica.WaitCommitted
	if wait == client.WaitCertified {
		level = replica.WaitCertified
	}
	r, err := b.replica.SubmitStatements(ctx, statements, level)
	if r == nil {
		return nil, replicaError(err)
	}
	return &Receipt{
		Verdicts: r.Verdicts, First: r.First, Last: r.Last, Stamp: r.Stamp,
		Level: client.Wait(r.Level), Checkpoint: r.Checkpoint,
	}, nil
}

// replicaErrors are the replica's sentinels in the API's words.
var replicaErrors = []struct{ theirs, ours error }{
	{replica.ErrNoLeader, ErrNoLeader},
	{replica.ErrNotLeader, ErrNotLeader},
	{replica.ErrUnknownOutcome, ErrUnknownOutcome},
	{replica.ErrDiskFull, ErrDiskFull},
	{replica.ErrStopped, ErrStopped},
	{replica.ErrHalted, ErrHalted},
	{replica.ErrCatchingUp, ErrNotReady},
}

func replicaError(err error) error {
	var rejected *replica.RejectedError
	var busy *replica.BusyError
	switch {
	case errors.As(err, &rejected):
		return &RejectedError{Verdicts: rejected.Verdicts}
	case errors.As(err, &busy):
		return &BusyError{RetryAfter: busy.RetryAfter}
	}
	for _, e := range replicaErrors {
		if errors.Is(err, e.theirs) {
			return fmt.Errorf("%w: %w", e.ours, err)
		}
	}
	return err
}

var consistencies = map[string]replica.Consistency{
	client.Certified:    replica.Certified,
	client.Stale:        replica.Stale,
	client.Linearizable: replica.Linearizable,
}

// View is Backend's.
func (b *ReplicaBackend) View(ctx context.Context, consistency string) (*View, error) {
	c, ok := consistencies[consistency]
	if !ok {
		return nil, badParameter("query.consistency", "want certified, stale or linearizable")
	}
	v, err := b.replica.View(ctx, c)
	if err != nil {
		return nil, replicaError(err)
	}
	return &View{State: v.State, Size: v.Size, Checkpoint: v.Checkpoint, Certified: v.Certified, Signed: v.Signed}, nil
}

// Checkpoint is Backend's.
func (b *ReplicaBackend) Checkpoint() (note []byte, size uint64) { return b.replica.Checkpoint() }

// Archive is Backend's.
func (b *ReplicaBackend) Archive() *archive.Archive { return b.replica.Archive() }

// AuthorityLink is Backend's.
func (b *ReplicaBackend) AuthorityLink(n uint64) ([]byte, error) {
	link, err := b.replica.AuthorityLink(n)
	return link, replicaError(err)
}

// AuthorityIndex is Backend's.
func (b *ReplicaBackend) AuthorityIndex() uint64 { return b.replica.AuthorityIndex() }

// LogVKeys is Backend's.
func (b *ReplicaBackend) LogVKeys() []ledger.LogVKeys { return b.replica.LogVKeys() }

// Changed is Backend's.
func (b *ReplicaBackend) Changed() <-chan struct{} { return b.replica.Changed() }

// Simulate is Backend's.
func (b *ReplicaBackend) Simulate(ctx context.Context, action string, args canon.Raw, author string) (fsm.Diff, fsm.Verdict, error) {
	diff, verdict, err := b.replica.Simulate(ctx, action, args, author)
	return diff, verdict, replicaError(err)
}

// Status is Backend's.
func (b *ReplicaBackend) Status() client.Status {
	s := b.replica.Status()
	out := client.Status{
		Name: s.Name, ID: s.ID.String(), Ledger: s.Ledger.String(), Role: s.Role, Leader: s.Leader, Term: s.Term,
		Applied: s.Applied, Certified: s.Certified, Signed: s.Signed, Lag: s.CertifyLag, Standing: s.Standing,
		Quorum: s.Quorum, CosignThreshold: s.Threshold, Faults: s.Faults, Generation: s.Generation,
		Authority: s.Authority, Ready: s.Ready, GapFrom: s.GapFrom, GapTo: s.GapTo,
		Key: presentOwnKey(s.Key), Alarms: []string{}, Peers: presentPeers(s.Peers),
	}
	for _, alarm := range s.Alarms {
		out.Alarms = append(out.Alarms, alarm.Code+": "+alarm.Detail)
	}
	for _, one := range s.Forks {
		out.Forks = append(out.Forks, client.Fork{Replica: one.Replica, Key: one.Key.String(), Generation: one.Generation,
			Size: one.Size, Root: one.Root.String(), Ours: one.Ours.String(), At: one.At, Proven: one.Proven})
	}
	for _, one := range s.Refusals {
		out.Refusals = append(out.Refusals, client.Refusal(one))
	}
	for _, peer := range s.Peers {
		if peer.Standing == fsm.ReplicaActive {
			out.Replicas++
		}
	}
	if v, err := b.replica.View(context.Background(), replica.Stale); err == nil {
		meta := v.State.Meta()
		out.Origin, out.Epoch, out.Frozen = meta.Origin, meta.Epoch, meta.Frozen
	}
	return out
}

// presentOwnKey is how a replica's own key stands; nil where the ledger does not name it.
func presentOwnKey(key *replica.KeyStatus) *client.ReplicaKey {
	if key == nil {
		return nil
	}
	out := &client.ReplicaKey{ID: key.ID.String(), Since: key.Since, Age: key.Age, Due: key.Due, Late: key.Late, Off: key.Off}
	if key.Next != nil {
		out.Next = key.Next.String()
	}
	return out
}

func presentPeers(peers []replica.PeerStatus) []client.PeerStatus {
	out := make([]client.PeerStatus, len(peers))
	for i, p := range peers {
		out[i] = client.PeerStatus{
			Name: p.Name, ID: p.ID.String(), Address: p.Address, Operator: p.Operator, Standing: p.Standing,
			Suffrage: p.Suffrage, Leader: p.Leader, Self: p.Self, Reachable: p.Reachable,
			LastContact: p.LastContact, Cosigned: p.Cosigned, CosignedAt: p.CosignedAt,
		}
	}
	return out
}

// Snapshot is Operations'.
func (b *ReplicaBackend) Snapshot(ctx context.Context) error {
	return replicaError(b.replica.Snapshot(ctx))
}

// TransferLeadership is Operations'.
func (b *ReplicaBackend) TransferLeadership(ctx context.Context, name string) error {
	return replicaError(b.replica.TransferLeadership(ctx, name))
}

// Peers is Operations'.
func (b *ReplicaBackend) Peers() []client.PeerStatus { return presentPeers(b.replica.Peers()) }

// ForkProofs is Operations'.
func (b *ReplicaBackend) ForkProofs() ([][]byte, error) {
	files, err := b.replica.ForkProofs()
	return files, replicaError(err)
}

// NewLogKey is Operations'.
func (b *ReplicaBackend) NewLogKey() (ledger.LogKeys, error) {
	k, err := b.replica.NewLogKey()
	return k, replicaError(err)
}

// EntryReceipt is Receipts'.
func (b *ReplicaBackend) EntryReceipt(seq uint64) ([]byte, error) {
	raw, err := b.replica.EntryReceipt(seq)
	return raw, replicaError(err)
}
