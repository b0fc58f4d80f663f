package replica_test

import (
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// What a replica's status says of its own key, from the epoch in which it came until
// another is in its place: in force, due, late (just as the ledger's alarm has it), its
// successor made and not certified yet, rotated.
func TestStatusTellsOwnKey(t *testing.T) {
	const period = 8 // one slot: due in the last eighth, late an eighth after
	var fails atomic.Pointer[string]
	hold := func(step string) { fails.Store(&step) }
	hold("file") // no key is made
	c := replicatest.Start(t, 1, func(cfg *replica.Config) {
		cfg.Hooks = &replica.Hooks{Rotation: func(step string) error {
			if step == *fails.Load() {
				return errCrash
			}
			return nil
		}}
	}, func(g *ledger.Genesis) {
		k := ledger.DefaultKeys()
		k.ReplicaKeyEpochs = period
		g.Policy.Keys = &k
	})
	n := c.Leader()
	n.Await("it is ready", func(s replica.Status) bool { return s.Ready })
	late := func() bool {
		view, err := n.Replica.View(t.Context(), replica.Stale)
		if err != nil {
			t.Fatal(err)
		}
		_, on := view.State.Alarm(fsm.AlarmReplicaLate)
		return on
	}
	first := n.Record.KeyID()
	for epoch := uint64(0); epoch <= period+2; epoch++ {
		want := replica.KeyStatus{ID: first, Age: epoch, Due: period - 1, Late: period*9/8 + 1}
		if key := n.Replica.Status().Key; key == nil || *key != want {
			t.Fatalf("epoch %d: %+v, want %+v", epoch, key, want)
		}
		if late() != (epoch >= want.Late) {
			t.Errorf("epoch %d: the ledger's alarm is %t, the key is late from epoch %d on", epoch, late(), want.Late)
		}
		if epoch < period+2 {
			nextEpoch(c, n)
		}
	}
	hold("said") // the next key is made, and the ledger does not hear of it
	next := n.Await("its next key is made", func(s replica.Status) bool { return s.Key.Next != nil }).Key
	if next.ID != first || next.Age != period+2 || *next.Next == first {
		t.Errorf("with a successor: %+v", next)
	}
	hold("")
	now := n.Await("its next key is in use", func(s replica.Status) bool { return s.Key.ID != first && s.Key.Next == nil }).Key
	if want := (replica.KeyStatus{ID: *next.Next, Since: period + 2, Due: 2*period + 1, Late: period + 2 + period*9/8 + 1}); *now != want {
		t.Errorf("rotated: %+v, want %+v", now, want)
	}
	if nextEpoch(c, n); late() {
		t.Error("the alarm is not over in the next epoch")
	}
}

// Of a key that is not to rotate nothing is due, and a replica that was removed has none.
func TestStatusOfKeysThatStay(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) { cfg.Rotation.Off = cfg.Name == "r2" }, func(g *ledger.Genesis) {
		k := ledger.DefaultKeys()
		k.ReplicaKeyEpochs = 0
		g.Policy.Keys = &k
	})
	for _, n := range c.Nodes {
		want := replica.KeyStatus{ID: n.Record.KeyID(), Off: n.Record.Name == "r2"}
		if s := n.Await("it is ready", func(s replica.Status) bool { return s.Ready }); *s.Key != want {
			t.Errorf("%s: %+v, want %+v", n.Record.Name, s.Key, want)
		}
	}
	gone := c.Leader() // which knows of it first
	c.Decide(gone, "replica.remove", removeArgs{gone.Record.Name})
	gone.Await("it is of no standing", func(s replica.Status) bool { return s.Standing == "" && s.Key == nil })
}
