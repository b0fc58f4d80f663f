package model

import (
	"crypto/sha256"
	"iter"
	"math"
	"slices"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
)

// book is the ledger itself: the real rules over real statements. A copy of it goes
// on by itself.
type book struct {
	memorytest.Ledger
	fullHead, slimHead int // bytes of a head as replicas give it, and as gossip carries it
}

var council = []memorytest.Seat{{Name: "alice", Operator: "alpha"}, {Name: "bob", Operator: "beta"}, {Name: "carol", Operator: "delta"}, {Name: "dave", Operator: "gamma"}}

const (
	replicas = 4
	seed     = "model" // of keys
)

// operatorsOf is how many operators a fleet of so many nodes has, as in the
// bench's table of growth.
func operatorsOf(nodes int) int { return min(50, nodes/2) }

// newBook founds a ledger and lets a window of attestation pass. change is of the
// genesis; nil for nothing.
func newBook(nodes, operators int, change func(*ledger.Genesis)) (*book, error) {
	l, err := memorytest.Found(memorytest.Founding{Seed: seed, Council: council, Nodes: nodes, Operators: operators, NodeName: "node-%04d", Change: change})
	if err != nil {
		return nil, err
	}
	b := &book{Ledger: *l}
	b.measureHeads()
	policy := b.State.Policy()
	for range policy.Protects().AttestEpochs + 1 {
		if err := b.nextEpoch(); err != nil {
			return nil, err
		}
	}
	return b, b.Apply(ledger.CommandSeal)
}

// nextEpoch seals what there is and enters the next epoch, which it does not seal.
func (b *book) nextEpoch() error {
	if err := b.Apply(ledger.CommandSeal); err != nil {
		return err
	}
	policy := b.State.Policy()
	b.Now = b.State.Meta().EpochStart + policy.EpochMillis
	return b.Apply(ledger.CommandTick)
}

// measureHeads takes the sizes of a certified head of every replica, and of one
// that gossip carries.
func (b *book) measureHeads() {
	full := &ledger.Checkpoint{Head: ledger.Head{Origin: b.State.Meta().Origin, Size: 1_000_000}}
	slim := &ledger.Checkpoint{Head: full.Head}
	for i, r := range b.State.Replicas() {
		k := keys.FromSeed(sha256.Sum256([]byte(r.Name)))
		word := ledger.Cosign(ledger.Hash{}, k, k.Cosigner44(), r.Name, full.Head, 1_700_000_000)
		full.Add(word)
		if i < replicas-(replicas-1)/3 {
			slim.Add(word.WithoutMLDSA44())
		}
	}
	b.fullHead, b.slimHead = len(full.Note()), len(slim.Note())
}

// view is a certified state as package gossip wants it, as gossip/agent makes
// one; all agents that hold this state share it.
type view struct {
	state      *fsm.State
	rules      gossip.Rules
	grace      uint64
	electorate func() fsm.Electorate
	nodes      func() []gossip.Node
}

func newView(s *fsm.State) *view {
	meta, policy := s.Meta(), s.Policy()
	v := &view{state: s, grace: policy.GraceEpochs, rules: gossip.Rules{
		Ledger: meta.Ledger, Generation: meta.Generation, Format: meta.Format, Epoch: meta.Epoch, Quota: policy.Quota,
		EpochMillis: policy.EpochMillis, TickMillis: policy.TickMillis, Protection: policy.Protects(),
	}}
	v.electorate = sync.OnceValue(s.Electorate)
	v.nodes = sync.OnceValue(func() []gossip.Node {
		records := s.Nodes("", 1<<20)
		list := make([]gossip.Node, len(records))
		for i := range records {
			list[i] = v.node(&records[i])
		}
		return list
	})
	return v
}

func (v *view) node(n *fsm.NodeRecord) gossip.Node {
	r, _ := v.state.Reputation(n.Name)
	return gossip.Node{Name: n.Name, Operator: n.Operator, Standing: n.Standing, Ordinal: n.Ordinal, Down: r.Down}
}

func (v *view) Rules() gossip.Rules { return v.rules }

// Author implements gossip.View, as gossip/agent does.
func (v *view) Author(key ledger.Hash) (gossip.Author, bool) {
	record, ok := v.state.Key(key)
	if !ok {
		return gossip.Author{}, false
	}
	a := gossip.Author{Name: record.Holder, Role: record.Role}
	n, ok := v.state.Node(record.Holder)
	if !ok {
		return a, true
	}
	a.Operator, a.Standing = n.Operator, n.Standing
	old, rotated := v.state.OldKey(key)
	switch {
	case n.Key == key && n.Next == nil:
		a.Public, a.ValidFrom, a.ValidTo, a.Grace = n.Public, n.ValidFrom, n.ValidTo, v.grace
	case n.Key == key:
		a.Public, a.ValidFrom, a.ValidTo = n.Public, n.ValidFrom, n.Next.From-1
	case n.Next != nil && n.Next.Key == key:
		a.Public, a.ValidFrom, a.ValidTo = n.Next.Public, n.Next.From, math.MaxUint64
	case rotated:
		a.Public, a.ValidFrom, a.ValidTo = old.Public, old.From, old.To
	default:
		a.Revoked = true
	}
	return a, true
}

func (v *view) Node(name string) (gossip.Node, bool) {
	n, ok := v.state.Node(name)
	if !ok {
		return gossip.Node{}, false
	}
	return v.node(&n), true
}

func (v *view) Nodes() iter.Seq[gossip.Node] { return slices.Values(v.nodes()) }

// LinkDown implements gossip.View: the model declares no links.
func (v *view) LinkDown(string, string) bool { return false }

func (v *view) Seed(epoch uint64) (ledger.Hash, bool) { return v.state.Seed(epoch) }

func (v *view) Electorate() ([]ledger.Stable, bool) {
	e := v.electorate()
	return e.Stables, e.Bootstrap
}

func (v *view) AttestWindow(name string) (first uint64, drawn bool) {
	n, ok := v.state.Node(name)
	if !ok {
		return 0, false
	}
	return v.state.AttestWindow(&n)
}
