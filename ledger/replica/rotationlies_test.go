package replica_test

import (
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A liar that rotates its key and keeps its cosigning key signs the handover twice under
// one key id of its ML-DSA-44 lines. The others certify without it.
func TestALiarThatKeepsItsCosignerStopsNothing(t *testing.T) {
	c := replicatest.Start(t, 4, func(cfg *replica.Config) { quickPins(cfg); cfg.Rotation.Off = true }, rotating)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	nextEpoch(c, c.Leader())
	if err := c.Nodes[3].Replica.KeepCosigner(); err != nil {
		t.Fatal(err)
	}
	rotated(t, c, "r4")
	c.Submit(c.Nodes[0], replica.WaitCertified, c.Record(c.Council[0], "after"))
}

// A liar reads in an announcement which TLS pin comes next, and rotates to that pin
// first. Whose pin it is makes another key, once the announcement can't be taken any more.
func TestALiarThatTakesTheNextPinStopsNoRotation(t *testing.T) {
	release := make(chan struct{})
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		quickPins(cfg)
		if cfg.Rotation.Off = cfg.Name != "r1"; cfg.Name == "r1" {
			cfg.Hooks = &replica.Hooks{Rotation: func(step string) error {
				if step == "said" {
					select {
					case <-release:
					case <-t.Context().Done():
					}
				}
				return nil
			}}
		}
	}, rotating)
	honest, liar := c.Nodes[0], c.Nodes[3]
	c.Submit(honest, replica.WaitCertified, c.Record(c.Council[0], "before"))
	nextEpoch(c, c.Leader())
	for honest.Replica.NextPin() == (ledger.Hash{}) {
		select {
		case <-t.Context().Done():
			t.Fatal("no key is made")
		case <-time.After(20 * time.Millisecond):
		}
	}
	pin := honest.Replica.NextPin()
	if err := liar.Replica.TakePin(pin); err != nil {
		t.Fatal(err)
	}
	honest.Await("the liar has the pin", func(replica.Status) bool {
		view, err := honest.Replica.View(t.Context(), replica.Certified)
		if err != nil {
			return false
		}
		record, _ := view.State.Replica("r4")
		return record.TLSPin == pin
	})
	if err := liar.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		nextEpoch(c, c.Leader())
	}
	close(release)
	rotated(t, c, "r1")
	if shown := honest.Replica.NextPin(); shown == pin {
		t.Error("the pin that is another's is still announced")
	}
}
