package fsm

import (
	"crypto/sha256"

	"github.com/quorate/quorate/ledger"
)

// seatKey gives a key its one role, and says how it came.
func (t *transition) seatKey(public []byte, holder, role, how string) {
	key := &KeyRecord{Holder: holder, Role: role, Since: t.next}
	if t.rotates() {
		key.How, key.ValidFrom = how, t.meta.Epoch
	}
	t.put(keyOf(sha256.Sum256(public)), key)
}

// changeKey stores a changed copy of a key's record.
func (t *transition) changeKey(id ledger.Hash, change func(*KeyRecord)) {
	old, ok := lookup[KeyRecord](&t.view, keyOf(id))
	invariant(ok, "a key that had a role has its record")
	next := *old
	change(&next)
	t.put(keyOf(id), &next)
}

// revokeKey ends a key's role by decision, from an epoch on that may be past:
// nothing under it is accepted any more, of whatever epoch. The record stays, so
// that the key never gets another role. Its holder's window is there still.
func (t *transition) revokeKey(id ledger.Hash, how string, from uint64) {
	t.changeKey(id, func(k *KeyRecord) {
		k.Revoked = true
		if t.rotates() {
			if k.RevokedFrom == nil || from < *k.RevokedFrom {
				k.RevokedFrom = &from
			}
			if k.Ended == "" {
				t.endKey(k, id, how, t.meta.Epoch)
			}
		}
	})
	t.remove(oldKeyOf(id))
}

// endKey writes into a key's record how it ended and what its last epoch was.
func (t *transition) endKey(k *KeyRecord, id ledger.Hash, how string, last uint64) {
	if n, ok := lookup[NodeRecord](&t.view, tableNode+k.Holder); ok && k.Role == RoleNode && n.Key == id {
		k.ValidFrom, last = n.ValidFrom, min(last, n.ValidTo)
	}
	k.Ended, k.ValidTo = how, &last
	w := t.window(k.Holder)
	if w == nil || w.LastSeq <= k.Since || k.ValidFrom > t.meta.Epoch {
		return
	}
	if k.Previous != nil { // which was heard for an epoch more
		if before, ok := t.Key(*k.Previous); ok && before.Last == w.LastSeq {
			return
		}
	}
	k.Last = w.LastSeq
}

// forgetOld drops what is kept of the keys before this one, so that nothing under
// them is accepted any more: their holder goes, or gets a key by decision, and the
// window that tells what was said goes with it.
func (t *transition) forgetOld(id ledger.Hash) {
	for {
		key, ok := lookup[KeyRecord](&t.view, keyOf(id))
		if !ok || key.Previous == nil {
			return
		}
		id = *key.Previous
		if _, kept := lookup[OldKeyRecord](&t.view, oldKeyOf(id)); !kept {
			return
		}
		t.remove(oldKeyOf(id))
	}
}

// keepOld keeps a key that is rotated out for as long as statements of its last
// epoch are taken.
func (t *transition) keepOld(id ledger.Hash, old *OldKeyRecord) {
	old.Lapses = t.oldKeyLapses(old.To)
	t.put(oldKeyOf(id), old)
}

// oldKeyLapses is the beginning of the second epoch after a key's last one, by the
// clock of now: nothing of that epoch is taken from then on.
func (t *transition) oldKeyLapses(to uint64) uint64 {
	left := to + 2 - min(t.meta.Epoch, to+2)
	return t.meta.EpochStart + left*t.policy.EpochMillis
}

// moveOldKeys keeps the old keys longer or shorter when the epochs' length changes.
func (t *transition) moveOldKeys() {
	moved := map[string]*OldKeyRecord{}
	each(&t.view, tableOldKey, func(name string, o *OldKeyRecord) bool {
		next := *o
		next.Lapses = t.oldKeyLapses(o.To)
		moved[name] = &next
		return true
	})
	for name, next := range moved {
		t.put(tableOldKey+name, next)
	}
}

// leadsTo reports whether a key's own rotations lead to another one.
func (v *view) leadsTo(id, current ledger.Hash) bool {
	for id != current {
		key, ok := lookup[KeyRecord](v, keyOf(id))
		if !ok || key.Revoked || key.Ended != KeyRotated || key.Next == nil {
			return false
		}
		id = *key.Next
	}
	return true
}
