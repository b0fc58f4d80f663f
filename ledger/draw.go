package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
)

// Stable is an operator's nodes that may be drawn.
type Stable struct {
	Operator string
	Nodes    []string
}

// Monitor is a drawn node and its operator.
type Monitor struct {
	Operator, Node string
}

// Draw chooses who watches subject, which belongs to operator own: by
// rendezvous hashing (Thaler and Ravishankar 1998) the limit operators of
// lowest hash, without own, and in each the node of lowest hash. The result is
// by operator. Whoever knows seed, which is sealed just before the epoch, gets
// the same draw; nobody knows it long ahead. Stables without nodes are passed
// over. It costs one SHA-256 for each operator and each node of a drawn one.
func Draw(seed Hash, subject, own string, stables []Stable, limit int) []Monitor {
	nodes := make(map[string][]string, len(stables))
	operators := make([]string, 0, len(stables))
	for _, s := range stables {
		if len(s.Nodes) > 0 {
			nodes[s.Operator] = s.Nodes
			operators = append(operators, s.Operator)
		}
	}
	drawn := make([]Monitor, 0, max(0, min(len(operators), limit)))
	for _, operator := range DrawOperators(seed, subject, own, operators, limit) {
		drawn = append(drawn, Monitor{Operator: operator, Node: DrawNode(seed, subject, nodes[operator])})
	}
	return drawn
}

// DrawOperators is the first half of Draw: which operators watch subject, by
// name. Each of operators is one that has nodes. It costs one SHA-256 for each,
// none while all are drawn.
func DrawOperators(seed Hash, subject, own string, operators []string, limit int) []string {
	type ranked struct {
		rank Hash
		name string
	}
	order := make([]ranked, 0, len(operators))
	if len(operators) <= limit {
		drawn := slices.DeleteFunc(slices.Clone(operators), func(name string) bool { return name == own })
		slices.Sort(drawn)
		return drawn
	}
	for _, name := range operators {
		if name != own {
			order = append(order, ranked{drawHash("operator", seed, subject, name), name})
		}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(bytes.Compare(a.rank[:], b.rank[:]), cmp.Compare(a.name, b.name))
	})
	if len(order) > limit {
		order = order[:limit]
	}
	drawn := make([]string, len(order))
	for i, o := range order {
		drawn[i] = o.name
	}
	slices.Sort(drawn)
	return drawn
}

// Watches reports whether Draw would draw monitor for subject. It costs one
// SHA-256 for each operator, none while all are drawn, and of the monitor's own
// operator what Drawn costs.
func Watches(seed Hash, subject, own string, monitor Monitor, stables []Stable, limit int) bool {
	mine := slices.IndexFunc(stables, func(s Stable) bool { return s.Operator == monitor.Operator })
	if mine < 0 || monitor.Operator == own || !Drawn(seed, subject, monitor.Node, slices.Values(stables[mine].Nodes)) {
		return false
	}
	if len(stables) <= limit {
		return true
	}
	rank, before := drawHash("operator", seed, subject, monitor.Operator), 0
	for i, s := range stables {
		if i == mine || s.Operator == own || len(s.Nodes) == 0 {
			continue
		}
		other := drawHash("operator", seed, subject, s.Operator)
		if cmp.Or(bytes.Compare(other[:], rank[:]), cmp.Compare(s.Operator, monitor.Operator)) < 0 {
			before++
		}
	}
	return before < limit
}

// DrawNode is the second half of Draw: which of a drawn operator's nodes it is.
func DrawNode(seed Hash, subject string, nodes []string) string {
	best, lowest := "", Hash{}
	for _, n := range nodes {
		rank := drawHash("node", seed, subject, n)
		if c := bytes.Compare(rank[:], lowest[:]); best == "" || c < 0 || c == 0 && n < best {
			best, lowest = n, rank
		}
	}
	return best
}

// Drawn reports whether DrawNode would choose node among nodes, which may come in
// any order. It costs one SHA-256 for each of them if it would; if not it stops at
// the first that ranks before, after about ln(n) on average.
func Drawn(seed Hash, subject, node string, nodes iter.Seq[string]) bool {
	mine, among := drawHash("node", seed, subject, node), false
	for n := range nodes {
		if n == node {
			among = true
			continue
		}
		rank := drawHash("node", seed, subject, n)
		if c := bytes.Compare(rank[:], mine[:]); c < 0 || c == 0 && n < node {
			return false
		}
	}
	return among
}

// Attests reports whether node is drawn to attest in the window of epochs whose
// seed this is: one in drawn/wanted of those who watch, so that about wanted of
// a subject's drawn monitors attest.
func Attests(seed Hash, node string, wanted, drawn uint64) bool {
	if wanted >= drawn {
		return true
	}
	rank := drawHash("attest", seed, "", node)
	// rank/2^32 < wanted/drawn, in integers.
	return uint64(binary.BigEndian.Uint32(rank[:]))*drawn < wanted<<32
}

// drawHash is SHA-256("quorate/draw/v1\n" || what || 0 || seed || subject || 0
// || name). Names have no zero byte.
func drawHash(what string, seed Hash, subject, name string) Hash {
	var buf [256]byte
	b := append(buf[:0], "quorate/draw/v1\n"...)
	b = append(b, what...)
	b = append(b, 0)
	b = append(b, seed[:]...)
	b = append(b, subject...)
	b = append(b, 0)
	b = append(b, name...)
	return sha256.Sum256(b)
}
