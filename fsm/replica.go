package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
)

type replicaArgs struct {
	From    *uint64        `json:"from,omitempty"` // of replica.rekey: epoch from which the key before is revoked; from format 3 on
	Replica ledger.Replica `json:"replica"`
}

type replicaRemoveArgs struct {
	Cause bool    `json:"cause,omitempty"` // removed for cause: the log's own key is to be rotated
	From  *uint64 `json:"from,omitempty"`  // as of replica.rekey
	Name  string  `json:"name"`
}

// addReplica is replica.add. The replica is joining, and uncounted, until it
// says itself that its history is whole.
func (t *transition) addReplica(args replicaArgs, _ occasion) *problem {
	r := args.Replica
	if args.From != nil {
		return refuse(UnknownField, "body.args.from", "only a key that ends is revoked from an epoch on")
	}
	if p := t.checkNewcomer("body.args.replica", r.Name, r.Public, nil); p != nil {
		return p
	}
	if p := t.checkReplica(r); p != nil {
		return p
	}
	if len(t.Replicas()) >= ledger.MaxReplicas {
		return refuse(TooManySeats, "body.args.replica", fmt.Sprintf("at most %d replicas", ledger.MaxReplicas))
	}
	t.seatReplica(r)
	return nil
}

// rekeyReplica is replica.rekey: a replica comes back under another key,
// because its key or its data are lost or doubtful. It joins anew.
func (t *transition) rekeyReplica(args replicaArgs, _ occasion) *problem {
	r := args.Replica
	old, ok := lookup[ReplicaRecord](&t.view, tableReplica+r.Name)
	if !ok {
		return refuse(UnknownReplica, "body.args.replica.name", fmt.Sprintf("there is no replica %q", r.Name))
	}
	if p := t.checkNewcomer("body.args.replica", r.Name, r.Public, map[string]bool{r.Name: true}); p != nil {
		return p
	}
	if r.Operator != old.Operator {
		return refuse(WrongOperator, "body.args.replica.operator", fmt.Sprintf("%s belongs to %s", r.Name, old.Operator))
	}
	if p := t.checkReplica(r); p != nil {
		return p
	}
	if p := t.checkRemaining(old); p != nil {
		return p
	}
	line := t.replicaLine(old, args.From)
	from, p := t.revokedFrom(args.From, line[len(line)-1].from)
	if p != nil {
		return p
	}
	t.unseatReplica(old, line, KeyRekeyed, from)
	t.seatReplica(r)
	t.follow(old.KeyID(), r.KeyID())
	return nil
}

// removeReplica is replica.remove.
func (t *transition) removeReplica(args replicaRemoveArgs, _ occasion) *problem {
	old, ok := lookup[ReplicaRecord](&t.view, tableReplica+args.Name)
	if !ok {
		return refuse(UnknownReplica, "body.args.name", fmt.Sprintf("there is no replica %q", args.Name))
	}
	if p := t.checkRemaining(old); p != nil {
		return p
	}
	line := t.replicaLine(old, args.From)
	from, p := t.revokedFrom(args.From, line[len(line)-1].from)
	if p != nil {
		return p
	}
	t.unseatReplica(old, line, KeyRemoved, from)
	if args.Cause && t.rotates() && !slices.Contains(t.meta.Exposed, old.Name) {
		t.changeMeta(func(m *Meta) {
			m.Exposed = slices.Sorted(slices.Values(append(slices.Clone(m.Exposed), old.Name)))
		})
	}
	t.touch("replicas")
	return nil
}

func (t *transition) checkReplica(r ledger.Replica) *problem {
	if err := r.Validate(); err != nil {
		return refuse(BadField, "body.args.replica", err.Error())
	}
	if p := t.checkOperator("body.args.replica.operator", r.Operator); p != nil {
		return p
	}
	for _, other := range t.Replicas() {
		if other.Name != r.Name && (other.Peer == r.Peer || other.TLSPin == r.TLSPin) {
			return refuse(PeerTaken, "body.args.replica", fmt.Sprintf("%s has this peer address or TLS pin", other.Name))
		}
	}
	return nil
}

// checkRemaining checks that an active replica remains without r.
func (t *transition) checkRemaining(r *ReplicaRecord) *problem {
	if r.Standing == ReplicaActive && t.activeReplicas() <= 1 {
		return refuse(LastReplica, "body.args", fmt.Sprintf("%s is the last active replica", r.Name))
	}
	return nil
}

func (t *transition) seatReplica(r ledger.Replica) {
	record := &ReplicaRecord{Replica: r, Since: t.next, Standing: ReplicaJoining}
	if t.rotates() {
		record.KeyEpoch = t.meta.Epoch
	}
	t.put(tableReplica+r.Name, record)
	t.seatKey(r.Public, r.Name, RoleReplica, KeySeated)
	t.touch("replicas")
}

// lineKey is a key, and the epoch in which it began.
type lineKey struct {
	id   ledger.Hash
	from uint64
}

// replicaLine is which keys of a replica a decision revokes: the one in force, and,
// if the decision names an epoch, those before it, the last one first, back over each
// rotation that was accepted from that epoch on: a thief who rotated is not to put an
// end to what is disputed.
func (v *view) replicaLine(r *ReplicaRecord, from *uint64) []lineKey {
	line := []lineKey{}
	for id := r.KeyID(); ; {
		key, ok := v.Key(id)
		invariant(ok, "a key that had a role has its record")
		line = append(line, lineKey{id, key.ValidFrom})
		if from == nil || key.How != KeyRotated || key.Said < *from {
			return line
		}
		id = *key.Previous
	}
}

// unseatReplica ends a replica's keys. The window of what it said goes too: the
// next key counts from 0, and nothing under the old ones is accepted any more.
func (t *transition) unseatReplica(r *ReplicaRecord, line []lineKey, how string, from uint64) {
	t.forgetOld(r.KeyID()) // before the line goes, over which it finds those before it
	for _, key := range line {
		t.revokeKey(key.id, how, max(from, key.from))
	}
	t.remove(tableReplica + r.Name)
	t.remove(tableWindow + r.Name)
}

// ready is the statement ready: a joining replica says that its history is
// whole and becomes active; an active one says that it runs a later format.
func (t *transition) ready(st *ledger.Statement, a author) *problem {
	body, err := ledger.DecodeBody[ledger.Ready](st)
	if err != nil {
		return fromStatementError(err)
	}
	if a.role != RoleReplica {
		return refuse(WrongRole, "author", fmt.Sprintf("ready is for a replica, %s is a %s", a.name, a.role))
	}
	if t.meta.Frozen != "" {
		return refuse(Frozen, "", t.meta.Frozen)
	}
	if p := t.checkSeq(st); p != nil {
		return p
	}
	r, ok := lookup[ReplicaRecord](&t.view, tableReplica+a.name)
	invariant(ok, "a replica's key has its replica")
	if body.Size > t.next || body.Size <= r.Since {
		return refuse(HistoryNotWhole, "body.size", fmt.Sprintf("the ledger has %d entries, the replica was decided by entry %d", t.next, r.Since))
	}
	joining := r.Standing == ReplicaJoining
	if body.Format < t.meta.Format || !joining && body.Format <= r.Format {
		return refuse(FormatTooLow, "body.format", fmt.Sprintf("the ledger is at format %d, the replica stated %d", t.meta.Format, r.Format))
	}
	if joining && t.pending {
		return refuse(HandoverPending, "", "a handover waits for its seal")
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	next := *r
	next.Format = body.Format
	next.Standing = ReplicaActive
	t.put(tableReplica+a.name, &next)
	if joining {
		t.appendEffect(EffectActive, &ReplicaEffect{Key: st.KeyID, Name: a.name}, seq)
		t.noteAuthority([]uint64{seq})
	}
	return nil
}
