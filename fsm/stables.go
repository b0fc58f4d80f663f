package fsm

import (
	"maps"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// stables gathers nodes by operator.
type stables struct {
	byOperator map[string][]string
}

func newStables() *stables { return &stables{byOperator: map[string][]string{}} }

func (s *stables) add(n *NodeRecord) {
	s.byOperator[n.Operator] = append(s.byOperator[n.Operator], n.Name)
}

func (s *stables) sorted() []ledger.Stable {
	out := make([]ledger.Stable, 0, len(s.byOperator))
	for _, operator := range slices.Sorted(maps.Keys(s.byOperator)) {
		out = append(out, ledger.Stable{Operator: operator, Nodes: s.byOperator[operator]})
	}
	return out
}
