package fsm

import (
	"bytes"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
)

// Electors are the nodes that may be drawn. Who is one is settled when an epoch
// begins and stands in the node's record; within the epoch electors only go: who
// is quarantined, excluded, removed or down is drawn no more, and another node of
// its operator stands in. So nothing is walked when somebody observes.

// electors is a radix tree or a transaction on one, of operator, zero, node.
type electors interface{ Root() *iradix.Node[struct{}] }

func electorKey(operator, node string) []byte {
	return append(append(append(make([]byte, 0, len(operator)+len(node)+1), operator...), 0), node...)
}

// electorOperators lists the operators that have electors.
func (v *view) electorOperators() []string {
	var operators []string
	it := v.electors.Root().Iterator()
	for {
		key, _, ok := it.Next()
		if !ok {
			return operators
		}
		operator, _, _ := bytes.Cut(key, []byte{0})
		operators = append(operators, string(operator))
		it = v.electors.Root().Iterator()
		it.SeekLowerBound(append(bytes.Clone(operator), 1))
	}
}

// electorsOf lists an operator's electors, sorted.
func (v *view) electorsOf(operator string) []string {
	return slices.Collect(v.eachElector(operator))
}

func (v *view) eachElector(operator string) iter.Seq[string] {
	prefix := electorKey(operator, "")
	return func(yield func(string) bool) {
		v.electors.Root().WalkPrefix(prefix, func(key []byte, _ struct{}) bool {
			return !yield(string(key[len(prefix):]))
		})
	}
}

// Electorate is who may be drawn: the operators with eligible nodes, or, as
// long as those are fewer than three, with any active ones.
type Electorate struct {
	Stables   []ledger.Stable // by operator
	Bootstrap bool            // fewer than three operators are eligible: verdicts by quorum are off
}

// Electorate returns who may be drawn now. It costs as much as there are
// electors: ask once an epoch.
func (v *view) Electorate() Electorate {
	operators := v.electorOperators()
	e := Electorate{Stables: make([]ledger.Stable, 0, len(operators)), Bootstrap: v.bootstrap(len(operators))}
	for _, operator := range operators {
		e.Stables = append(e.Stables, ledger.Stable{Operator: operator, Nodes: v.electorsOf(operator)})
	}
	return e
}

func (v *view) bootstrap(operators int) bool {
	return v.protection().Bootstrap || operators < ledger.MinAccusers
}

// Monitors returns who watches a node in an epoch, as far as the state knows
// that epoch's seed.
func (v *view) Monitors(n *NodeRecord, epoch uint64, electorate Electorate) []ledger.Monitor {
	seed, ok := v.Seed(epoch)
	if !ok {
		return nil
	}
	p := v.policy.Protects()
	return ledger.Draw(seed, n.Name, n.Operator, electorate.Stables, p.DrawnOf(len(electorate.Stables)))
}

// panel is who watches a node in an epoch, without listing them: of each operator
// that is drawn, one node.
type panel struct {
	seed      ledger.Hash
	subject   string
	operators []string // drawn, by name
	settled   bool     // its electors have only gone since the first word of its epoch
}

// panel draws from the operators that have electors now. It costs a hash for each
// of them, and none while all are drawn.
func (v *view) panel(n *NodeRecord, epoch uint64, operators []string) panel {
	p := panel{subject: n.Name}
	seed, ok := v.Seed(epoch)
	if !ok {
		return p
	}
	p.seed = seed
	policy := v.policy.Protects()
	p.operators = ledger.DrawOperators(seed, n.Name, n.Operator, operators, policy.DrawnOf(len(operators)))
	// In the epoch of the founders electors come as well, and the words of the last
	// epoch were said by the electors of that one.
	p.settled = epoch == v.meta.Epoch && epoch > 0
	return p
}

func (p *panel) drew(operator string) bool {
	_, found := slices.BinarySearch(p.operators, operator)
	return found
}

// watches reports whether a node is on a panel. It costs a hash for each elector
// of its operator.
func (v *view) watches(p *panel, operator, node string) bool {
	return p.drew(operator) && ledger.Drawn(p.seed, p.subject, node, v.eachElector(operator))
}

// watchesStill reports whether the author of a word that counted is on the panel.
// Of the electors of one epoch the one of lowest hash stays that as long as it is
// one, since others only go: then it costs a look.
func (v *view) watchesStill(p *panel, w *Word) bool {
	if !p.settled {
		return v.watches(p, w.Operator, w.Author)
	}
	_, elector := v.electors.Root().Get(electorKey(w.Operator, w.Author))
	return elector && p.drew(w.Operator)
}

// eligible reports whether a node's word counts: it is active, not down, has the
// reputation and the age, and its key is valid.
func (v *view) eligible(n *NodeRecord, p *ledger.Protection) bool {
	if !v.mayWatch(n) {
		return false
	}
	r, ok := lookup[ReputationRecord](v, tableReputation+n.Name)
	return ok && !r.Down && r.Reputation >= p.VoteReputation &&
		(r.Founder || v.meta.Epoch >= n.Admitted+p.AgeEpochs) && v.meta.Epoch >= r.Legacy
}

// mayWatch is what is asked of a node as long as too few are eligible.
func (v *view) mayWatch(n *NodeRecord) bool {
	return n.Standing == NodeActive && !n.Revoked && n.ValidFrom <= v.meta.Epoch && v.meta.Epoch <= n.ValidTo
}

// stablesFor is what ledger.Watches needs of the electorate to judge one
// operator's nodes: of the other operators, that they have some.
func (v *view) stablesFor(operator string, operators []string) []ledger.Stable {
	some := []string{""}
	stables := make([]ledger.Stable, len(operators))
	for i, name := range operators {
		stables[i] = ledger.Stable{Operator: name, Nodes: some}
		if name == operator {
			stables[i].Nodes = v.electorsOf(name)
		}
	}
	return stables
}

// elect settles who may be drawn in the epoch that begins, or, in the epoch of
// the founders, now.
func (t *transition) elect() {
	p := t.policy.Protects()
	eligible, operators := map[string]bool{}, map[string]bool{}
	each(&t.view, tableNode, func(name string, n *NodeRecord) bool {
		if t.eligible(n, &p) {
			eligible[name], operators[n.Operator] = true, true
		}
		return true
	})
	bootstrap := len(operators) < ledger.MinAccusers
	var changed []*NodeRecord
	each(&t.view, tableNode, func(name string, n *NodeRecord) bool {
		if n.Elector != (eligible[name] || bootstrap && t.mayWatch(n)) {
			changed = append(changed, n)
		}
		return true
	})
	for _, n := range changed {
		next := *n
		next.Elector = !n.Elector
		t.put(tableNode+n.Name, &next)
	}
	if t.protection().Bootstrap != bootstrap {
		t.changeProtection(func(r *ProtectionRecord) { r.Bootstrap = bootstrap })
	}
}
