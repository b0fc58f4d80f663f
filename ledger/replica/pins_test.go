package replica

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

func pinRecord(name string, key byte) fsm.ReplicaRecord {
	return fsm.ReplicaRecord{Replica: ledger.Replica{Name: name, Peer: name + ":1", Public: []byte{key}, TLSPin: ledger.Hash{key}}, Standing: fsm.ReplicaActive}
}

func pinNames(p *pins) string {
	out := ""
	for _, one := range p.now.Load().peers {
		out += one.Name
	}
	return out
}

// Who counts: genesis and seeds until caught up, then the applied state alone,
// with whoever left lingering for a moment.
func TestPins(t *testing.T) {
	a, b, c := pinRecord("a", 1), pinRecord("b", 2), pinRecord("c", 3)
	p := newPins(&ledger.Genesis{Replicas: []ledger.Replica{a.Replica}}, 20*time.Millisecond)
	proven := []*peer{{Replica: b.Replica, id: b.KeyID(), standing: b.Standing}}
	p.learn(proven, false)
	if got := pinNames(p); got != "ab" {
		t.Fatalf("before any state: %q", got)
	}
	if got := p.voters(a.KeyID()); len(got) != 1 || got[0].Name != "b" {
		t.Fatalf("a seed's proof does not count before genesis: %v", got)
	}
	p.apply(7, []fsm.ReplicaRecord{b, c})
	p.settle()
	p.learn([]*peer{{Replica: a.Replica, id: a.KeyID()}}, false) // an answer that came late
	if got := pinNames(p); got != "bc" {
		t.Fatalf("caught up: %q", got)
	}
	p.apply(8, []fsm.ReplicaRecord{c})
	p.apply(7, []fsm.ReplicaRecord{a, b}) // a state that came late
	if got := pinNames(p); got != "bc" {
		t.Fatalf("who left lingers: %q", got)
	}
	for next := p.expire(func(*peer) bool { return false }); !next.IsZero(); next = p.expire(func(*peer) bool { return false }) {
		<-time.After(time.Until(next))
	}
	if got := pinNames(p); got != "c" {
		t.Fatalf("after the linger: %q", got)
	}
	if p.now.Load().byPin(b.TLSPin) != nil || p.now.Load().byPin(c.TLSPin) == nil {
		t.Fatal("pins differ from peers")
	}
	p.learn(proven, true)
	if got := pinNames(p); got != "bc" {
		t.Fatalf("out of touch: %q", got)
	}
}
