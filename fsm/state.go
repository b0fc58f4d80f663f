package fsm

import (
	"fmt"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// Format is the highest format whose rules this program has. Apply halts on a
// state of a later one.
const Format = ledger.Format

// State is an immutable value: Apply makes the next one and leaves it as it
// is, so that any number of readers may hold it. What is not in records
// follows, at a seal, from the records and the seal's entry (see Load).
type State struct {
	view
	records *iradix.Tree[any]
	trie    ledger.Trie // of records but for those that changed
	changed *changedKey // since the trie was brought up to date, which is at seals
	index   index

	next   uint64      // seq of the next entry
	prev   ledger.Hash // leaf hash of the last entry
	stamp  uint64      // of the last entry
	sealed uint64      // seq after the last seal: entries from here are unsealed
	digest ledger.Hash // what the last seal sealed

	// Between seals only:
	urgent  bool     // an unsealed entry wants a seal at once
	pending bool     // the next seal is a handover
	causes  []uint64 // the statements that made the pending change

	recovering uint64 // the next seq right after an open recovery's last vote; else anything
}

// New returns the state after entry 0.
func New(genesisEntry []byte) (*State, error) {
	g, hash, err := ledger.ParseGenesis(genesisEntry)
	if err != nil {
		return nil, err
	}
	if err := checkGenesis(g); err != nil {
		return nil, fmt.Errorf("check genesis: %w", err)
	}
	t := begin(&State{
		records: iradix.New[any](),
		index:   newIndex(),
		next:    1,
		prev:    hash,
		stamp:   g.Created,
	}, g.Created, nil)
	t.found(g, hash)
	t.flush()
	return t.commit(), nil
}

// checkGenesis checks what the rules need of genesis beyond Genesis.Validate.
func checkGenesis(g *ledger.Genesis) error {
	// A time of 0 stands for none in proposals.
	if g.Created < 1 || g.Created > maxStamp {
		return fmt.Errorf("created: %d is no date", g.Created)
	}
	if len(g.Operators) > maxOperators {
		return fmt.Errorf("operators: at most %d", maxOperators)
	}
	return nil
}

// found writes the records of genesis.
func (t *transition) found(g *ledger.Genesis, hash ledger.Hash) {
	t.put(keyMeta, &Meta{
		EpochStart: g.Created,
		Format:     g.Format,
		Ledger:     hash,
		Origin:     g.Origin,
		Versions: map[string]uint64{
			"council": 0, "epoch": 0, "format": 0, "freeze": 0, "log": 0,
			"operators": 0, "policy": 0, "replicas": 0,
		},
	})
	how := ""
	if t.rotates() {
		how = KeyGenesis
	}
	t.put(keyPolicy, &g.Policy)
	t.put(keyLog, &g.Log)
	if g.Recovery != nil {
		t.put(keyRecovery, g.Recovery)
		for _, h := range g.Recovery.Holders {
			t.put(keyOf(h.KeyID()), &KeyRecord{Holder: h.Name, How: how, Role: RoleRecovery})
		}
	}
	for _, o := range g.Operators {
		t.put(tableOperator+o.Name, &OperatorRecord{Operator: o})
	}
	for _, m := range g.Council {
		t.put(tableCouncil+m.Name, &Governor{Member: m})
		t.put(keyOf(m.KeyID()), &KeyRecord{Holder: m.Name, How: how, Role: RoleGovernor})
	}
	for _, r := range g.Replicas {
		t.put(tableReplica+r.Name, &ReplicaRecord{Replica: r, Format: g.Format, Standing: ReplicaActive})
		t.put(keyOf(r.KeyID()), &KeyRecord{Holder: r.Name, How: how, Role: RoleReplica})
	}
	authority := ledger.GenesisAuthority(g, hash)
	t.put(keyAuthority, &authority)
	if t.protects() {
		t.beginProtection()
	}
}

// Next returns the seq of the next entry, which is the ledger's size.
func (s *State) Next() uint64 { return s.next }

// Prev returns the leaf hash of the last entry.
func (s *State) Prev() ledger.Hash { return s.prev }

// Stamp returns the last entry's stamp in milliseconds.
func (s *State) Stamp() uint64 { return s.stamp }

// Digest returns the state digest now (FORMAT.md section 8).
func (s *State) Digest() ledger.Hash { return s.wholeTrie().Root() }

// wholeTrie brings the trie up to date. At a seal it is, and elsewhere hardly
// anybody asks: hashing each change of a record at once would be most of what a
// statement costs.
func (s *State) wholeTrie() ledger.Trie {
	if s.changed == nil {
		return s.trie
	}
	keys := map[string]struct{}{}
	s.changed.addTo(keys)
	return s.trie.Apply(changes(s.records, keys))
}

// Len returns how many records the state has.
func (s *State) Len() int { return s.records.Len() }

// PendingHandover reports whether the next seal is a handover.
func (s *State) PendingHandover() bool { return s.pending }

// SealWanted reports whether entries wait for a seal, and whether it should
// come at once.
func (s *State) SealWanted() (wanted, urgent bool) {
	wanted = s.next > s.sealed
	return wanted, wanted && (s.urgent || s.pending)
}

// Record returns the canonical JSON of the record at key.
func (s *State) Record(key string) (value []byte, ok bool) {
	record, ok := s.records.Get([]byte(key))
	if !ok {
		return nil, false
	}
	return encode(record), true
}

// Prove returns the proof, against Digest, of the record at key or of its
// absence.
func (s *State) Prove(key string) (*ledger.StateProof, error) {
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] >= 0x7f {
			return nil, fmt.Errorf("prove record: key %q is not printable ASCII", key)
		}
	}
	p := s.wholeTrie().Prove(key)
	value, _ := s.Record(key)
	return &ledger.StateProof{Key: key, Other: p.Other, Siblings: p.Siblings, Value: value}, nil
}

// Walk calls fn for the records whose key begins with prefix, sorted by key,
// until it says no.
func (s *State) Walk(prefix string, fn func(key string, value []byte) bool) {
	s.records.Root().WalkPrefix([]byte(prefix), func(key []byte, value any) bool {
		return !fn(string(key), encode(value))
	})
}

// Due reports whether work is due at now (milliseconds), so that a tick should
// be ordered: an epoch, an execution or an expiry.
func (s *State) Due(now uint64) bool {
	t := begin(s, max(now, s.stamp), nil)
	_, ok := t.nextDue()
	return ok
}

// encode returns the canonical JSON of a record.
func encode(record any) []byte {
	value, err := canon.Marshal(record)
	invariant(err == nil, "a record has a canonical form")
	return value
}
