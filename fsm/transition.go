package fsm

import (
	"maps"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// transition is one Apply under way: it works on copies that share their
// unchanged parts with the state that it starts from, and commit makes the
// next state of them. Dropping it undoes everything.
type transition struct {
	view
	verify Verifier

	records *iradix.Txn[any]
	due     *iradix.Txn[string]
	lapses  *iradix.Txn[string]
	counts  *iradix.Txn[uint64]
	drawn   *iradix.Txn[struct{}] // the electors
	dirty   map[string]struct{}   // keys whose record changed in this transition since the last flush
	changed *changedKey           // and before it
	trie    ledger.Trie

	next   uint64
	prev   ledger.Hash
	stamp  uint64
	before uint64 // the stamp of the last entry before the command
	sealed uint64
	digest ledger.Hash

	urgent  bool
	pending bool
	causes  []uint64

	recovering uint64 // as in State

	mended  []string // links that the decision under way puts up again
	recount bool     // it changed by how many links nodes are cut off

	dry     bool // only the verdicts are wanted: entries are counted, not made
	entries [][]byte
	leaves  []ledger.Hash
	seal    *ledger.Seal
	sealSeq uint64

	expected *Known // by a replay: what the next entry should be
}

func begin(s *State, stamp uint64, v Verifier) *transition {
	t := &transition{
		view:    s.view,
		verify:  v,
		records: s.records.Txn(),
		due:     s.index.due.Txn(),
		lapses:  s.index.lapses.Txn(),
		counts:  s.index.counts.Txn(),
		drawn:   s.index.electors.Txn(),
		dirty:   map[string]struct{}{},
		changed: s.changed,
		trie:    s.trie,
		next:    s.next,
		prev:    s.prev,
		stamp:   stamp,
		before:  s.stamp,
		sealed:  s.sealed,
		digest:  s.digest,
		urgent:  s.urgent,
		pending: s.pending,
		causes:  s.causes,

		recovering: s.recovering,
	}
	t.source, t.electors = t.records, t.drawn
	return t
}

// fork gives a transition whose changes stay its own: a trial.
func (t *transition) fork() *transition {
	trial := *t
	trial.records = t.records.Clone()
	trial.due = t.due.Clone()
	trial.lapses = t.lapses.Clone()
	trial.counts = t.counts.Clone()
	trial.drawn = t.drawn.Clone()
	trial.dirty = map[string]struct{}{}
	trial.entries, trial.leaves, trial.mended, trial.recount = nil, nil, nil, false
	trial.expected = nil
	trial.source, trial.electors = trial.records, trial.drawn
	return &trial
}

// put stores a record, which nobody may change from then on.
func (t *transition) put(key string, record any) {
	old, had := t.records.Insert([]byte(key), record)
	if had {
		t.unindex(key, old)
	}
	t.reindex(key, record)
	t.dirty[key] = struct{}{}
	switch r := record.(type) {
	case *Meta:
		t.meta = r
	case *ledger.Policy:
		t.policy = r
	case *ledger.LogKeys:
		t.log = r
	case *ledger.Recovery:
		t.recovery = r
	case *ledger.Authority:
		t.authority = r
	}
}

// remove deletes a record, if it is there.
func (t *transition) remove(key string) {
	if old, had := t.records.Delete([]byte(key)); had {
		t.unindex(key, old)
		t.dirty[key] = struct{}{}
	}
}

func (t *transition) unindex(key string, record any) {
	x := indexOf(key, record)
	if x.due != 0 {
		t.due.Delete(timeKey(x.due, key))
	}
	if x.lapse != 0 {
		t.lapses.Delete(timeKey(x.lapse, key))
	}
	if x.elector != nil {
		t.drawn.Delete(x.elector)
	}
	for _, name := range x.counts {
		n, _ := t.counts.Get([]byte(name))
		invariant(n > 0, "a record that goes was counted")
		if n == 1 {
			t.counts.Delete([]byte(name))
		} else {
			t.counts.Insert([]byte(name), n-1)
		}
	}
}

func (t *transition) reindex(key string, record any) {
	x := indexOf(key, record)
	if x.due != 0 {
		t.due.Insert(timeKey(x.due, key), key)
	}
	if x.lapse != 0 {
		t.lapses.Insert(timeKey(x.lapse, key), key)
	}
	if x.elector != nil {
		t.drawn.Insert(x.elector, struct{}{})
	}
	for _, name := range x.counts {
		n, _ := t.counts.Get([]byte(name))
		t.counts.Insert([]byte(name), n+1)
	}
}

func (t *transition) count(name string) uint64 {
	n, _ := t.counts.Get([]byte(name))
	return n
}

// changeMeta stores a changed copy of the record meta.
func (t *transition) changeMeta(change func(*Meta)) {
	m := *t.meta
	m.Versions = maps.Clone(m.Versions)
	change(&m)
	t.put(keyMeta, &m)
}

// append adds an entry and returns its seq.
func (t *transition) append(kind ledger.Kind, content []byte) uint64 {
	if t.dry {
		t.entries = append(t.entries, nil)
		t.next++
		return t.next - 1
	}
	e := ledger.Entry{Seq: t.next, Stamp: t.stamp, Prev: t.prev, Kind: kind, Content: content}
	b, leaf, known := t.expected.encoding(&e)
	if !known {
		var err error
		b, err = e.Encode()
		invariant(err == nil, "an entry fits its bound")
		leaf = ledger.LeafHash(b)
	}
	t.expected = nil
	t.entries, t.leaves = append(t.entries, b), append(t.leaves, leaf)
	t.prev = leaf
	t.next++
	return e.Seq
}

// appendEffect adds an effect entry and returns its seq.
func (t *transition) appendEffect(typ string, body any, causes ...uint64) uint64 {
	raw, err := canon.Marshal(body)
	invariant(err == nil, "an effect has a canonical form")
	content, err := canon.Marshal(&ledger.Effect{Body: raw, Causes: causes, Type: typ})
	invariant(err == nil, "an effect has a canonical form")
	switch typ {
	case EffectDecision, EffectExecuted, EffectFailed, EffectVetoed, EffectActive,
		EffectExcluded, EffectQuarantined, EffectReleased, EffectVerdict, EffectLink, EffectRotated:
		t.urgent = true
	}
	seq := t.append(ledger.KindEffect, content)
	t.rememberLast(body, seq)
	return seq
}

// flush brings the trie up to date: each changed record is encoded once, and
// each branch hashed once, however often they changed.
func (t *transition) flush() {
	t.changed.addTo(t.dirty)
	t.changed = nil
	if len(t.dirty) == 0 {
		return
	}
	t.trie = t.trie.Apply(changes(t.records, t.dirty))
	clear(t.dirty)
}

// changes gives the records of keys as they are now, sorted by key.
func changes(records source, keys map[string]struct{}) []ledger.TrieChange {
	list := make([]ledger.TrieChange, 0, len(keys))
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		record, ok := records.Get([]byte(key))
		if !ok {
			list = append(list, ledger.TrieChange{Key: key, Delete: true})
			continue
		}
		list = append(list, ledger.TrieChange{Key: key, Value: encode(record)})
	}
	return list
}

// changedKey is one of the keys whose records the trie does not hold yet as they
// are, on top of the others. States share their lists as they share records.
type changedKey struct {
	key   string
	under *changedKey
	count int // of the list
}

func (c *changedKey) addTo(keys map[string]struct{}) {
	for ; c != nil; c = c.under {
		keys[c.key] = struct{}{}
	}
}

// keep puts the transition's changes off until the next flush, or makes it if
// too many wait.
func (t *transition) keep() {
	for key := range t.dirty {
		next := &changedKey{key: key, under: t.changed, count: 1}
		if t.changed != nil {
			if t.changed.key == key {
				continue
			}
			next.count += t.changed.count
		}
		t.changed = next
	}
	clear(t.dirty)
	if t.changed != nil && t.changed.count > maxChangedKeys {
		t.flush()
	}
}

// commit makes the next state.
func (t *transition) commit() *State {
	t.keep()
	s := &State{
		view:    t.view,
		records: t.records.Commit(),
		trie:    t.trie,
		changed: t.changed,
		index:   index{due: t.due.Commit(), lapses: t.lapses.Commit(), counts: t.counts.Commit(), electors: t.drawn.Commit()},
		next:    t.next,
		prev:    t.prev,
		stamp:   t.stamp,
		sealed:  t.sealed,
		digest:  t.digest,
		urgent:  t.urgent,
		pending: t.pending,
		causes:  t.causes,

		recovering: t.recovering,
	}
	s.source, s.electors = s.records, s.index.electors
	return s
}
