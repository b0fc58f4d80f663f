package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// world is a View that a test makes, with the keys of its nodes.
type world struct {
	rules     Rules
	stables   []ledger.Stable
	nodes     map[string]Node
	names     []string
	authors   map[ledger.Hash]Author
	keys      map[string]*keys.PrivateKey
	linksDown map[string]bool
	bootstrap bool
	attests   map[string]uint64 // first epoch of the window that a node is drawn to attest
}

func newWorld(operators, nodes int) *world {
	w := &world{
		nodes: map[string]Node{}, authors: map[ledger.Hash]Author{}, keys: map[string]*keys.PrivateKey{}, linksDown: map[string]bool{},
		rules: Rules{
			Ledger: ledger.Hash{1}, Format: ledger.KeysFormat, Epoch: 100, Quota: 65_536, EpochMillis: 600_000, TickMillis: 10_000,
			Protection: ledger.DefaultProtection(),
		},
	}
	for i := range operators {
		s := ledger.Stable{Operator: fmt.Sprintf("op-%03d", i)}
		for j := range nodes {
			s.Nodes = append(s.Nodes, fmt.Sprintf("n-%03d-%03d", i, j))
		}
		w.add(s)
	}
	return w
}

func (w *world) add(s ledger.Stable) {
	w.stables = append(w.stables, s)
	for _, name := range s.Nodes {
		w.names = append(w.names, name)
		w.nodes[name] = Node{Name: name, Operator: s.Operator, Standing: Active, Ordinal: uint64(len(w.names))}
	}
}

// key gives a node its key, or anybody a role.
func (w *world) key(name, role string) *keys.PrivateKey {
	if k, ok := w.keys[name]; ok {
		return k
	}
	k := keys.FromSeed(sha256.Sum256([]byte(name)))
	w.keys[name] = k
	w.authors[ledger.Hash(k.ID())] = Author{
		Name: name, Operator: w.nodes[name].Operator, Role: role, Standing: w.nodes[name].Standing, Public: k.Public().Bytes(), ValidTo: 1 << 20,
	}
	return k
}

func (w *world) change(name string, fn func(*Author)) {
	id := ledger.Hash(w.key(name, RoleNode).ID())
	a := w.authors[id]
	fn(&a)
	w.authors[id] = a
}

// sign makes a statement of a node in an epoch.
func (w *world) sign(t testing.TB, name, typ string, epoch, seq uint64, body any) []byte {
	t.Helper()
	envelope, err := ledger.Sign(w.key(name, RoleNode), ledger.Payload{
		Author: name, Epoch: &epoch, Seq: &seq, Generation: w.rules.Generation, Ledger: w.rules.Ledger, Type: typ,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func parse(t testing.TB, envelope []byte) *ledger.Statement {
	t.Helper()
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (w *world) Rules() Rules { return w.rules }
func (w *world) Author(key ledger.Hash) (Author, bool) {
	a, ok := w.authors[key]
	return a, ok
}

func (w *world) Node(name string) (Node, bool) {
	n, ok := w.nodes[name]
	return n, ok
}

func (w *world) Nodes() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		for _, name := range w.names {
			if !yield(w.nodes[name]) {
				return
			}
		}
	}
}

func (w *world) LinkDown(a, b string) bool { return w.linksDown[min(a, b)+"/"+max(a, b)] }

func (w *world) Seed(epoch uint64) (ledger.Hash, bool) {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, epoch)), true
}

func (w *world) Electorate() ([]ledger.Stable, bool) { return w.stables, w.bootstrap }

func (w *world) AttestWindow(name string) (uint64, bool) {
	first, ok := w.attests[name]
	return first, ok
}

// direct verifies on the spot.
type direct struct{}

func (direct) Verify(st *ledger.Statement, public []byte) bool {
	k, err := keys.ParsePublicKey(public)
	return err == nil && st.Verify(k)
}
