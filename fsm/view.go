package fsm

import (
	"encoding/hex"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
)

// The keys of the state's records. A table is what stands before the slash.
const (
	keyMeta      = "meta"
	keyPolicy    = "policy"
	keyLog       = "log"
	keyRecovery  = "recovery"
	keyAuthority = "authority"

	keyProtection = "protection"

	tableCouncil  = "council/"
	tableOperator = "operator/"
	tableReplica  = "replica/"
	tableNode     = "node/"
	tableKey      = "key/"
	tableJoin     = "join/"
	tableProposal = "proposal/"
	tableNonce    = "nonce/"
	tableWindow   = "window/"

	// From format 2 on.
	tableAttest     = "attest/"
	tableLegacy     = "legacy/"
	tableLink       = "link/"
	tableOffence    = "offence/"
	tableOrdinal    = "ordinal/"
	tableReputation = "reputation/"
	tableTally      = "tally/"

	// From format 3 on.
	tableAlarm  = "alarm/"
	tableBackup = "backup/"
	tableOldKey = "oldkey/"
)

func keyOf(id ledger.Hash) string      { return tableKey + hex.EncodeToString(id[:]) }
func joinOf(id ledger.Hash) string     { return tableJoin + hex.EncodeToString(id[:]) }
func proposalOf(id ledger.Hash) string { return tableProposal + hex.EncodeToString(id[:]) }

// source is a radix tree or a transaction on one.
type source interface {
	Get(key []byte) (any, bool)
	Root() *iradix.Node[any]
}

// view reads records. State and a running transition share it, so that a rule
// is written once. The pointers are those of the records of the same name,
// kept at hand because every statement needs them; whoever replaces a record
// replaces the pointer (transition.put). Values are never mutated.
type view struct {
	source    source
	electors  electors
	meta      *Meta
	policy    *ledger.Policy
	log       *ledger.LogKeys
	recovery  *ledger.Recovery // nil: genesis names none
	authority *ledger.Authority
}

func lookup[T any](v *view, key string) (*T, bool) {
	value, ok := v.source.Get([]byte(key))
	if !ok {
		return nil, false
	}
	record, ok := value.(*T)
	return record, ok
}

// each calls fn for the records of a table, sorted by key, until it says no.
func each[T any](v *view, table string, fn func(name string, record *T) bool) {
	stopped := false
	v.source.Root().WalkPrefix([]byte(table), func(key []byte, value any) bool {
		record, ok := value.(*T)
		invariant(ok, "a table holds records of one type")
		stopped = !fn(strings.TrimPrefix(string(key), table), record)
		return stopped
	})
}

// Meta returns what belongs to the ledger as a whole. Its map is not the
// caller's to change.
func (v *view) Meta() Meta { return *v.meta }

// Epoch returns the current epoch.
func (v *view) Epoch() uint64 { return v.meta.Epoch }

// Policy returns the policy in force. Its maps are not the caller's to change.
func (v *view) Policy() ledger.Policy { return *v.policy }

// Log returns the log's own public keys.
func (v *view) Log() ledger.LogKeys { return *v.log }

// Recovery returns the recovery set, or nil where genesis names none.
func (v *view) Recovery() *ledger.Recovery { return v.recovery }

// Authority returns the authority of the last handover (FORMAT.md section 10):
// the one that certifies heads until the next handover seal.
func (v *view) Authority() ledger.Authority { return *v.authority }

// Council returns the governors, sorted by name.
func (v *view) Council() []Governor { return all[Governor](v, tableCouncil) }

// Operators returns the operators, sorted by name.
func (v *view) Operators() []OperatorRecord { return all[OperatorRecord](v, tableOperator) }

// Replicas returns the replicas, joining and active, sorted by name.
func (v *view) Replicas() []ReplicaRecord { return all[ReplicaRecord](v, tableReplica) }

func all[T any](v *view, table string) []T {
	records := []T{}
	each(v, table, func(_ string, record *T) bool {
		records = append(records, *record)
		return true
	})
	return records
}

func one[T any](v *view, key string) (T, bool) {
	record, ok := lookup[T](v, key)
	if !ok {
		var none T
		return none, false
	}
	return *record, true
}

// Governor returns the governor of that name.
func (v *view) Governor(name string) (Governor, bool) { return one[Governor](v, tableCouncil+name) }

// Operator returns the operator of that name.
func (v *view) Operator(name string) (OperatorRecord, bool) {
	return one[OperatorRecord](v, tableOperator+name)
}

// Replica returns the replica of that name.
func (v *view) Replica(name string) (ReplicaRecord, bool) {
	return one[ReplicaRecord](v, tableReplica+name)
}

// Node returns the node of that name.
func (v *view) Node(name string) (NodeRecord, bool) { return one[NodeRecord](v, tableNode+name) }

// Key returns what is known of a key id: its one role, for ever.
func (v *view) Key(id ledger.Hash) (KeyRecord, bool) { return one[KeyRecord](v, keyOf(id)) }

// Join returns the pending join of that statement id.
func (v *view) Join(id ledger.Hash) (JoinRecord, bool) { return one[JoinRecord](v, joinOf(id)) }

// Joins returns up to limit pending joins whose id is above after, by id.
func (v *view) Joins(after ledger.Hash, limit int) []JoinRecord {
	joins := []JoinRecord{}
	for _, join := range page[JoinRecord](v, tableJoin, idCursor(after), limit, nil) {
		joins = append(joins, *join)
	}
	return joins
}

// Proposal returns the proposal of that statement id. It is not the caller's
// to change.
func (v *view) Proposal(id ledger.Hash) (*Proposal, bool) { return lookup[Proposal](v, proposalOf(id)) }

// Proposals returns up to limit proposals of a standing ("" for every one)
// whose id is above after, by id. They are not the caller's to change.
func (v *view) Proposals(standing string, after ledger.Hash, limit int) []*Proposal {
	return page(v, tableProposal, idCursor(after), limit, func(p *Proposal) bool {
		return standing == "" || p.Standing == standing
	})
}

// Nodes returns up to limit nodes whose name is above after, by name.
func (v *view) Nodes(after string, limit int) []NodeRecord {
	nodes := []NodeRecord{}
	for _, node := range page[NodeRecord](v, tableNode, after, limit, nil) {
		nodes = append(nodes, *node)
	}
	return nodes
}

func idCursor(after ledger.Hash) string {
	if after.IsZero() {
		return ""
	}
	return hex.EncodeToString(after[:])
}

func page[T any](v *view, table, after string, limit int, keep func(*T) bool) []*T {
	records := []*T{}
	it := v.source.Root().Iterator()
	it.SeekLowerBound([]byte(table + after))
	for len(records) < limit {
		key, value, ok := it.Next()
		if !ok || !strings.HasPrefix(string(key), table) {
			break
		}
		record, ok := value.(*T)
		invariant(ok, "a table holds records of one type")
		if string(key) != table+after && (keep == nil || keep(record)) {
			records = append(records, record)
		}
	}
	return records
}

// members returns the council as genesis writes it.
func (v *view) members() []ledger.Member {
	var members []ledger.Member
	each(v, tableCouncil, func(_ string, g *Governor) bool {
		members = append(members, g.Member)
		return true
	})
	return members
}

// councilOperators returns the operators that have a governor, with how many.
func (v *view) councilOperators() map[string]int {
	operators := map[string]int{}
	each(v, tableCouncil, func(_ string, g *Governor) bool {
		operators[g.Operator]++
		return true
	})
	return operators
}

// activeReplicas counts the replicas that certify.
func (v *view) activeReplicas() int {
	active := 0
	each(v, tableReplica, func(_ string, r *ReplicaRecord) bool {
		if r.Standing == ReplicaActive {
			active++
		}
		return true
	})
	return active
}
