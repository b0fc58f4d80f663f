package fsm

import (
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// Alarms of the ledger itself, from format 3 on: what its records show that somebody is
// to do something about. They are told when an epoch begins, and when a decision changes
// what they rest on; at most one of a kind at a time, and only when it changed.

// The kinds of alarms.
const (
	AlarmBackupMissing   = "backup_missing"        // principals whose key has no backup that could be opened
	AlarmBackupUntested  = "backup_untested"       // principals whose backup was not opened lately, or could not be
	AlarmCouncilThin     = "council_thin"          // actions that fewer operators than two more than are needed can decide
	AlarmKeyExpired      = "key_expired"           // nodes whose key is over, or revoked without another
	AlarmLogKeyExposed   = "log_key_exposed"       // replicas that left for cause and knew the log's own keys
	AlarmReplicaLate     = "replica_rotation_late" // replicas whose key is old
	AlarmReseatPending   = "reseat_pending"        // proposals to re-seat the council
	AlarmRetentionOver   = "retention_over"        // keys that ended long ago and have a backup still
	AlarmRotationLate    = "rotation_late"         // nodes whose key ends soon and has no next one
	alarmNames           = 32                      // that an alarm tells
	alarmPatience        = 2                       // epochs that a new key may be without backup
	replicaLateNumerator = 9                       // eighths of replica_key_epochs
)

// alarmKinds are in the order in which they are told.
var alarmKinds = []string{
	AlarmBackupMissing, AlarmBackupUntested, AlarmCouncilThin, AlarmKeyExpired, AlarmLogKeyExposed,
	AlarmReplicaLate, AlarmReseatPending, AlarmRetentionOver, AlarmRotationLate,
}

// AlarmKinds are the kinds of alarms that the ledger has, sorted.
func AlarmKinds() []string { return slices.Clone(alarmKinds) }

// changesAlarms reports whether alarms rest on what an action decides.
func changesAlarms(action string) bool {
	switch action {
	case "council.change", "council.reseat", "log.rekey", "policy.change", "replica.remove":
		return true
	}
	return false
}

// alarms collects the names of what is to be told, by kind.
type alarms map[string][]string

func (a alarms) add(kind, name string) { a[kind] = append(a[kind], name) }

// raiseAlarms tells which alarms are on, changed or over, caused by the entry seq.
func (t *transition) raiseAlarms(seq uint64) {
	if !t.rotates() {
		return
	}
	found := t.findAlarms()
	for _, kind := range alarmKinds {
		names := found[kind]
		slices.Sort(names)
		t.raise(kind, names, seq)
	}
}

func (t *transition) raise(kind string, names []string, seq uint64) {
	old, on := lookup[AlarmRecord](&t.view, tableAlarm+kind)
	digest := ledger.Hash(sha256.Sum256([]byte(strings.Join(names, "\n"))))
	switch {
	case on && old.Digest == digest, !on && len(names) == 0:
		return
	case kind == AlarmBackupMissing || kind == AlarmBackupUntested:
		if t.meta.Frozen != "" {
			return // a freeze lets nobody record a backup
		}
	}
	told := append([]string{}, names[:min(len(names), alarmNames)]...)
	entry := t.appendEffect(EffectAlarm, &AlarmEffect{Count: uint64(len(names)), Kind: kind, Names: told}, seq)
	if len(names) == 0 {
		t.remove(tableAlarm + kind)
		return
	}
	next := &AlarmRecord{Count: uint64(len(names)), Digest: digest, Names: told, Seq: entry, Since: t.meta.Epoch}
	if on {
		next.Since = old.Since
	}
	t.put(tableAlarm+kind, next)
}

// findAlarms walks once over the nodes, the backups and the proposals that are live.
func (t *transition) findAlarms() alarms {
	found, rules := alarms{}, t.policy.KeyRules()
	backed := t.backers()
	backup := func(role, name string, id ledger.Hash, since uint64) {
		if !rules.WantsBackup(role) || t.meta.Epoch < since+alarmPatience {
			return
		}
		switch backed.standing(id) {
		case BackupMissing:
			found.add(AlarmBackupMissing, name)
		case BackupUntested:
			found.add(AlarmBackupUntested, name)
		}
	}
	t.alarmsOfNodes(found, &rules, backup)
	t.alarmsOfReplicas(found, &rules)
	t.alarmsOfPeople(found, backup)
	each(&t.view, tableBackup, func(_ string, b *BackupRecord) bool {
		if last, ended := t.lastEpoch(b.Key); ended && last+rules.RetentionEpochs < t.meta.Epoch {
			found.add(AlarmRetentionOver, b.Key.String())
		}
		return true
	})
	it := t.due.Root().Iterator()
	for _, name, ok := it.Next(); ok; _, name, ok = it.Next() {
		if p, live := lookup[Proposal](&t.view, name); live && p.Action == "council.reseat" {
			found.add(AlarmReseatPending, p.ID.String())
		}
	}
	found[AlarmLogKeyExposed] = slices.Clone(t.meta.Exposed)
	return found
}

func (t *transition) alarmsOfNodes(found alarms, rules *ledger.Keys, backup func(role, name string, id ledger.Hash, since uint64)) {
	now := t.meta.Epoch
	each(&t.view, tableNode, func(name string, n *NodeRecord) bool {
		switch {
		case n.Standing == NodeExcluded:
		case now > n.ValidTo+t.policy.GraceEpochs, n.Revoked && n.Next == nil:
			found.add(AlarmKeyExpired, name)
		case n.Revoked || now > n.ValidTo:
		default:
			if n.Next == nil && n.ValidTo-now < rules.LateEpochs {
				found.add(AlarmRotationLate, name)
			}
			backup(RoleNode, name, n.Key, n.ValidFrom)
		}
		return true
	})
}

// ReplicaLateAfter is how many epochs old a replica's key is at most before it is late,
// where it is to last so many.
func ReplicaLateAfter(replicaKeyEpochs uint64) uint64 {
	return replicaKeyEpochs * replicaLateNumerator / 8
}

func (t *transition) alarmsOfReplicas(found alarms, rules *ledger.Keys) {
	each(&t.view, tableReplica, func(name string, r *ReplicaRecord) bool {
		late := ReplicaLateAfter(rules.ReplicaKeyEpochs)
		if r.Standing == ReplicaActive && late > 0 && t.meta.Epoch > r.KeyEpoch+late {
			found.add(AlarmReplicaLate, name)
		}
		return true
	})
}

func (t *transition) alarmsOfPeople(found alarms, backup func(role, name string, id ledger.Hash, since uint64)) {
	each(&t.view, tableCouncil, func(name string, g *Governor) bool {
		key, _ := t.Key(g.KeyID())
		backup(RoleGovernor, name, g.KeyID(), key.ValidFrom)
		return true
	})
	if t.recovery != nil {
		for _, h := range t.recovery.Holders {
			backup(RoleRecovery, h.Name, h.KeyID(), 0)
		}
	}
	operators := uint64(len(t.councilOperators()))
	for _, action := range ledger.Actions() {
		if action != "council.reseat" && ledger.ChangesAuthority(action) && t.rule(action, nil).Threshold+1 >= operators {
			found.add(AlarmCouncilThin, action)
		}
	}
}

// lastEpoch gives the last epoch of a key that has ended.
func (v *view) lastEpoch(id ledger.Hash) (last uint64, ended bool) {
	key, ok := lookup[KeyRecord](v, keyOf(id))
	if !ok {
		return 0, false
	}
	if key.ValidTo != nil {
		return *key.ValidTo, true
	}
	n, ok := lookup[NodeRecord](v, tableNode+key.Holder)
	if ok && key.Role == RoleNode && n.Key == id && v.meta.Epoch > n.ValidTo+v.policy.GraceEpochs {
		return n.ValidTo, true
	}
	return 0, false
}
