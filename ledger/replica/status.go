package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// The codes of alarms.
const (
	alarmHalted      = "halted"
	alarmDisk        = "disk_full"
	alarmDiskStalled = "disk_stalled"
	alarmDamaged     = "damaged"
	alarmGap         = "gap"
	alarmFork        = "fork"
	alarmNoLogKey    = "no_log_key"
	alarmUncertified = "uncertified"

	alarmFormerCouncil = "former_council"
)

// alarmCodes are all of them: the metrics tell of each whether it is raised.
var alarmCodes = []string{
	alarmHalted, alarmDisk, alarmDiskStalled, alarmDamaged, alarmGap, alarmFork, alarmNoLogKey, alarmUncertified, alarmFormerCouncil,
}

// raise sets an alarm; its time is that of the first raising.
func (r *Replica) raise(code, detail string) {
	r.alarmMu.Lock()
	old, ok := r.alarms[code]
	since := r.now()
	if ok {
		since = old.Since
	}
	r.alarms[code] = Alarm{Code: code, Detail: detail, Since: since}
	r.metrics.alarmed(code, true)
	r.alarmMu.Unlock()
	if !ok {
		r.log.Warn("alarm", "code", code, "detail", detail)
		r.changed.fire()
	}
}

func (r *Replica) clear(code string) {
	r.alarmMu.Lock()
	_, ok := r.alarms[code]
	delete(r.alarms, code)
	r.metrics.alarmed(code, false)
	r.alarmMu.Unlock()
	if ok {
		r.log.Info("alarm over", "code", code)
		r.changed.fire()
	}
}

// diskFailed notes that a part of the disk refuses writes: from now on writes
// are refused, reads go on, and a leader steps down.
func (r *Replica) diskFailed(part string, err error) {
	r.alarmMu.Lock()
	first := r.disk[part] == nil
	r.disk[part] = err
	r.alarmMu.Unlock()
	r.metrics.diskErrors.Inc()
	if first {
		r.raise(alarmDisk, fmt.Sprintf("%s: %v", part, err))
		r.handOn()
	}
}

// handOn makes a leader look whether it is fit to lead.
func (r *Replica) handOn() {
	select {
	case r.stepDown <- struct{}{}:
	default:
	}
}

// diskWell notes that a part takes writes again.
func (r *Replica) diskWell(part string) {
	r.alarmMu.Lock()
	_, failed := r.disk[part]
	delete(r.disk, part)
	left := len(r.disk)
	r.alarmMu.Unlock()
	if failed && left == 0 {
		r.clear(alarmDisk)
	}
}

// noteDisk files an error that came up in some other part.
func (r *Replica) noteDisk(err error) {
	if !isDisk(err) {
		return
	}
	part := diskFiles
	if errors.Is(err, archive.ErrFailed) {
		part = diskArchive
	}
	r.diskFailed(part, err)
}

// diskUnfit is why this replica's disk makes it unfit to lead.
func (r *Replica) diskUnfit() error {
	if err := r.diskError(); err != nil {
		return err
	}
	return r.watchdog.stalled()
}

// diskError is a failed write of a part of the disk that has not recovered.
func (r *Replica) diskError() error {
	r.alarmMu.Lock()
	defer r.alarmMu.Unlock()
	for _, err := range r.disk {
		return err
	}
	return nil
}

// watchLoop looks at what no event tells: a disk that takes writes again, and a
// ledger that stays uncertified.
func (r *Replica) watchLoop(ctx context.Context) error {
	timer := time.NewTicker(time.Second)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		r.probeDisk()
		r.measureKey()
		// The oldest one: a leader seals over what stays uncertified, so that the
		// newest is never old.
		if late := r.uncertified(); late != nil {
			r.raise(alarmUncertified, fmt.Sprintf("size %d is sealed, %d certified", late.head.Size, r.certifier.size()))
		} else {
			r.clear(alarmUncertified)
		}
	}
}

// uncertified is the oldest sealed state that should long have been certified, or
// nil.
func (r *Replica) uncertified() *sealedState {
	pending := r.shell.pending(r.certifier.size())
	if len(pending) == 0 || pending[0].stamp+3*pending[0].state.Policy().MaxSkewMillis >= r.now() {
		return nil
	}
	return pending[0]
}

// probeDisk tries a small write where one failed. The archive's failure is for
// this process's life: what the kernel dropped can't be known.
func (r *Replica) probeDisk() {
	r.alarmMu.Lock()
	_, files := r.disk[diskFiles]
	_, log := r.disk[diskLog]
	r.alarmMu.Unlock()
	if !files && !log {
		return
	}
	if err := r.files.replace("probe", make([]byte, 64<<10)); err != nil {
		return
	}
	_ = r.files.remove("probe")
	r.diskWell(diskFiles)
	if log && (r.cfg.Hooks == nil || r.cfg.Hooks.Log == nil) { // a hook may fail what the disk does not
		r.diskWell(diskLog)
	}
}

// Status is what this replica says of itself, without asking anybody.
func (r *Replica) Status() Status {
	now := r.shell.now.Load()
	authority := now.state.Authority()
	active := len(authority.Active())
	s := Status{
		Name: r.cfg.Name, ID: r.id, Ledger: r.genesis, Role: RoleStopped,
		Applied: now.state.Next(), Certified: r.certifier.size(), Authority: r.certifier.authorityIndex(),
		Generation: now.state.Meta().Generation, Threshold: ledger.CosignThreshold(active), Faults: ledger.Faults(active),
		Ready: r.caughtUp.Load() && r.serving() == nil && r.diskUnfit() == nil && r.certifier.size() > 0, RaftIndex: now.index, Peers: r.Peers(), Refusals: r.refusals.all(), Forks: r.Forks(),
	}
	if c := r.certifier.now.Load(); c != nil {
		s.Signed = c.signed
	}
	s.CertifyLag = s.Applied - min(s.Applied, s.Certified)
	if me, ok := now.state.Replica(r.cfg.Name); ok && me.Server() == r.id {
		s.Standing, s.Key = me.Standing, r.keyStatus(now.state, me)
	}
	if from, to, gap := r.archive.Gap(); gap {
		s.GapFrom, s.GapTo = from, to
	}
	if node := r.node.Load(); node != nil {
		s.Role = role(node.State())
		s.Term = node.CurrentTerm()
		s.CommitLag = node.CommitIndex() - min(node.CommitIndex(), node.AppliedIndex())
		for _, p := range s.Peers {
			if p.Leader {
				s.Leader = p.Name
			}
			if p.Suffrage == raft.Voter.String() {
				s.Quorum++
			}
		}
		s.Quorum = s.Quorum/2 + 1
	}
	if s.Role == RoleFollower && s.Standing != "active" {
		s.Role = RoleJoining
	}
	if r.halted() != nil {
		s.Role = RoleHalted
	}
	r.alarmMu.Lock()
	for _, a := range r.alarms {
		s.Alarms = append(s.Alarms, a)
	}
	r.alarmMu.Unlock()
	slices.SortFunc(s.Alarms, func(a, b Alarm) int { return int(a.Since) - int(b.Since) })
	return s
}

// measureKey tells the metrics how old the own key is.
func (r *Replica) measureKey() {
	state := r.shell.now.Load().state
	if me, ok := state.Replica(r.cfg.Name); ok && me.Server() == r.id {
		r.metrics.keyAge.Set(float64(keyAge(state, me)))
	}
}

func keyAge(state *fsm.State, me fsm.ReplicaRecord) uint64 {
	return state.Epoch() - min(state.Epoch(), me.KeyEpoch)
}

// keyStatus says how this replica's key stands, of which the state has the record.
func (r *Replica) keyStatus(state *fsm.State, me fsm.ReplicaRecord) *KeyStatus {
	one := &KeyStatus{ID: me.KeyID(), Since: me.KeyEpoch, Age: keyAge(state, me), Off: r.cfg.Rotation.Off}
	policy := state.Policy()
	if period := policy.KeyRules().ReplicaKeyEpochs; state.Meta().Format >= ledger.KeysFormat && period > 0 {
		one.Due, one.Late = replicaRotation(r.genesis, me, period), me.KeyEpoch+fsm.ReplicaLateAfter(period)+1
	}
	if next := r.ring.Load().next(); next != nil {
		one.Next = &next.id
	}
	return one
}

func role(state raft.RaftState) string {
	switch state {
	case raft.Leader:
		return RoleLeader
	case raft.Candidate:
		return RoleCandidate
	case raft.Shutdown:
		return RoleStopped
	}
	return RoleFollower
}

// Peers lists the replicas, this one too, by name.
func (r *Replica) Peers() []PeerStatus {
	suffrage := map[raft.ServerID]raft.ServerSuffrage{}
	var leader raft.ServerID
	if node := r.node.Load(); node != nil {
		_, leader = node.LeaderWithID()
		if future := node.GetConfiguration(); future.Error() == nil {
			for _, s := range future.Configuration().Servers {
				suffrage[s.ID] = s.Suffrage
			}
		}
	}
	var list []PeerStatus
	for _, p := range r.pins.now.Load().peers {
		one := PeerStatus{Name: p.Name, ID: p.id, Address: p.Peer, Operator: p.Operator, Standing: p.standing,
			Leader: leader == p.serverID(), Self: p.id == r.id}
		if s, ok := suffrage[p.serverID()]; ok {
			one.Suffrage = s.String()
		}
		if signed, ok := r.certifier.newestOf(p.KeyID()); ok {
			one.Cosigned, one.CosignedAt = signed.head.Size, signed.Time*1000
		}
		c := r.peers.contact(p.id)
		one.Reachable, one.LastContact = c.reachable || one.Self, c.last
		list = append(list, one)
	}
	return list
}

// Snapshot makes Raft write a snapshot now.
func (r *Replica) Snapshot(ctx context.Context) error {
	node := r.node.Load()
	if node == nil {
		return ErrStopped
	}
	err := r.futures.do(ctx, func() raft.Future { return node.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

var errNoSuchPeer = errors.New("no such replica")

// TransferLeadership hands leadership to a replica by name, or to any when
// name is "".
func (r *Replica) TransferLeadership(ctx context.Context, name string) error {
	node := r.node.Load()
	if node == nil {
		return ErrStopped
	}
	if node.State() != raft.Leader {
		return fmt.Errorf("transfer leadership: %w", ErrNotLeader)
	}
	if name == "" {
		return r.futures.do(ctx, node.LeadershipTransfer)
	}
	to := r.pins.now.Load().byName(name)
	if to == nil {
		return fmt.Errorf("transfer leadership to %q: %w", name, errNoSuchPeer)
	}
	return r.futures.do(ctx, func() raft.Future { return node.LeadershipTransferToServer(to.serverID(), to.serverAddr()) })
}
