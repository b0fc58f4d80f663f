package fsm

import (
	"encoding/hex"

	"github.com/quorate/quorate/ledger"
)

// The life of keys, from format 3 on (DESIGN.md).

// rotates reports whether the rules of rotation, backup and revocation hold.
func (v *view) rotates() bool { return v.meta.Format >= ledger.KeysFormat }

// How a key came and ended, as its record says.
const (
	KeyGenesis  = "genesis"
	KeyAdmitted = "admitted" // a node's, by node.admit
	KeySeated   = "seated"   // a governor's or replica's, by decision
	KeyRotated  = "rotated"  // by its holder
	KeyRekeyed  = "rekeyed"  // by decision
	KeyRevoked  = "revoked"
	KeyRemoved  = "removed" // with its holder
)

// NextKey is the key that a node has announced, until it is in force.
type NextKey struct {
	From   uint64      `json:"from"` // the first epoch in which it speaks, and the one before it no longer
	Key    ledger.Hash `json:"key"`
	Peer   []byte      `json:"peer"`
	Public []byte      `json:"public"`
	Seq    uint64      `json:"seq"` // of the key.rotate
}

// OldKeyRecord is the record "oldkey/HEX": a key that was rotated out, for as long
// as statements of its epochs are taken.
type OldKeyRecord struct {
	From   uint64 `json:"from"` // epochs, inclusive
	Holder string `json:"holder"`
	Lapses uint64 `json:"lapses"`         // stamp
	Peer   []byte `json:"peer,omitempty"` // of a node
	Public []byte `json:"public"`
	Role   string `json:"role"`
	To     uint64 `json:"to"`
}

// BackupRecord is the record "backup/HEX" of a key: its last backup.
type BackupRecord struct {
	ledger.Backup
	Epoch     uint64 `json:"epoch"` // in which it was recorded
	Failed    bool   `json:"failed,omitempty"`
	Holder    string `json:"holder"` // of the key
	Role      string `json:"role"`
	Seq       uint64 `json:"seq"`
	Tested    uint64 `json:"tested,omitempty"`     // epoch in which it was opened last
	TestedSeq uint64 `json:"tested_seq,omitempty"` // of the restore.test; 0: never
}

// AlarmRecord is the record "alarm/KIND", while the alarm lasts.
type AlarmRecord struct {
	Count  uint64      `json:"count"`
	Digest ledger.Hash `json:"digest"` // of all the names
	Names  []string    `json:"names"`  // the first 32, sorted
	Seq    uint64      `json:"seq"`    // of the effect that said so last
	Since  uint64      `json:"since"`  // epoch in which it began
}

func oldKeyOf(id ledger.Hash) string { return tableOldKey + hex.EncodeToString(id[:]) }
func backupOf(id ledger.Hash) string { return tableBackup + hex.EncodeToString(id[:]) }

// OldKey returns a key that was rotated out, while statements of its epochs are
// still taken.
func (v *view) OldKey(id ledger.Hash) (OldKeyRecord, bool) {
	return one[OldKeyRecord](v, oldKeyOf(id))
}

// Backup returns the last backup of a key.
func (v *view) Backup(id ledger.Hash) (BackupRecord, bool) {
	return one[BackupRecord](v, backupOf(id))
}

// Backups returns up to limit backups of keys whose id is above after, by id.
func (v *view) Backups(after ledger.Hash, limit int) []BackupRecord {
	backups := []BackupRecord{}
	for _, b := range page[BackupRecord](v, tableBackup, idCursor(after), limit, nil) {
		backups = append(backups, *b)
	}
	return backups
}

// Alarm returns the alarm of a kind, if it is on.
func (v *view) Alarm(kind string) (AlarmRecord, bool) {
	return one[AlarmRecord](v, tableAlarm+kind)
}

// Alarms returns the alarms that are on, by kind.
func (v *view) Alarms() map[string]AlarmRecord {
	alarms := map[string]AlarmRecord{}
	each(v, tableAlarm, func(kind string, a *AlarmRecord) bool {
		alarms[kind] = *a
		return true
	})
	return alarms
}

// Possessor may be implemented by a Verifier that has checked proofs of possession
// already: whether proof is the signature of message under a packed ML-DSA-65 key.
// It must be a pure function of its arguments.
type Possessor interface {
	Possesses(public, message, proof []byte) bool
}
