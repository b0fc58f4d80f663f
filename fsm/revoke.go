package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// revokedFrom gives the epoch from which a key that began in first is revoked: that
// which a decision names, which may be past, or else the present one.
func (t *transition) revokedFrom(named *uint64, first uint64) (uint64, *problem) {
	switch {
	case named == nil:
		return t.meta.Epoch, nil
	case !t.rotates():
		return 0, refuse(UnknownField, "body.args.from", fmt.Sprintf("of format %d", ledger.KeysFormat))
	case *named > t.meta.Epoch || *named < first:
		return 0, refuse(BadField, "body.args.from", fmt.Sprintf("want an epoch from %d, in which the key began, to %d", first, t.meta.Epoch))
	}
	return *named, nil
}

// dropKeys ends all keys of a node by decision: the one in force from an epoch on, and
// the next one, if there is one, altogether.
func (t *transition) dropKeys(n *NodeRecord, how string, from uint64) {
	t.revokeKey(n.Key, how, from)
	t.forgetOld(n.Key)
	if n.Next != nil {
		t.revokeKey(n.Next.Key, how, n.Next.From)
	}
	t.remove(tableWindow + n.Name)
}

// follow writes into the records of two keys that a decision put one in the place of
// the other.
func (t *transition) follow(old, next ledger.Hash) {
	if !t.rotates() {
		return
	}
	t.changeKey(old, func(k *KeyRecord) { k.Next = &next })
	t.changeKey(next, func(k *KeyRecord) { k.How, k.Previous = KeyRekeyed, &old })
}
