package readertest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// rotated takes note of a rotation that was accepted.
func (r *Reader) rotated(st *ledger.Statement, old Key) {
	body, err := ledger.DecodeBody[ledger.Rotate](st)
	if err != nil {
		r.complain("a key.rotate without a body: %v", err)
		return
	}
	id := ledger.Hash(sha256.Sum256(body.Public))
	if k, known := r.Keys[id]; known {
		r.complain("%s rotates to a key that was %s's", st.Payload.Author, k.Holder)
	}
	if r.Format < keyFormat {
		r.complain("a rotation in format %d", r.Format)
	}
	next := Key{Holder: old.Holder, Role: old.Role, Seat: old.Seat, Said: r.Epoch}
	switch old.Role {
	case node:
		r.announce(st.KeyID, id, old, next)
	case replica: // in force at once
		next.From, next.To = r.Epoch, forever
		r.Keys[id] = next
		old.To, old.Succeeded, old.Next = r.Epoch, true, id
		r.Keys[st.KeyID] = old
		r.names[replica][old.Holder] = id
		r.Judged["replica rotated"]++
	default:
		r.complain("a %s rotates", old.Role)
	}
}

// announce is a node's rotation: the next key speaks from two epochs later on, or
// from the first epoch in which the old one does not.
func (r *Reader) announce(oldID, id ledger.Hash, old, next Key) {
	n := r.Nodes[old.Holder]
	switch {
	case n.Key != oldID:
		r.complain("%s rotates a key that is not in force", old.Holder)
	case n.Next != ledger.Hash{}:
		r.complain("%s rotates while a rotation waits", old.Holder)
	case n.Standing == excluded:
		r.complain("%s rotates and is excluded", old.Holder)
	case r.Epoch+r.rotateEpochs <= old.To:
		r.complain("%s rotates in epoch %d a key that ends with epoch %d", old.Holder, r.Epoch, old.To)
	case r.Epoch > old.To:
		r.complain("%s rotates in epoch %d a key that ended with epoch %d", old.Holder, r.Epoch, old.To)
	}
	next.From, next.To = min(r.Epoch+2, old.To+1), forever // until it is in force
	old.Next = id
	r.Keys[id], r.Keys[oldID] = next, old
	n.Next = id
	r.Nodes[old.Holder] = n
}

// end ends the keys of a node that gets another by decision, or none.
func (r *Reader) end(n Seated, from uint64) {
	r.revoke(n.Key, from)
	r.leave(r.Keys[n.Key].Seat)
	if n.Next != (ledger.Hash{}) {
		r.revoke(n.Next, r.Keys[n.Next].From)
	}
}

// revokeFrom is key.revoke: the key, and those that followed it by rotations that
// were accepted in its epoch or later.
func (r *Reader) revokeFrom(id ledger.Hash, from uint64) {
	r.revoke(id, from)
	for next := r.Keys[id].Next; next != (ledger.Hash{}) && r.Keys[next].Said >= from; next = r.Keys[next].Next {
		r.revoke(next, r.Keys[next].From)
		r.Judged["successor revoked"]++
	}
	holder := r.Keys[id].Holder
	if n := r.Nodes[holder]; n.Next != (ledger.Hash{}) && r.Keys[n.Next].Revoked {
		n.Next = ledger.Hash{}
		r.Nodes[holder] = n
	}
}

// WordAt says, in the words of an audit, what a signature of an epoch under a key is
// worth now.
func (r *Reader) WordAt(id ledger.Hash, epoch uint64) string {
	k, known := r.Keys[id]
	last := k.To
	if k.Role == node && !k.Succeeded {
		last += r.grace
	}
	switch {
	case !known:
		return "unknown"
	case k.Revoked && k.RevokedFrom <= epoch:
		return "disputed"
	case k.Role != node && !k.Revoked && !k.Succeeded:
		return "holds"
	case epoch < k.From:
		return "not_yet"
	case epoch > last:
		return "expired"
	}
	return "holds"
}

type epochBody struct {
	Count   uint64      `json:"count,omitempty"`
	Epoch   uint64      `json:"epoch"`
	Keys    ledger.Hash `json:"keys"`
	Rotated uint64      `json:"rotated,omitempty"`
	Start   uint64      `json:"start"`
}

// begins enters an epoch: announced keys take effect, and what the effect says of
// the active keys is counted once more.
func (r *Reader) begins(body *epochBody) {
	before, epoch := r.Epoch, body.Epoch
	r.Epoch, r.begun = epoch, r.Format >= keyFormat
	rotated := uint64(0)
	for _, name := range slices.Sorted(maps.Keys(r.Nodes)) {
		n := r.Nodes[name]
		k := r.Keys[n.Key]
		// Nobody could speak, and so nobody could rotate, in epochs that were passed over.
		if r.Format >= keyFormat && epoch > before+1 && !k.Revoked && k.From <= before && before <= k.To {
			k.To += epoch - before - 1
			r.Keys[n.Key] = k
		}
		if next, waits := r.Keys[n.Next]; waits && next.From <= epoch {
			if !k.Revoked {
				k.To, k.Succeeded = next.From-1, true
			}
			next.To = epoch + r.keyEpochs
			r.Keys[n.Key], r.Keys[n.Next] = k, next
			r.Nodes[name] = Seated{Key: n.Next, Standing: n.Standing}
			rotated++
			r.Judged["rotation in force"]++
		}
	}
	digest, count := r.active()
	if digest != body.Keys {
		r.complain("epoch %d begins with the digest %s of its active keys, which is not that of those that are active", epoch, body.Keys)
	}
	if r.Format >= keyFormat && (body.Count != count || body.Rotated != rotated) {
		r.complain("epoch %d begins with %d active keys, %d of them new, by the effect; with %d and %d as they are read", epoch, body.Count, body.Rotated, count, rotated)
	}
}

// active gives the digest and the number of the keys that may speak now.
func (r *Reader) active() (digest ledger.Hash, count uint64) {
	h := sha256.New()
	add := func(role, name string, id ledger.Hash) {
		fmt.Fprintf(h, "%s %s %s\n", role, name, hex.EncodeToString(id[:]))
		count++
	}
	for _, role := range []string{governor, recovery, replica} {
		for _, name := range slices.Sorted(maps.Keys(r.names[role])) {
			add(role, name, r.names[role][name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Nodes)) {
		n := r.Nodes[name]
		if k := r.Keys[n.Key]; n.Standing == active && !k.Revoked && k.From <= r.Epoch && r.Epoch <= k.To {
			add(node, name, n.Key)
		}
	}
	return ledger.Hash(h.Sum(nil)), count
}
