package fsm

import (
	"encoding/binary"
	"fmt"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// index is what is looked up by another thing than a record's key. It follows
// from the records alone: transition.put keeps it, so that Load makes the same
// one as the history did.
type index struct {
	due    *iradix.Tree[string] // when an entry is due for a record: an execution or an expiry
	lapses *iradix.Tree[string] // when a record leaves the state, which makes no entry
	counts *iradix.Tree[uint64] // how many records there are of a kind

	electors *iradix.Tree[struct{}] // the nodes that may be drawn, by operator
}

func newIndex() index {
	return index{due: iradix.New[string](), lapses: iradix.New[string](), counts: iradix.New[uint64](), electors: iradix.New[struct{}]()}
}

// indexed is what the index holds of one record; times are 0 where it is not
// indexed.
type indexed struct {
	due, lapse uint64
	counts     []string
	elector    []byte // key among the electors
}

const (
	countJoins = "joins"
	countNodes = "nodes"

	tableCountCut   = "cut/"   // links both of whose ends say that they are down
	tableCountLinks = "links/" // links that a node has spoken of
)

func countOpen(author string) string            { return "open/" + author }
func countClosed(author string) string          { return "closed/" + author }
func countNonces(author string) string          { return "nonces/" + author }
func countLinks(node string) string             { return tableCountLinks + node }
func countCut(node string) string               { return tableCountCut + node }
func countOperatorJoins(operator string) string { return "joins/" + operator }
func countOperatorNodes(operator string) string { return "nodes/" + operator }

// indexOf says how a record is indexed.
func indexOf(key string, record any) indexed {
	switch r := record.(type) {
	case *NonceRecord:
		author, _, _ := strings.Cut(strings.TrimPrefix(key, tableNonce), "/")
		return indexed{lapse: r.Expires, counts: []string{countNonces(author)}}
	case *JoinRecord:
		return indexed{lapse: r.Expires, counts: []string{countJoins, countOperatorJoins(r.Join.Operator)}}
	case *NodeRecord:
		x := indexed{counts: []string{countNodes, countOperatorNodes(r.Operator)}}
		if r.Elector {
			x.elector = electorKey(r.Operator, r.Name)
		}
		return x
	case *TallyRecord:
		return indexed{lapse: r.Lapses}
	case *LegacyRecord:
		return indexed{lapse: r.Lapses}
	case *OffenceRecord:
		return indexed{lapse: r.Lapses}
	case *OldKeyRecord:
		return indexed{lapse: r.Lapses}
	case *LinkRecord:
		// Only who has spoken of a link is charged for it: nobody fills another's
		// table.
		x := indexed{lapse: r.Lapses}
		for _, w := range r.Words {
			x.counts = append(x.counts, countLinks(w.Author))
			if r.mutual() {
				x.counts = append(x.counts, countCut(w.Author))
			}
		}
		return x
	case *Proposal:
		switch r.Standing {
		case ProposalOpen:
			return indexed{due: r.Expires, counts: []string{countOpen(r.Author)}}
		case ProposalDecided:
			return indexed{due: r.DueAt, counts: []string{countOpen(r.Author)}}
		}
		return indexed{lapse: r.Leaves, counts: []string{countClosed(r.Author)}}
	}
	return indexed{}
}

// timeKey sorts by time, then by the record's key.
func timeKey(at uint64, key string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), at), key...)
}

func timeOf(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

// decodeRecord reads the record stored at key.
func decodeRecord(key string, value []byte) (any, error) {
	switch key {
	case keyMeta:
		return decodeAs[Meta](value)
	case keyPolicy:
		return decodeAs[ledger.Policy](value)
	case keyLog:
		return decodeAs[ledger.LogKeys](value)
	case keyRecovery:
		return decodeAs[ledger.Recovery](value)
	case keyAuthority:
		return decodeAs[ledger.Authority](value)
	case keyProtection:
		return decodeAs[ProtectionRecord](value)
	}
	table, name, found := strings.Cut(key, "/")
	if !found || name == "" {
		return nil, fmt.Errorf("no such table")
	}
	switch table + "/" {
	case tableCouncil:
		return decodeAs[Governor](value)
	case tableOperator:
		return decodeAs[OperatorRecord](value)
	case tableReplica:
		return decodeAs[ReplicaRecord](value)
	case tableNode:
		return decodeAs[NodeRecord](value)
	case tableKey:
		return decodeAs[KeyRecord](value)
	case tableJoin:
		return decodeAs[JoinRecord](value)
	case tableProposal:
		return decodeAs[Proposal](value)
	case tableNonce:
		return decodeAs[NonceRecord](value)
	case tableWindow:
		return decodeAs[WindowRecord](value)
	case tableAttest:
		return decodeAs[AttestRecord](value)
	case tableLink:
		return decodeAs[LinkRecord](value)
	case tableLegacy:
		return decodeAs[LegacyRecord](value)
	case tableOffence:
		return decodeAs[OffenceRecord](value)
	case tableOrdinal:
		return decodeAs[OrdinalRecord](value)
	case tableReputation:
		return decodeAs[ReputationRecord](value)
	case tableTally:
		return decodeAs[TallyRecord](value)
	case tableAlarm:
		return decodeAs[AlarmRecord](value)
	case tableBackup:
		return decodeAs[BackupRecord](value)
	case tableOldKey:
		return decodeAs[OldKeyRecord](value)
	}
	return nil, fmt.Errorf("no such table")
}

func decodeAs[T any](value []byte) (any, error) {
	record := new(T)
	if err := canon.Unmarshal(value, record); err != nil {
		return nil, err
	}
	return record, nil
}
