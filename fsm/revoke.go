package fsm

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// Revocation from an epoch on, which may be past. What it changes and what it does
// not is in DESIGN.md, "The life of keys".

type revokeArgs struct {
	From   uint64      `json:"from"` // epoch
	Key    ledger.Hash `json:"key"`
	Reason string      `json:"reason"`
}

// nodeKey finds a key that is or was a node's.
func (v *view) nodeKey(id ledger.Hash) (*KeyRecord, *problem) {
	key, ok := lookup[KeyRecord](v, keyOf(id))
	if !ok || key.Role != RoleNode {
		return nil, refuse(UnknownKey, "body.args.key", fmt.Sprintf("no node has or had the key %s", id))
	}
	return key, nil
}

// revokedNode is the tables of key.revoke: the node whose key it is.
func (v *view) revokedNode(raw canon.Raw) ([]string, *problem) {
	args, p := decodeArgs[revokeArgs](raw)
	if p != nil {
		return nil, p
	}
	key, p := v.nodeKey(args.Key)
	if p != nil {
		return nil, p
	}
	return []string{tableNode + key.Holder}, nil
}

// revokeNodeKey is key.revoke: nothing under a key of a node is accepted any more, of
// whatever epoch, since a thief dates back as he likes; and what it said from an epoch
// on is disputed.
func (t *transition) revokeNodeKey(args revokeArgs, _ occasion) *problem {
	key, p := t.nodeKey(args.Key)
	if p != nil {
		return p
	}
	n, p := t.namedNode(key.Holder)
	if p != nil {
		return p
	}
	if p := checkReason(args.Reason); p != nil {
		return p
	}
	if key.Revoked && (key.RevokedFrom == nil || args.From >= *key.RevokedFrom) {
		return refuse(RevokedKey, "body.args.key", "it is revoked already, and not from a later epoch")
	}
	first := key.ValidFrom
	if n.Key == args.Key {
		first = n.ValidFrom
	}
	if _, p := t.revokedFrom(&args.From, min(first, t.meta.Epoch)); p != nil {
		return p
	}
	t.retract(n.Name, t.revokeLine(n, args.Key, args.From))
	return nil
}

// A stretch is when keys spoke whose words are taken out: the epochs, inclusive, and
// the seq of the last entry in which they did.
type stretch struct{ from, to, last uint64 }

// since is a stretch that has no end yet.
func since(epoch uint64) stretch { return stretch{epoch, math.MaxUint64, math.MaxUint64} }

// revokeLine revokes a node's key, and those that followed it by rotations that were
// accepted from that epoch on: a thief who rotated loses that key as well. Not the
// epoch that such a rotation names counts, which he chooses. It gives the stretch in
// which they spoke: what the key in force says, if it is none of them, stands.
func (t *transition) revokeLine(n *NodeRecord, id ledger.Hash, from uint64) stretch {
	next, began, said := *n, from, stretch{from: from}
	for {
		t.revokeKey(id, KeyRevoked, began)
		key, _ := t.Key(id)
		said.to, said.last = *key.ValidTo, max(said.last, t.lastWord(&key))
		switch {
		case n.Key == id:
			next.Revoked, next.Elector = true, false
		case n.Next != nil && n.Next.Key == id:
			next.Next = nil
		}
		if key.Next == nil {
			break
		}
		follower, _ := t.Key(*key.Next)
		if follower.How != KeyRotated || follower.Said < from {
			break
		}
		id, began = *key.Next, follower.ValidFrom
	}
	if next.Revoked {
		said = since(from)
	}
	next.Version = t.next
	t.put(tableNode+n.Name, &next)
	return said
}

// lastWord is the seq of the last entry that a key which ended may have said: its own
// last, or that of the key before, which was heard for an epoch more.
func (t *transition) lastWord(key *KeyRecord) uint64 {
	if key.Previous == nil {
		return key.Last
	}
	before, _ := t.Key(*key.Previous)
	return max(key.Last, before.Last)
}

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
	if t.rotates() {
		t.retract(n.Name, since(from))
	}
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

// retract takes what a node said in a stretch out of what is not settled: of the
// tallies of its epochs, of links, of attestations. Verdicts that were given stay, as
// does whatever followed from them: governance mends that.
func (t *transition) retract(name string, when stretch) {
	said := func(w Word) bool { return w.Author == name && w.Seq <= when.last }
	tallies := map[string]*TallyRecord{}
	each(&t.view, tableTally, func(key string, r *TallyRecord) bool {
		text, _, _ := strings.Cut(key, "/")
		epoch, err := strconv.ParseUint(text, 10, 64)
		invariant(err == nil, "a tally is of an epoch")
		if when.from <= epoch && epoch <= when.to && slices.ContainsFunc(r.Words, said) {
			next := *r
			next.Words = slices.DeleteFunc(slices.Clone(r.Words), said)
			tallies[key] = &next
		}
		return true
	})
	for key, next := range tallies {
		t.put(tableTally+key, next)
	}
	var attested []string
	each(&t.view, tableAttest, func(key string, r *AttestRecord) bool {
		if _, author, _ := strings.Cut(key, "/"); author == name && r.Seq <= when.last {
			attested = append(attested, key)
		}
		return true
	})
	for _, key := range attested {
		t.remove(tableAttest + key)
	}
	t.retractLinks(name, said)
}

// retractLinks takes a node's words on links out. A link that was down by them alone is
// up again, which is told once the decision is; and one that was down by the word of
// both ends cuts nobody off any more.
func (t *transition) retractLinks(name string, said func(Word) bool) {
	links := map[string]*LinkRecord{}
	each(&t.view, tableLink, func(key string, r *LinkRecord) bool {
		if slices.ContainsFunc(r.Words, said) {
			links[key] = r
		}
		return true
	})
	for _, key := range slices.Sorted(maps.Keys(links)) {
		next := *links[key]
		next.Words = slices.DeleteFunc(slices.Clone(next.Words), said)
		if down, _ := sides(next.Words); next.Down && len(down) == 0 {
			next.Down = false
			t.mended = append(t.mended, key)
		}
		t.recount = t.recount || next.mutual() != links[key].mutual()
		if len(next.Words) == 0 {
			t.remove(tableLink + key)
		} else {
			t.put(tableLink+key, &next)
		}
	}
}

// tellMended tells of the links that a decision put up again, and whether the fleet is
// parted still.
func (t *transition) tellMended(seq uint64) {
	for _, key := range t.mended {
		a, b, _ := strings.Cut(key, "/")
		t.appendEffect(EffectLink, &LinkEffect{Ends: []string{a, b}, Kind: ledger.LinkUp}, seq)
	}
	if t.recount {
		t.watchPartition(seq)
	}
	t.mended, t.recount = nil, false
}

// A KeyWord says what a signature under a key in some epoch is worth, as the state
// knows the key now.
type KeyWord string

// The words. A statement that is on the ledger was accepted under the rules of its
// time in any case: they say what to think of it now, and of one that is not.
const (
	WordHolds    KeyWord = "holds"    // the epoch is in the key's range: the word of its holder
	WordDisputed KeyWord = "disputed" // the key is revoked from this epoch or an earlier one on
	WordEnded    KeyWord = "ended"    // it is revoked, and the ledger does not say from when: before format 3
	WordNotYet   KeyWord = "not_yet"  // the epoch is before the key's range
	WordExpired  KeyWord = "expired"  // it is after it
	WordNoEpoch  KeyWord = "no_epoch" // it says none: judged by the place of its entry alone
	WordUnknown  KeyWord = "unknown"  // no such key
)

// KeyAt says what a signature under a key is worth whose statement names that epoch, or
// none.
func (v *view) KeyAt(id ledger.Hash, epoch *uint64) (KeyWord, KeyRecord) {
	key, ok := v.Key(id)
	switch {
	case !ok:
		return WordUnknown, key
	case epoch == nil:
		return WordNoEpoch, key
	case key.RevokedFrom != nil && *key.RevokedFrom <= *epoch:
		return WordDisputed, key
	case key.Revoked && key.RevokedFrom == nil:
		return WordEnded, key
	case key.Role != RoleNode && key.ValidTo == nil:
		return WordHolds, key
	}
	from, to := key.ValidFrom, uint64(0)
	n, there := v.Node(key.Holder)
	switch {
	case key.ValidTo != nil:
		if to = *key.ValidTo; key.Role == RoleNode && key.Ended != KeyRotated {
			to += v.policy.GraceEpochs // it was heard so long, without a successor
		}
	case there && n.Key == id:
		from, to = n.ValidFrom, n.ValidTo+v.policy.GraceEpochs
	case there && n.Next != nil && n.Next.Key == id:
		to = n.Next.From + v.policy.KeyEpochs
	}
	switch {
	case *epoch < from:
		return WordNotYet, key
	case *epoch > to:
		return WordExpired, key
	}
	return WordHolds, key
}

// WordOf says what a statement that is on the ledger is worth, by the record of its key
// as the ledger has it later. That the epoch is in the key's range its acceptance shows.
func WordOf(st *ledger.Statement, record []byte) (KeyWord, KeyRecord, error) {
	var key KeyRecord
	if err := canon.Unmarshal(record, &key); err != nil {
		return "", key, fmt.Errorf("read the record of key %s: %w", st.KeyID, err)
	}
	if key.Holder != st.Payload.Author {
		return "", key, fmt.Errorf("the statement is of %s, and its key is %s's", st.Payload.Author, key.Holder)
	}
	switch epoch := st.Payload.Epoch; {
	case epoch == nil:
		return WordNoEpoch, key, nil
	case key.RevokedFrom != nil && *key.RevokedFrom <= *epoch:
		return WordDisputed, key, nil
	case key.Revoked && key.RevokedFrom == nil:
		return WordEnded, key, nil
	}
	return WordHolds, key, nil
}

// revokeWords says what key.revoke does.
func (v *view) revokeWords(a revokeArgs) []string {
	key, p := v.nodeKey(a.Key)
	if p != nil {
		return sentence("Revokes a key that no node has or had, %s.", keyWords(a.Key))
	}
	words := sentence("Revokes the key %s of node %s from epoch %d on: %q. Nothing under it is accepted any more, and what it said from then on is disputed.",
		keyWords(a.Key), key.Holder, a.From, a.Reason)
	for key.Next != nil {
		id := *key.Next
		next, ok := lookup[KeyRecord](v, keyOf(id))
		if !ok || next.How != KeyRotated || next.Said < a.From {
			break
		}
		words = append(words, fmt.Sprintf("Revokes the key %s too, to which it rotated in epoch %d.", keyWords(id), next.Said))
		key = next
	}
	return words
}

// fromWords says what from adds to a decision that ends a key.
func fromWords(words []string, from *uint64) []string {
	if from == nil {
		return words
	}
	return append(words, fmt.Sprintf("What the key before said from epoch %d on is disputed.", *from))
}

// replicaFromWords says which keys of a replica end with the one in force, besides.
func (v *view) replicaFromWords(words []string, name string, from *uint64) []string {
	words = fromWords(words, from)
	r, ok := v.Replica(name)
	if !ok {
		return words
	}
	line := v.replicaLine(&r, from)
	for i := range line[1:] {
		words = append(words, fmt.Sprintf("Revokes the key %s too, from which it rotated in epoch %d.", keyWords(line[i+1].id), line[i].from))
	}
	return words
}
